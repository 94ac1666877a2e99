"""Generated pictures to calibrate quantisation and measure parity with, when the user gives none."""

from __future__ import annotations

import cv2
import numpy as np

from edge.pictures import FrameBgr

WAVELENGTHS_PX = (4, 8, 16, 32, 64)


def generated_textures(count: int, size_px: int, seed: int = 0) -> list[FrameBgr]:
    """`count` pictures (size_px, size_px, 3) uint8: noise of several scales, gradients, shapes, contrast."""
    rng = np.random.default_rng(seed)
    return [_texture(size_px, rng) for _ in range(count)]


def _texture(size_px: int, rng: np.random.Generator) -> FrameBgr:
    canvas = rng.uniform(40, 215, 3) + _gradient(size_px, rng)[..., None] * rng.uniform(-50, 50, 3)
    for wavelength in rng.choice(WAVELENGTHS_PX, size=2, replace=False):
        cells = max(2, size_px // int(wavelength))
        noise = rng.standard_normal((cells, cells)).astype(np.float32)
        smooth = cv2.resize(noise, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        canvas = canvas + smooth[..., None] * rng.uniform(-35, 35, 3)
    picture = np.clip(canvas, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 6)):
        centre = tuple(int(v) for v in rng.integers(0, size_px, 2))
        colour = tuple(float(v) for v in rng.integers(0, 256, 3))
        cv2.circle(picture, centre, int(rng.integers(3, size_px // 4)), colour, int(rng.choice([-1, 1, 2, 4])))
    return picture


def _gradient(size_px: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size_px)
    return np.asarray(np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
