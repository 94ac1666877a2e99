"""Pseudo-defect classes: painted onto good pictures, so that typing can be learned without a single real defect.

A class is one draw of a family's parameters and of the place it prefers; its instances vary around that.
Every second class of a family repeats the looks of the one before at another place, and zones come from a
short list, so that neither looks nor place alone tells all classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.perlin import generated_texture
from calibration.pseudo_marks import (
    Look,
    Paint,
    Spot,
    blur,
    colour_shift,
    crack,
    dent,
    displaced,
    hole,
    missing_part,
    perlin_texture,
    polygon_texture,
    scratch,
    speckle,
    stain,
)
from calibration.pseudo_places import Zone, draw_place, draw_zone, place_on_edge
from edge.pictures import FrameBgr

PAINTERS: dict[str, Paint] = {
    "perlin_texture": perlin_texture,
    "scratch": scratch,
    "stain": stain,
    "missing_part": missing_part,
    "hole": hole,
    "crack": crack,
    "speckle": speckle,
    "polygon_texture": polygon_texture,
    "dent": dent,
    "colour_shift": colour_shift,
    "blur": blur,
    "displaced": displaced,
}
FAMILIES: tuple[str, ...] = tuple(PAINTERS)

VISIBLE_LEVELS = 3  # a pixel that changed by less is put back: nobody could call it changed
MIN_CHANGED_SHARE = 2e-4  # of the picture; a mark that shows less (blur on a flat spot) is tried elsewhere
TRIES = 4
WINDOW_REACH = 0.75  # half a window's side, in lengths of the mark


@dataclass(frozen=True)
class PseudoClass:
    """One draw of a family's parameters; the texture is no part of equality."""

    name: str
    family: str
    look: Look
    zone: Zone

    def apply(
        self, frame_bgr: FrameBgr, rng: np.random.Generator, part_mask: np.ndarray | None = None
    ) -> tuple[FrameBgr, np.ndarray]:
        """(H, W, 3) uint8 and optionally (H, W) bool -> the picture with this defect, and the pixels it changed.

        Only pixels of the part change. The mask can be empty: a blur on a surface without texture is nothing.
        """
        part = np.ones(frame_bgr.shape[:2], dtype=bool) if part_mask is None else part_mask
        best, most = (frame_bgr.copy(), np.zeros_like(part)), -1
        for _ in range(TRIES):
            marked, changed = self._paint_marks(frame_bgr, rng, part)
            if int(changed.sum()) > most:
                best, most = (marked, changed), int(changed.sum())
            if most >= MIN_CHANGED_SHARE * part.size:
                break
        return best

    def _paint_marks(
        self, frame_bgr: FrameBgr, rng: np.random.Generator, part: np.ndarray
    ) -> tuple[FrameBgr, np.ndarray]:
        beyond_bgr = _colour_beyond(frame_bgr, part, self.look)
        marked = frame_bgr.astype(np.float32)
        for _ in range(max(1, self.look.count + int(rng.integers(-1, 2)) * (self.look.count > 1))):
            look = _instance(self.look, rng)
            size_px = max(4.0, look.size * min(part.shape))
            place_xy, angle_rad = draw_place(self.zone, part, rng), _angle(look, rng)
            if self.family == "missing_part":
                place_xy, angle_rad = place_on_edge(part, place_xy)
            marked = _paint_one(marked, place_xy, size_px, angle_rad, beyond_bgr, look, PAINTERS[self.family], rng)
        return _keep_visible(frame_bgr, marked, part)


def draw_pseudo_classes(count: int, seed: int, textures: Sequence[FrameBgr] | None = None) -> list[PseudoClass]:
    """`count` classes, families taken in turn; textures: (h, w, 3) uint8 to cut from, generated when None or empty."""
    rng = np.random.default_rng(seed)
    classes: list[PseudoClass] = []
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        turn = number // len(FAMILIES)
        look = classes[number - len(FAMILIES)].look if turn % 2 else _draw_look(family, rng, textures)
        classes.append(PseudoClass(f"{family}-{number:03d}", family, look, draw_zone(rng)))
    return classes


