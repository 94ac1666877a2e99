"""Thumbnails fit, whatever the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.outputs.thumbnail import jpeg_thumbnail

NOISE_BGR = np.random.default_rng(3).integers(0, 255, (600, 800, 3), np.uint8)  # what JPEG takes worst


def decoded(jpeg: bytes | None) -> np.ndarray:
    assert jpeg
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_the_longest_side_is_as_asked_and_the_picture_is_the_frame() -> None:
    frame_bgr = np.zeros((600, 800, 3), np.uint8)
    frame_bgr[:, :400] = (0, 0, 200)
    small_bgr = decoded(jpeg_thumbnail(frame_bgr, 320, 100_000))
    assert small_bgr.shape == (240, 320, 3)
    assert np.abs(small_bgr[120, 40].astype(int) - (0, 0, 200)).max() < 8


def test_a_small_frame_is_not_enlarged() -> None:
    assert decoded(jpeg_thumbnail(NOISE_BGR[:40, :64], 320, 100_000)).shape == (40, 64, 3)


@pytest.mark.parametrize("max_bytes", [20_000, 5_000, 1_000])
def test_a_thumbnail_is_never_larger_than_it_may_be(max_bytes: int) -> None:
    jpeg = jpeg_thumbnail(NOISE_BGR, 2000, max_bytes)
    assert jpeg and len(jpeg) <= max_bytes


def test_what_cannot_fit_is_none() -> None:
    assert jpeg_thumbnail(NOISE_BGR, 320, 100) is None


def test_a_line_of_pixels_has_a_thumbnail() -> None:
    assert decoded(jpeg_thumbnail(np.zeros((1, 4000, 3), np.uint8), 320, 10_000)).shape == (1, 320, 3)
