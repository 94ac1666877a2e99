"""Products made of arithmetic, so that a relation head can be pre-trained where nobody has a picture yet.

One is a part in its place, the plate of the demo line; the others are surfaces that go on beyond the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from calibration.demo_line import KINDS, render_defect, render_good
from calibration.good_pictures import Track, no_track
from calibration.perlin import PATTERNS
from calibration.pseudo_regions import Defect
from edge.pictures import FrameBgr, write_picture

PLATE = "plate"
RENDERED_PRODUCTS = (PLATE, *PATTERNS)
PICTURES = 80
DAMAGES_PER_KIND = 30
DAMAGES = DAMAGES_PER_KIND * len(KINDS)
# What repeats exactly is drawn once and shifted; of what does not, every part shows another piece.
REPEATING = frozenset({"weave", "stripes"})


def write_rendered_products(folder: Path, seed: int, track: Track[Any] = no_track) -> list[Path]:
    """PICTURES good pictures of each of RENDERED_PRODUCTS, in folders of their names below `folder`."""
    count = PICTURES * len(RENDERED_PRODUCTS)
    for number in track(range(count), "rendered products", count):
        index, product = divmod(number, len(RENDERED_PRODUCTS))
        frame_bgr = render_product(RENDERED_PRODUCTS[product], index, seed)
        write_picture(folder / RENDERED_PRODUCTS[product] / f"{index:03}.png", frame_bgr)
    return [folder / name for name in RENDERED_PRODUCTS]


def render_product(name: str, index: int, seed: int) -> FrameBgr:
    """Good picture number `index` of one of RENDERED_PRODUCTS: (H, W, 3) uint8 BGR."""
    return render_good(index, seed) if name == PLATE else _render_surface(name, index, seed)


def render_damages(seed: int) -> Iterator[Defect]:
    """DAMAGES_PER_KIND plates with each kind of the demo line's defects, kind by kind."""
    for label, kind in enumerate(KINDS):
        for index in range(DAMAGES_PER_KIND):
            yield Defect(label, *render_defect(kind, index, seed))


def _render_surface(name: str, index: int, seed: int) -> FrameBgr:
    """A pattern in the product's two colours, under a lamp and on a sensor that are never quite the same."""
    product = np.random.default_rng((seed, RENDERED_PRODUCTS.index(name)))
    part = np.random.default_rng((seed, RENDERED_PRODUCTS.index(name), index))
    dark, light = np.sort(product.uniform(20, 235, (2, 1)), axis=0) + product.uniform(-40, 40, (2, 3))
    pattern = PATTERNS[name](product if name in REPEATING else part)  # (S, S) in 0..1
    if name in REPEATING:
        pattern = np.roll(pattern, part.integers(0, len(pattern), 2), (0, 1))
    fall_off = np.linspace(-1, 1, pattern.shape[1])[:, None] * part.normal(0, 6)  # (S, 1) grey levels along a row
    lit = (dark + pattern[..., None] * (light - dark) + fall_off) * part.normal(1, 0.03)
    noisy = lit + part.normal(0, 2.5, lit.shape)
    return np.asarray(np.clip(np.round(noisy), 0, 255), dtype=np.uint8)