def _draw_look(family: str, rng: np.random.Generator, textures: Sequence[FrameBgr] | None) -> Look:
    grey = rng.random() < 0.5
    tint = (1.0, 1.0, 1.0) if grey else tuple(float(v) for v in rng.uniform(0.1, 1, 3))
    return Look(
        size=_size(family, rng),
        elongation=float(np.exp(rng.uniform(0, 1.4))),
        angle_rad=None if rng.random() < 0.5 else float(rng.uniform(0, np.pi)),
        contrast=float(rng.choice([-1, 1]) * rng.uniform(35, 130)),
        tint=tint,  # type: ignore[arg-type]
        softness=float(rng.random()),
        roughness=float(rng.random()),
        amount=float(rng.random()),
        count=1 if rng.random() < 0.75 else int(rng.integers(2, 5)),
        texture=_draw_texture(rng, textures) if family in ("perlin_texture", "polygon_texture") else None,
    )


def _size(family: str, rng: np.random.Generator) -> float:
    """Longest side over the picture's shorter side; lines are longer, they would vanish otherwise."""
    low, high = (0.15, 0.7) if family in ("scratch", "crack") else (0.06, 0.4)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_texture(rng: np.random.Generator, textures: Sequence[FrameBgr] | None) -> FrameBgr:
    return textures[int(rng.integers(len(textures)))] if textures else generated_texture(rng)


def _instance(look: Look, rng: np.random.Generator) -> Look:
    """The same class once more: a little larger, stronger or rougher."""
    return replace(
        look,
        size=look.size * float(np.exp(rng.uniform(-0.3, 0.3))),
        elongation=max(1.0, look.elongation * float(np.exp(rng.uniform(-0.2, 0.2)))),
        contrast=look.contrast * float(rng.uniform(0.75, 1.25)),
        roughness=float(np.clip(look.roughness + rng.normal(0, 0.1), 0, 1)),
        amount=float(np.clip(look.amount + rng.normal(0, 0.08), 0, 1)),
    )


def _angle(look: Look, rng: np.random.Generator) -> float:
    free = rng.uniform(0, 2 * np.pi)
    return float(free if look.angle_rad is None else look.angle_rad + rng.normal(0, 0.15))


def _paint_one(
    marked: np.ndarray,
    place_xy: tuple[float, float],
    size_px: float,
    angle_rad: float,
    beyond_bgr: np.ndarray,
    look: Look,
    paint: Paint,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint into the window around the place only: a mark costs what its size costs, not what the picture does."""
    reach = int(np.ceil(WINDOW_REACH * size_px)) + 2
    x, y = place_xy
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    window = np.s_[top : int(y) + reach + 1, left : int(x) + reach + 1]
    spot = Spot((x - left, y - top), size_px, angle_rad, beyond_bgr)
    result = marked.copy()
    result[window] = np.clip(paint(marked[window], spot, look, rng), 0, 255)
    return result


def _colour_beyond(frame_bgr: FrameBgr, part: np.ndarray, look: Look) -> np.ndarray:
    """(3,) median colour off the part; where the part fills the picture, near black or near white by contrast."""
    if part.all():
        return np.full(3, 15.0 if look.contrast < 0 else 235.0, dtype=np.float32)
    return np.asarray(np.median(frame_bgr[~part][::7], axis=0), dtype=np.float32)


def _keep_visible(frame_bgr: FrameBgr, marked: np.ndarray, part: np.ndarray) -> tuple[FrameBgr, np.ndarray]:
    if _is_grey(frame_bgr):
        marked = np.repeat(marked.mean(axis=2, keepdims=True), 3, axis=2)
    rounded = np.round(marked).astype(np.uint8)
    difference = np.abs(rounded.astype(np.int16) - frame_bgr).max(axis=2)
    changed = part & (difference >= VISIBLE_LEVELS)
    return np.where(changed[..., None], rounded, frame_bgr), changed


def _is_grey(frame_bgr: FrameBgr) -> bool:
    """A grey camera sees no colour, whatever the defect."""
    sample = frame_bgr[::4, ::4].astype(np.int16)
    return bool((sample.max(axis=2) - sample.min(axis=2)).max() <= 2)
