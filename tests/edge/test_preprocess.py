"""Pixels -> network input: colour order, scale and size as the manifest says, whatever the pixels are."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edge.manifest import Embedding
from edge.preprocess import resize_square, to_network_input

BLUE, GREEN, RED = 10, 20, 30


def embedding(**changes: Any) -> Embedding:
    facts: dict[str, Any] = {
        "backbone": "hand-made",
        "weights_sha256": "",
        "input_size": 8,
        "colour_order": "rgb",
        "mean": (0, 0, 0),
        "scale": (1, 1, 1),
        "taps": (),
        "patch_pool": 1,
        "grid_hw": (1, 1),
    }
    return Embedding(**{**facts, **changes})


def plain(height_px: int = 8, width_px: int = 8) -> np.ndarray:
    """One colour all over."""
    return np.full((height_px, width_px, 3), (BLUE, GREEN, RED), np.uint8)


@pytest.mark.parametrize(("colour_order", "planes"), [("rgb", (RED, GREEN, BLUE)), ("bgr", (BLUE, GREEN, RED))])
@pytest.mark.parametrize("scale", [(1, 1, 1), (1, 2, 4)], ids=["one scale", "a scale each"])
def test_planes_are_in_the_colour_order_of_the_manifest(
    colour_order: str, planes: tuple[int, int, int], scale: tuple[int, int, int]
) -> None:
    images = to_network_input(plain(), embedding(colour_order=colour_order, scale=scale))

    assert images[0, :, 0, 0].tolist() == [p * s for p, s in zip(planes, scale, strict=True)]


@pytest.mark.parametrize("scale", [(0.5, 0.5, 0.5), (0.5, 0.25, 1)], ids=["one scale", "a scale each"])
def test_the_mean_is_taken_off_before_the_scale(scale: tuple[float, float, float]) -> None:
    images = to_network_input(plain(), embedding(mean=(RED - 4, GREEN - 4, BLUE - 4), scale=scale))

    assert images[0, :, 3, 3].tolist() == [4 * s for s in scale]


def test_every_pixel_is_scaled_as_opencv_scales_it() -> None:
    frame_bgr = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mean, scale = (123.675, 116.28, 103.53), 1 / 58.4
    images = to_network_input(frame_bgr, embedding(mean=mean, scale=(scale,) * 3))

    np.testing.assert_allclose(images, cv2.dnn.blobFromImage(frame_bgr, scale, mean=mean, swapRB=True), rtol=1e-6)


@pytest.mark.parametrize("frame_hw", [(8, 8), (200, 90), (9, 300), (8, 300), (3, 3)])
def test_any_size_becomes_the_networks_square_and_a_plain_picture_stays_plain(frame_hw: tuple[int, int]) -> None:
    images = to_network_input(plain(*frame_hw), embedding(input_size=16))

    assert images.shape == (1, 3, 16, 16)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    assert np.unique(images).tolist() == [BLUE, GREEN, RED]


def test_shrinking_averages_areas() -> None:
    checks = np.zeros((16, 16, 3), np.uint8)
    checks[::2, ::2] = 200  # a quarter of every 2 x 2 block

    assert np.unique(resize_square(checks, 8)).tolist() == [50]


def test_a_black_and_a_dim_frame_are_scaled_alike() -> None:
    black, dim = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)
    facts = embedding(mean=(127, 127, 127), scale=(1 / 128,) * 3)

    difference = to_network_input(dim, facts) - to_network_input(black, facts)

    np.testing.assert_allclose(difference, 1 / 128, rtol=1e-5)


def test_the_frame_itself_is_left_alone() -> None:
    frame_bgr = plain()

    to_network_input(frame_bgr, embedding(scale=(1, 2, 4), mean=(1, 2, 3)))

    assert (frame_bgr == plain()).all()
