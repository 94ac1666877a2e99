"""Perlin noise, and textures made of it, for pseudo-defects when no texture pictures are given."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edge.pictures import FrameBgr

TEXTURE_PX = 256


def perlin_noise(shape_hw: tuple[int, int], cells_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in about -1..1, zero at the corners of `cells_hw` cells (Perlin 1985, quintic fade)."""
    angles = rng.uniform(0, 2 * np.pi, (cells_hw[0] + 1, cells_hw[1] + 1))
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (cells + 1, cells + 1, 2) as x, y
    y = np.linspace(0, cells_hw[0], shape_hw[0], endpoint=False)
    x = np.linspace(0, cells_hw[1], shape_hw[1], endpoint=False)
    row, column = y.astype(int)[:, None], x.astype(int)[None, :]
    dy, dx = y[:, None] - row, x[None, :] - column

    def corner(down: int, right: int) -> np.ndarray:
        gradient = gradients[row + down, column + right]
        return np.asarray(gradient[..., 0] * (dx - right) + gradient[..., 1] * (dy - down))

    fade_y, fade_x = _fade(dy), _fade(dx)
    top = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    bottom = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    return np.asarray(np.sqrt(2) * (top * (1 - fade_y) + bottom * fade_y), dtype=np.float32)


def generated_texture(rng: np.random.Generator) -> FrameBgr:
    """(TEXTURE_PX, TEXTURE_PX, 3) uint8: grain, weave, stripes or clouds in two colours."""
    dark, light = np.sort(rng.uniform(0, 255, (2, 1))) + rng.uniform(-40, 40, (2, 3))
    pattern = list(PATTERNS.values())[rng.integers(len(PATTERNS))](rng)  # (S, S) in 0..1
    return np.asarray(np.clip(dark + pattern[..., None] * (light - dark), 0, 255), dtype=np.uint8)


def _grain(rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(0.5, 3)
    noise = cv2.GaussianBlur(rng.standard_normal((TEXTURE_PX, TEXTURE_PX)).astype(np.float32), (0, 0), sigma)
    return _normalised(noise)


def _weave(rng: np.random.Generator) -> np.ndarray:
    period_px = rng.uniform(5, 24)
    y, x = np.mgrid[:TEXTURE_PX, :TEXTURE_PX] * (2 * np.pi / period_px)
    return _normalised(np.maximum(np.sin(x) * np.cos(y / 2), np.cos(x / 2) * np.sin(y)) + 0.3 * _grain(rng))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    angle, period_px = rng.uniform(0, np.pi), rng.uniform(4, 30)
    y, x = np.mgrid[:TEXTURE_PX, :TEXTURE_PX]
    bend = 6 * perlin_noise((TEXTURE_PX, TEXTURE_PX), (4, 4), rng)
    return _normalised(np.sin((x * np.cos(angle) + y * np.sin(angle) + bend) * 2 * np.pi / period_px))


def _clouds(rng: np.random.Generator) -> np.ndarray:
    octaves = [2**power for power in range(2, 7)]
    return _normalised(
        np.sum([perlin_noise((TEXTURE_PX, TEXTURE_PX), (cells, cells), rng) / cells for cells in octaves], axis=0)
    )


def _normalised(pattern: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pattern, [2, 98])
    return np.asarray(np.clip((pattern - low) / max(high - low, 1e-6), 0, 1))


# (S, S) in 0..1 each; a coarseness of its own comes with every call.
PATTERNS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "grain": _grain,
    "weave": _weave,
    "stripes": _stripes,
    "clouds": _clouds,
}


def _fade(t: np.ndarray) -> np.ndarray:
    return np.asarray(t * t * t * (t * (t * 6 - 15) + 10))
