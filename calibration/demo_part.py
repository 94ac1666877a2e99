"""The part the demo line makes: a brushed cover plate with a bored hub, four screw holes and a printed dial.

Drawn twice as large as it is photographed, so that every edge comes out smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PART_PX = 640
PLATE_HALF_PX = 248
CORNER_RADIUS_PX = 58
HOLE_CENTRES_XY = ((130, 130), (510, 130), (130, 510), (510, 510))
DIAL_RADIUS_PX = 168
HUB_RADIUS_PX = 92
CENTRE_XY = (PART_PX // 2, PART_PX // 2)
SHIFT_BITS = 4  # cv2 draws at 1/16 px


@dataclass
class Part:
    """A part before it is photographed: colour_bgr (S, S, 3) 0..255, cover (S, S) 0..1 (1: material)."""

    colour_bgr: Floats
    cover: Floats


def draw_part(rng: np.random.Generator, label: Floats | None = None) -> Part:
    """One good part, with the brushing and the tint that `rng` gives it; `label`: print to use instead of ours."""
    outline = plate_outline()
    tint_bgr = np.array([196, 190, 182]) + rng.normal(0, 1.2, 3)
    colour = tint_bgr * (1 + 0.055 * _brushed(rng))[..., None]
    colour = _bevel(colour, outline)
    colour = _turned_hub(colour, rng)
    for centre in HOLE_CENTRES_XY:
        colour = _ring(colour, centre, 30, 1.10)
        colour = _ring(colour, centre, 24, 0.72)
    ink = label_ink() if label is None else label
    colour = paint(colour, ink, (112, 62, 28))
    for centre in HOLE_CENTRES_XY:
        outline = outline * (1 - disc(centre, 16))
    outline = outline * (1 - disc(CENTRE_XY, 34))
    return Part(colour.astype(np.float32), outline)


@cache
def plate_outline() -> Floats:
    """(S, S) 1 inside the plate's rounded square, without its holes."""
    inner = PLATE_HALF_PX - CORNER_RADIUS_PX
    axis = np.abs(np.arange(PART_PX, dtype=np.float32) - CENTRE_XY[0] + 0.5) - inner
    dx, dy = np.maximum(axis, 0)[None, :], np.maximum(axis, 0)[:, None]
    return np.asarray(np.clip(CORNER_RADIUS_PX - np.hypot(dx, dy) + 0.5, 0, 1), dtype=np.float32)


@cache
def label_ink() -> Floats:
    """(S, S) cover of the print: a dial with ticks, a pointer, and the maker's line below the hub."""
    ink = np.zeros((PART_PX, PART_PX), dtype=np.uint8)
    cv2.ellipse(ink, CENTRE_XY, (DIAL_RADIUS_PX, DIAL_RADIUS_PX), 0, 140, 400, 255, 5, cv2.LINE_AA)
    for number, degrees in enumerate(np.linspace(140, 400, 27)):
        length = 26 if number % 5 == 0 or number == 26 else 14
        _radial_line(ink, float(degrees), DIAL_RADIUS_PX - length, DIAL_RADIUS_PX, 5 if length > 20 else 3)
    tip = np.array([[320, 196], [306, 222], [334, 222]], dtype=np.int32)
    cv2.fillConvexPoly(ink, tip, 255, cv2.LINE_AA)
    for text, size, y in (("OK-24", 1.5, 468), ("24 V  IP67", 0.8, 506)):
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, size, 3)
        cv2.putText(ink, text, (CENTRE_XY[0] - width // 2, y), cv2.FONT_HERSHEY_DUPLEX, size, 255, 3, cv2.LINE_AA)
    return np.asarray(ink / 255, dtype=np.float32)


def paint(colour_bgr: Floats, cover: Floats, ink_bgr: tuple[float, float, float], opacity: float = 0.88) -> Floats:
    """Lay a colour over (S, S, 3) where cover (S, S) is 1."""
    weight = (cover * opacity)[..., None]
    return np.asarray(colour_bgr * (1 - weight) + np.array(ink_bgr) * weight, dtype=np.float32)


@cache
def disc(centre_xy: tuple[float, float], radius_px: float) -> Floats:
    """(S, S) 1 inside the circle, smooth at its edge."""
    y, x = np.ogrid[:PART_PX, :PART_PX]
    distance = np.hypot(x - centre_xy[0], y - centre_xy[1])
    return np.asarray(np.clip(radius_px - distance + 0.5, 0, 1), dtype=np.float32)


def smooth_noise(rng: np.random.Generator, cells: int) -> Floats:
    """(S, S) noise of unit spread whose grains are S / cells pixels wide."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (PART_PX, PART_PX), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _brushed(rng: np.random.Generator) -> Floats:
    streaks = cv2.blur(rng.standard_normal((PART_PX, PART_PX)).astype(np.float32), (151, 1))
    streaks = cv2.GaussianBlur(streaks, (0, 0), 0.9)
    return np.asarray(streaks / streaks.std(), dtype=np.float32)


def _bevel(colour: Floats, outline: Floats) -> Floats:
    depth = cv2.GaussianBlur(outline, (0, 0), 5)
    across = cv2.Sobel(depth, cv2.CV_32F, 1, 0) + cv2.Sobel(depth, cv2.CV_32F, 0, 1)
    return np.asarray(colour * (1 + 0.55 * np.clip(across, -0.5, 0.5))[..., None], dtype=np.float32)


def _turned_hub(colour: Floats, rng: np.random.Generator) -> Floats:
    radius, angle = _polar()
    grooves = 0.035 * np.sin(radius * 0.9 + rng.uniform(0, 2 * np.pi))
    gleam = 0.13 * np.cos(2 * (angle - rng.normal(0.8, 0.12)))
    turned = np.array([176, 172, 168]) * (1 + grooves + gleam)[..., None]
    hub = disc(CENTRE_XY, HUB_RADIUS_PX)[..., None]
    colour = colour * (1 - hub) + turned * hub
    colour = _ring(colour, CENTRE_XY, HUB_RADIUS_PX + 3, 0.66, 3)
    return _ring(colour, CENTRE_XY, 42, 1.12, 7)


@cache
def _polar() -> tuple[Floats, Floats]:
    y, x = np.mgrid[:PART_PX, :PART_PX].astype(np.float32)
    dx, dy = x - CENTRE_XY[0], y - CENTRE_XY[1]
    return np.hypot(dx, dy), np.arctan2(dy, dx)


def _ring(colour: Floats, centre: tuple[int, int], radius_px: float, gain: float, width_px: float = 6) -> Floats:
    band = disc(centre, radius_px) - disc(centre, radius_px - width_px)
    return np.asarray(colour * (1 + (gain - 1) * band)[..., None], dtype=np.float32)


def _radial_line(ink: npt.NDArray[np.uint8], degrees: float, inner_px: float, outer_px: float, width_px: int) -> None:
    direction = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    ends = [np.round((np.array(CENTRE_XY) + r * direction) * 2**SHIFT_BITS).astype(int) for r in (inner_px, outer_px)]
    start, end = ((int(p[0]), int(p[1])) for p in ends)
    cv2.line(ink, start, end, 255, width_px, cv2.LINE_AA, SHIFT_BITS)
