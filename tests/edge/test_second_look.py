"""The second look: where its window lies, what it weighs, and that a real graph reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.backend import Arrays, Backend, load_backend
from edge.manifest import Embedding, PackManifest, Tap, read_manifest
from edge.second_look import PLAIN, SUPPORT_LOOKS, Look, SecondLook, window_weights, window_xyxy


def test_a_large_region_gets_a_square_a_quarter_larger_than_its_longer_side() -> None:
    assert window_xyxy((100, 100, 180, 140), (400, 400)) == (90, 70, 190, 170)


def test_a_speck_still_gets_a_quarter_of_the_picture_around_it() -> None:
    assert window_xyxy((200, 200, 202, 202), (400, 600)) == (151, 151, 251, 251)


def test_a_wider_look_sees_that_much_more_as_far_as_the_picture_goes() -> None:
    assert window_xyxy((200, 200, 202, 202), (400, 600), zoom_out=2) == (101, 101, 301, 301)
    assert window_xyxy((100, 100, 180, 140), (160, 400), zoom_out=2) == (60, 0, 220, 160)


def test_a_window_at_the_corner_is_moved_inside() -> None:
    assert window_xyxy((396, 0, 400, 4), (400, 400)) == (300, 0, 400, 100)


def test_a_region_longer_than_the_picture_is_high_gets_all_its_height() -> None:
    assert window_xyxy((0, 40, 300, 60), (100, 300)) == (100, 0, 200, 100)


@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.tuples(st.integers(0, 49), st.integers(0, 49)),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_a_window_is_a_square_of_the_picture(hw: tuple[int, int], xy: tuple[int, int], size: tuple[int, int]) -> None:
    (H, W), (x, y), (w, h) = hw, xy, size
    x, y = min(x, W - 1), min(y, H - 1)
    x0, y0, x1, y1 = window_xyxy((x, y, min(x + w, W), min(y + h, H)), (H, W))

    assert 0 <= x0 < x1 <= W
    assert 0 <= y0 < y1 <= H
    assert x1 - x0 == y1 - y0


def test_weights_are_those_of_the_part_of_the_picture_the_window_shows() -> None:
    weights = np.zeros((4, 4), np.float32)
    weights[0, 0] = 1

    seen = window_weights(weights, (0, 0, 100, 100), (100, 100), (4, 4))

    assert seen.argmax() == 0
    assert seen.sum() == pytest.approx(1)
    upper_left = window_weights(weights, (0, 0, 50, 50), (100, 100), (2, 2))
    assert upper_left[0, 0] > upper_left[1, 1]


def test_even_weights_stay_even() -> None:
    seen = window_weights(np.full((8, 8), 1 / 64, np.float32), (10, 20, 30, 40), (64, 64), (4, 4))

    np.testing.assert_allclose(seen, 1 / 16, rtol=1e-5)


def test_a_window_without_weight_counts_every_place_alike() -> None:
    seen = window_weights(np.zeros((8, 8), np.float32), (0, 0, 10, 10), (64, 64), (2, 2))

    assert seen.tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_a_real_graph_tells_two_windows_apart_and_reads_the_same_one_alike(pack_dir: Path) -> None:
    facts = read_manifest(pack_dir, PackManifest).second_look
    look = SecondLook(load_backend(pack_dir, facts.graphs, "onnxruntime", "int8"), facts.embedding)
    rng = np.random.default_rng(0)
    frame = np.full((200, 300, 3), 90, np.uint8)
    frame[:100, :100] = rng.integers(0, 255, (100, 100, 3))
    weights = np.full((32, 32), 1 / 1024, np.float32)

    noise = look.describe(frame, (20, 20, 60, 60), weights)
    plain = look.describe(frame, (220, 120, 260, 160), weights)

    assert noise.shape == (facts.embedding.dim,)
    assert np.array_equal(noise, look.describe(frame, (20, 20, 60, 60), weights))
    assert np.linalg.norm(noise - plain) > 0.1 * np.linalg.norm(noise)


class Pixels(Backend):
    """A graph that hands on what it sees: the red of each of the four quarters of its input, brightness and place."""

    name = "onnxruntime"
    version = "by hand"

    def run(self, inputs: Arrays) -> npt.NDArray[np.float32]:
        red = inputs["images"][0, 0]  # (S, S)
        half = len(red) // 2
        quarters = [red[:half, :half], red[:half, half:], red[half:, :half], red[half:, half:]]
        return np.stack([[quarter.mean(), place] for place, quarter in enumerate(quarters)])[np.newaxis]


def test_a_half_turn_turns_pixels_and_weights_alike() -> None:
    embedding = Embedding(
        backbone="hand-made",
        weights_sha256="",
        input_size=32,
        colour_order="rgb",
        mean=(0, 0, 0),
        scale=(1, 1, 1),
        taps=(Tap(name="s32", stride=32, channels=2),),
        patch_pool=1,
        grid_hw=(2, 2),
    )
    look = SecondLook(Pixels(), embedding)
    frame = np.full((64, 64, 3), 10, np.uint8)
    frame[:32, :32] = 250
    weights = np.zeros((2, 2), np.float32)
    weights[0, 0] = 1  # all on the bright quarter

    upright = look.describe(frame, (0, 0, 64, 64), weights)
    turned = look.describe(frame, (0, 0, 64, 64), weights, Look(half_turn=True))

    assert turned[0] == pytest.approx(upright[0], rel=1e-5)  # the same pixels count
    assert turned[1] == pytest.approx(3 - upright[1], rel=1e-5)  # seen at the opposite place


def test_the_first_look_at_a_support_is_the_one_a_query_gets() -> None:
    assert SUPPORT_LOOKS[0] == PLAIN
    assert len(set(SUPPORT_LOOKS)) == len(SUPPORT_LOOKS)
