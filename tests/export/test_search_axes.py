"""Axes of the search in fewer columns: strongest directions, turned; as few as find near enough rows."""

from __future__ import annotations

import numpy as np
import pytest

from edge.int8_product import KEY_LEVELS
from edge.projected_search import ProjectedSearch, axis_step
from export.search_axes import DIMS_LADDER, fewest_dims, search_axes

DIM = 150


def keys(strong: int, seed: int = 0) -> np.ndarray:
    """(400, DIM) that vary ten times more in the first `strong` columns."""
    wide = np.where(np.arange(DIM) < strong, 10.0, 1.0)
    return (np.random.default_rng(seed).normal(size=(400, DIM)) * wide + 5).astype(np.float32)


def test_axes_are_whole_numbers_of_one_length_and_span_the_strongest_directions() -> None:
    axes = search_axes(keys(strong=8), 8)
    assert axes.dtype == np.int8
    assert np.abs(axes).max() == KEY_LEVELS
    unit = axes * axis_step(axes)
    np.testing.assert_allclose(unit.T @ unit, np.eye(8), atol=0.06)
    assert np.square(unit[:8]).sum() > 0.95 * np.square(unit).sum()


def test_every_axis_sees_as_much_as_the_others() -> None:
    """Without the turn the strongest direction would set the scale, and the others would be rounded coarsely."""
    uneven = (np.random.default_rng(0).normal(size=(2000, DIM)) * np.geomspace(30, 0.1, DIM)).astype(np.float32)
    spread = (uneven @ search_axes(uneven, 64).astype(np.float32)).std(axis=0)
    assert spread.max() < 4 * spread.min()  # 30 to .7 without it


def test_the_same_keys_and_seed_give_the_same_axes() -> None:
    first, again, other = (search_axes(keys(8), 16, seed) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(("excesses", "dims"), [([0.001], 64), ([0.2, 0.005], 96), ([0.2, 0.1], None)])
def test_the_fewest_dims_that_find_near_enough_rows_are_taken(excesses: list[float], dims: int | None) -> None:
    left = iter(excesses)

    def excess(search: ProjectedSearch) -> float:
        return next(left)

    found = fewest_dims(keys(8), excess, most=0.005)
    if dims is None:
        assert found is None
    else:
        assert found is not None
        assert found[0].shape == (DIM, found[1].dims) == (DIM, dims)
        assert found[1].excess == excesses[-1]


def test_features_that_are_few_already_are_not_projected() -> None:
    few = keys(8)[:, : DIMS_LADDER[0] + 10]
    assert fewest_dims(few, lambda search: 0.0, most=1.0) is None
