"""Five ways the demo part goes wrong. Each takes a drawn part and says where it changed it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from calibration.demo_part import (
    CENTRE_XY,
    PART_PX,
    PLATE_HALF_PX,
    Floats,
    Part,
    disc,
    draw_part,
    label_ink,
    paint,
    smooth_noise,
)

Damage = Callable[[np.random.Generator], tuple[Part, Floats]]


def scratch(rng: np.random.Generator) -> tuple[Part, Floats]:
    """A tool slipped: one to three thin strokes side by side, bright metal with a dark lip."""
    part = draw_part(rng)
    path = _curve(rng, length_px=rng.uniform(110, 300))
    groove = np.zeros((PART_PX, PART_PX), dtype=np.uint8)
    for _ in range(rng.integers(1, 4)):
        offset = rng.normal(0, 7, 2)
        cv2.polylines(groove, [np.round(path + offset).astype(np.int32)], False, 255, int(rng.integers(2, 5)), 16)
    cover = np.asarray(groove / 255, dtype=np.float32)
    lip: Floats = np.roll(cover, (3, 2), axis=(0, 1))
    part.colour_bgr = paint(part.colour_bgr, lip, (70, 70, 72), rng.uniform(0.5, 0.75))
    part.colour_bgr = paint(part.colour_bgr, cover, (246, 248, 250), rng.uniform(0.7, 0.95))
    return part, np.maximum(cover, lip)


def chip(rng: np.random.Generator) -> tuple[Part, Floats]:
    """Material broken away at the edge: the belt shows, the fracture is bright and rough."""
    part = draw_part(rng)
    centre = _point_on_edge(rng)
    bite = _blob(rng, centre, rng.uniform(24, 52), roughness=0.34)
    fracture = cv2.dilate(bite, np.ones((9, 9), np.uint8)) - bite
    facets = 215 + 30 * smooth_noise(rng, 90)[..., None]
    weight = fracture[..., None] * 0.85
    part.colour_bgr = np.asarray(part.colour_bgr * (1 - weight) + facets * weight, dtype=np.float32)
    changed = np.maximum(bite, fracture) * (part.cover > 0.5)
    part.cover = part.cover * (1 - bite)
    return part, changed


def stain(rng: np.random.Generator) -> tuple[Part, Floats]:
    """Dried oil: a brown film with a darker rim; the metal shows through."""
    part = draw_part(rng)
    film = _blob(rng, _point_on_plate(rng), rng.uniform(34, 68), roughness=0.22)
    soft = cv2.GaussianBlur(film, (0, 0), 3)
    rim = np.clip(soft - cv2.GaussianBlur(cv2.erode(film, np.ones((15, 15), np.uint8)), (0, 0), 4), 0, 1)
    density = soft * rng.uniform(0.3, 0.45) * (1 + 0.25 * smooth_noise(rng, 14)) + rim * 0.3
    absorbed = np.array([0.85, 0.55, 0.38]) * np.clip(density, 0, 1)[..., None]
    part.colour_bgr = np.asarray(part.colour_bgr * (1 - absorbed), dtype=np.float32)
    return part, film * (part.cover > 0.5)


def pit(rng: np.random.Generator) -> tuple[Part, Floats]:
    """Casting pores: two to five small dark holes close together, lit on their lower lip."""
    part = draw_part(rng)
    centre, cover = _point_on_plate(rng), np.zeros((PART_PX, PART_PX), dtype=np.float32)
    for _ in range(rng.integers(2, 6)):
        radius = rng.uniform(6, 13)
        pore = _blob(rng, centre + rng.normal(0, 24, 2), radius, roughness=0.12)
        lit = np.clip(np.roll(pore, (3, 2), axis=(0, 1)) - pore, 0, 1)
        part.colour_bgr = paint(part.colour_bgr, lit, (240, 240, 240), 0.75)
        part.colour_bgr = paint(part.colour_bgr, pore, (30, 30, 34), 0.93)
        cover = np.maximum(cover, np.maximum(pore, lit))
    return part, cover * (part.cover > 0.5)


def misprint(rng: np.random.Generator) -> tuple[Part, Floats]:
    """The print slipped: turned and displaced as a whole."""
    ink = label_ink()
    turn_deg = rng.choice([-1, 1]) * rng.uniform(7, 16)
    slip = np.array(cv2.getRotationMatrix2D(CENTRE_XY, float(turn_deg), 1.0), dtype=np.float64)
    slip[:, 2] += rng.choice([-1, 1], 2) * rng.uniform(8, 20, 2)
    slipped = np.asarray(cv2.warpAffine(ink, slip, (PART_PX, PART_PX)), dtype=np.float32)
    part = draw_part(rng, slipped)
    changed = cv2.dilate(np.abs(slipped - ink), np.ones((9, 9), np.uint8))  # print and blanks as one area
    return part, np.asarray(changed * (part.cover > 0.5), dtype=np.float32)


DAMAGES: dict[str, Damage] = {"scratch": scratch, "chip": chip, "stain": stain, "pit": pit, "misprint": misprint}


def _blob(rng: np.random.Generator, centre_xy: np.ndarray, radius_px: float, roughness: float) -> Floats:
    """(S, S) an irregular round patch; roughness: spread of its radius as a fraction."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves = sum(rng.normal(0, 1 / n) * np.cos(n * angles + rng.uniform(0, 2 * np.pi)) for n in range(2, 9))
    radii = radius_px * np.clip(1 + roughness * waves, 0.4, 1.8)
    outline = centre_xy + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    cover = np.zeros((PART_PX, PART_PX), dtype=np.uint8)
    cv2.fillPoly(cover, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(cover / 255, dtype=np.float32)


def _curve(rng: np.random.Generator, length_px: float) -> np.ndarray:
    """(24, 2) points of a slightly bent stroke that lies on the plate."""
    heading, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.03)
    steps = heading + bend * np.arange(24)
    path = np.cumsum(np.stack([np.cos(steps), np.sin(steps)], axis=1) * length_px / 24, axis=0)
    path += _point_on_plate(rng) - path.mean(axis=0)
    low, high = CENTRE_XY[0] - PLATE_HALF_PX + 16, CENTRE_XY[0] + PLATE_HALF_PX - 16
    return np.asarray(np.clip(path, low, high))


def _point_on_plate(rng: np.random.Generator) -> np.ndarray:
    """A place with metal under it: not in the bore, not at a screw hole."""
    rows, columns = _free_metal()
    chosen = rng.integers(len(rows))
    return np.array([columns[chosen], rows[chosen]], dtype=np.float64)


@cache
def _free_metal() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:PART_PX, :PART_PX]
    inside = np.maximum(np.abs(x - CENTRE_XY[0]), np.abs(y - CENTRE_XY[1])) < PLATE_HALF_PX - 60
    rows, columns = np.nonzero(inside & (disc(CENTRE_XY, 60) == 0))
    return rows, columns


def _point_on_edge(rng: np.random.Generator) -> np.ndarray:
    along, side = rng.uniform(-170, 170), rng.integers(4)
    edge = PLATE_HALF_PX - rng.uniform(0, 8)
    offset = [(along, -edge), (edge, along), (along, edge), (-edge, along)][side]
    return np.asarray(np.array(CENTRE_XY) + np.array(offset))
