"""Greedy k-centre by hand; the streaming coreset's promises on any stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.coreset import POOL_FACTOR, StreamingCoreset, greedy_k_center
from edge.memory_bank import SearchColumns

ROUNDING = 1e-2  # of float32 distances taken as |q|^2 - 2 q.k + |k|^2, over values up to some tens


def line(*positions: float) -> np.ndarray:
    """Points on the first axis of the plane."""
    return np.array([[x, 0] for x in positions], dtype=np.float32)


def test_each_choice_is_the_point_farthest_from_those_chosen() -> None:
    # From 0, 10 is farthest; then 4 is 4 away from 0, 7 is 3 away from 10, 1 is 1 away.
    chosen, radius = greedy_k_center(line(0, 1, 4, 7, 10), rows=3)
    assert chosen.tolist() == [0, 4, 2]
    assert radius == pytest.approx(3.0)  # 7, to both 4 and 10


def test_the_first_choice_is_the_callers() -> None:
    chosen, _ = greedy_k_center(line(0, 1, 4, 7, 10), rows=2, first=4)
    assert chosen.tolist() == [4, 0]


def test_one_row_leaves_the_farthest_distance_as_radius() -> None:
    keys = np.array([[0, 0], [3, 4], [1, 0]], dtype=np.float32)
    chosen, radius = greedy_k_center(keys, rows=1)
    assert chosen.tolist() == [0]
    assert radius == pytest.approx(5.0)


def test_no_more_rows_than_points_and_none_twice() -> None:
    chosen, radius = greedy_k_center(line(5, 6, 8), rows=10)
    assert sorted(chosen.tolist()) == [0, 1, 2]
    assert radius == 0.0


def test_a_thin_far_point_is_kept_where_random_choice_would_lose_it() -> None:
    crowd = np.random.default_rng(0).normal(0, 0.1, (500, 2)).astype(np.float32)
    keys = np.concatenate([crowd, [[9, 9]]]).astype(np.float32)
    chosen, _ = greedy_k_center(keys, rows=2)
    assert 500 in chosen


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[np.ndarray], int]:
    """A few blocks of patches in clusters, and how many rows to keep."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, spread = draw(st.integers(1, 6)), draw(st.sampled_from([0.0, 0.1, 1.0, 20.0]))
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=20))
    blocks = [(rng.normal(0, spread, (n, dim)) + rng.integers(-3, 4, dim)).astype(np.float32) for n in sizes]
    return blocks, draw(st.integers(1, 12))


def fill(blocks: list[np.ndarray], rows: int, columns: np.ndarray | None = None) -> StreamingCoreset:
    """A coreset of `blocks`; the origin of a patch is (block, 0, row in the block)."""
    coreset = StreamingCoreset(rows, SearchColumns.alike(np.arange(blocks[0].shape[1]) if columns is None else columns))
    for number, block in enumerate(blocks):
        origins = [(number, 0, row) for row in range(len(block))]
        coreset.add(block, np.array(origins, dtype=np.int64))
    return coreset


@settings(max_examples=80, deadline=None)
@given(streams())
def test_every_patch_ever_seen_lies_within_the_stated_radius_of_a_row(stream: tuple[list[np.ndarray], int]) -> None:
    blocks, rows = stream
    vectors, _, radius = fill(blocks, rows).result()
    patches = np.concatenate(blocks)
    nearest = np.linalg.norm(patches[:, np.newaxis] - vectors[np.newaxis], axis=2).min(axis=1)
    assert nearest.max() <= radius + ROUNDING


@settings(max_examples=80, deadline=None)
@given(streams())
def test_never_more_rows_than_asked_for_and_a_pool_with_a_bound(stream: tuple[list[np.ndarray], int]) -> None:
    blocks, rows = stream
    coreset = fill(blocks, rows)
    vectors, _, _ = coreset.result()
    assert 1 <= len(vectors) <= rows
    assert coreset.peak_pool_rows <= POOL_FACTOR * rows + max(len(block) for block in blocks)


@settings(max_examples=40, deadline=None)
@given(streams())
def test_a_row_is_a_patch_and_its_origin_says_which(stream: tuple[list[np.ndarray], int]) -> None:
    blocks, rows = stream
    vectors, origins, _ = fill(blocks, rows).result()
    for vector, (block, _, row) in zip(vectors, origins, strict=True):
        np.testing.assert_array_equal(vector, blocks[block][row])


def test_a_hundred_times_the_blocks_need_no_larger_pool() -> None:
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(50, 4)).astype(np.float32) for _ in range(300)]
    short, long = fill(blocks[:3], rows=10), fill(blocks, rows=10)
    assert long.peak_pool_rows <= POOL_FACTOR * 10 + 50
    assert short.peak_pool_rows > POOL_FACTOR * 10  # so even the short stream had filled its pool


def test_the_same_stream_gives_the_same_rows() -> None:
    rng = np.random.default_rng(2)
    blocks = [rng.normal(size=(80, 5)).astype(np.float32) for _ in range(12)]
    (a, a_origins, a_radius), (b, b_origins, b_radius) = fill(blocks, 20).result(), fill(blocks, 20).result()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a_origins, b_origins)
    assert a_radius == b_radius


def test_only_the_search_columns_decide_but_the_whole_vector_is_kept() -> None:
    block = np.array([[0, 100], [1, -100], [10, 0]], dtype=np.float32)
    vectors, origins, radius = fill([block], rows=2, columns=np.array([0])).result()
    assert origins[:, 2].tolist() == [0, 2]
    np.testing.assert_array_equal(vectors, block[[0, 2]])
    assert radius == pytest.approx(1.0)
