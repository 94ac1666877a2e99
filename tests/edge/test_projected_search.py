"""Search in fewer columns: never nearer than the truth, hardly farther, and checked when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backend import installed_backends
from edge.errors import BundleError
from edge.int8_product import KEY_LEVELS, PROJECTED_GRAPH, Int8Product, Projection
from edge.manifest import BackendName
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from edge.projected_search import AXES_FILE, ProjectedSearch, axis_step, load_axes
from export.int8_product import int8_projected_product_graph
from export.search_axes import search_axes

Floats = npt.NDArray[np.float32]
DIM, DIMS = 60, 16


def patches(count: int, seed: int, spread: float = 1.0) -> Floats:
    """(n, DIM) that vary in 12 directions, and a little in all: as features of neighbouring channels do."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(12, DIM))
    return (spread * rng.normal(size=(count, 12)) @ mixing + 0.1 * rng.normal(size=(count, DIM))).astype(np.float32)


def bank_of(keys: Floats, projected: bool) -> MemoryBank:
    rows, dim = keys.shape
    zeros, ones = np.zeros(dim, np.float32), np.ones(dim, np.float32)
    arrays = MemoryBankArrays(keys, zeros, ones, np.zeros(rows, np.int64), np.zeros((rows, 2), np.int64))
    search = ProjectedSearch(keys, search_axes(keys, DIMS)) if projected else None
    return MemoryBank(arrays, SearchColumns.alike(np.arange(dim)), search)


def test_the_first_two_axes_decide_and_the_third_does_not() -> None:
    keys = np.array([[4, 0, 0], [0, 4, 90], [-4, -4, 0]], dtype=np.float32)
    axes = np.array([[KEY_LEVELS, 0], [0, KEY_LEVELS], [0, 0]], dtype=np.int8)
    queries = np.array([[3, 1, 90], [1, 3, 0], [-2, -1, 90]], dtype=np.float32)
    assert ProjectedSearch(keys, axes).nearest_rows(queries).tolist() == [0, 1, 2]


def test_axes_that_are_not_level_with_the_columns_are_projected_on() -> None:
    """Keys in a plane that lies askew: two axes are enough to find what exact search finds."""
    plane = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, 2)))[0].T
    flat = (np.random.default_rng(seed).normal(size=(count, 2)) for seed, count in ((0, 50), (1, 200)))
    keys, queries = ((points @ plane).astype(np.float32) for points in flat)
    axes = search_axes(keys, 2)
    found, exact = ProjectedSearch(keys, axes).nearest_rows(queries), bank_of(keys, False).nearest_rows_exact(queries)
    assert (found == exact).mean() > 0.9


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 300, 900]))
def test_a_distance_is_never_less_and_hardly_more_than_by_exact_search(seed: int, rows: int) -> None:
    keys, queries = patches(rows, seed), patches(200, seed + 1, spread=1.5)
    exact, found = (bank_of(keys, projected).nearest(queries)[0] for projected in (False, True))
    assert (found >= exact * (1 - 1e-5)).all()
    assert found.sum() <= exact.sum() * 1.02


def test_a_patch_that_is_not_a_number_is_not_near_anything() -> None:
    queries = patches(4, 2)
    queries[1, 3] = np.nan
    distances, _ = bank_of(patches(50, 1), projected=True).nearest(queries)
    assert np.isnan(distances).tolist() == [False, True, False, False]


@pytest.mark.parametrize("backend", installed_backends())
def test_a_product_can_be_checked_by_hand(backend: BackendName) -> None:
    axes = np.array([[10, 0], [0, 20], [10, 0]], dtype=np.int8)  # a level of an axis is worth .1: 1, 2 and 1
    columns = np.array([[3, -1], [1, 5], [7, 0]], dtype=np.float32)
    product = Int8Product(columns, 0.5, [2], Projection(axes, axis_step=0.1, row_scale=0.25), backend=backend)
    rows = np.array([[1.0, 0.5, -0.5]], dtype=np.float32)  # .5 and 1 when projected: 1 and 2 levels of .5
    assert product.of(rows).tolist() == [[3 + 2 + 14, -1 + 10]]


def test_a_level_of_an_axis_is_worth_what_makes_the_axes_one_long() -> None:
    axes = np.array([[3, -4], [4, 3]], dtype=np.int8)
    assert axis_step(axes) == pytest.approx(1 / 5)


def test_the_graph_in_the_package_is_the_one_that_export_writes() -> None:
    assert Path(PROJECTED_GRAPH).read_bytes() == int8_projected_product_graph()


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        (np.zeros((4, 3), np.int8), r"\(4, 3\) int8, the manifest says 2 axes of 4"),
        (np.zeros((4, 2), np.float32), r"\(4, 2\) float32, the manifest says"),
        (np.full((4, 2), KEY_LEVELS + 1, np.int8), "the manifest says"),
        (None, "not the axes of a search"),
    ],
)
def test_axes_that_are_not_what_the_manifest_says_are_refused(
    tmp_path: Path, axes: npt.NDArray[np.generic] | None, problem: str
) -> None:
    if axes is None:
        (tmp_path / AXES_FILE).write_text("no array")
    else:
        np.save(tmp_path / AXES_FILE, axes)
    with pytest.raises(BundleError, match=problem):
        load_axes(tmp_path, 4, 2)
