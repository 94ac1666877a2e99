"""Forty-eight generated textures, each one pseudo-class of the paper's method.

The paper takes the 47 classes of the Describable Textures Dataset; these stand in for them: sixteen families at
three scales, each with its own direction and pair of colours.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from calibration.perlin import perlin_noise
from edge.pictures import FrameBgr

PERIODS_PX = (8, 14, 24, 40)  # limits of the three scales
MIN_CONTRAST = 80  # distance of the two colours, grey levels
OCTAVES = (4, 8, 16, 32)

# coordinates along and across in periods, (S, S) each -> (S, S), any range or bool
Pattern = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def paper_textures(size_px: int, seed: int) -> list[FrameBgr]:
    """One (size_px, size_px, 3) uint8 texture for each family and scale, in a fixed order."""
    rng = np.random.default_rng(seed)
    return [_texture(pattern, size_px, limits_px, rng) for limits_px in pairwise(PERIODS_PX) for pattern in FAMILIES]


def _texture(pattern: Pattern, size_px: int, limits_px: tuple[int, int], rng: np.random.Generator) -> FrameBgr:
    angle, period_px = rng.uniform(0, np.pi), rng.uniform(*limits_px)
    y, x = (np.mgrid[:size_px, :size_px] - size_px / 2) / period_px
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shade = _to_unit_range(pattern(u, v, rng).astype(np.float32))[..., np.newaxis]  # (S, S, 1)
    one, other = _two_colours(rng)
    return np.asarray(np.round(one + shade * (other - one)), dtype=np.uint8)


def _two_colours(rng: np.random.Generator) -> np.ndarray:
    """(2, 3) BGR, at least MIN_CONTRAST apart."""
    while True:
        colours = rng.uniform(0, 255, (2, 3))
        if np.linalg.norm(colours[0] - colours[1]) >= MIN_CONTRAST:
            return np.asarray(colours)


def _to_unit_range(pattern: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pattern, [1, 99])
    if high == low:  # thin marks on an even ground: the percentiles see only the ground
        low, high = pattern.min(), pattern.max()
    return np.asarray(np.clip((pattern - low) / max(high - low, 1e-6), 0, 1))


def _stripes(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * u))


def _zigzag(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * (u + 2 * np.abs(v / 2 % 1 - 0.5))))


def _checks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray((np.floor(u) + np.floor(v)) % 2)


def _dots(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.2, 0.4))


def _mesh(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.minimum(u % 1, v % 1) < rng.uniform(0.12, 0.25))


def _bricks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    along = u / 2 + np.floor(v) % 2 / 2
    return np.asarray((v % 1 < 0.15) | (along % 1 < 0.075))


def _weave(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    return np.where(over, np.sin(np.pi * (u % 1)), 0.5 * np.sin(np.pi * (v % 1)))


def _rings(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * np.hypot(u - rng.uniform(-2, 2), v - rng.uniform(-2, 2))))


def _spiral(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * np.hypot(u, v) + rng.integers(2, 6) * np.arctan2(v, u)))


def _scales(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.hypot((u + np.floor(v) % 2 / 2) % 1 - 0.5, v % 1))


def _cells(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, cell = _voronoi(u, rng)
    return np.asarray(rng.random(cell.max() + 1)[cell])


def _cracks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, cell = _voronoi(u, rng)
    return np.asarray(cv2.morphologyEx(cell.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0)


def _bubbles(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    distance, _ = _voronoi(u, rng)
    return distance


def _marble(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * (u / 2 + _clouds(u, v, rng))))


def _clouds(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sum([perlin_noise(u.shape, (cells, cells), rng) * 4 / cells for cells in OCTAVES], axis=0))


def _fibres(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(u.shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), sigmaX=_period_px(u) / 2, sigmaY=_period_px(u) / 16))


FAMILIES: tuple[Pattern, ...] = (
    _stripes,
    _zigzag,
    _checks,
    _dots,
    _mesh,
    _bricks,
    _weave,
    _rings,
    _spiral,
    _scales,
    _cells,
    _cracks,
    _bubbles,
    _marble,
    _clouds,
    _fibres,
)


def _period_px(u: np.ndarray) -> float:
    return float(1 / np.hypot(u[0, 1] - u[0, 0], u[1, 0] - u[0, 0]))


def _voronoi(u: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distance in pixels to the nearest of random points, about one a period squared, and that point's number."""
    points = np.ones(u.shape, dtype=np.uint8)
    count = max(2, round(u.size / _period_px(u) ** 2))
    points.flat[rng.choice(u.size, count, replace=False)] = 0
    distance, nearest = cv2.distanceTransformWithLabels(
        points, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    return np.asarray(distance), np.asarray(nearest)
