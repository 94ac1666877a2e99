"""Search in integers: never nearer than the truth, hardly farther, and safe on CPUs that add in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import int8_search
from edge.anomaly import PlaceStatistics, detect
from edge.backend import installed_backends
from edge.int8_product import KEY_LEVELS, PRODUCT_GRAPH, QUERY_LEVELS, Int8Matrix, Int8Product
from edge.int8_search import Int8Search, digits
from edge.manifest import BackendName, ScoreFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from export.int8_product import int8_product_graph

Floats = npt.NDArray[np.float32]


def clustered(rows: int, dim: int, seed: int, spread: float = 1.0) -> Floats:
    """Points around 20 centres, as patches of a part are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, dim))
    return (centres[rng.integers(20, size=rows)] + spread * 0.3 * rng.normal(size=(rows, dim))).astype(np.float32)


def bank_of(keys: Floats, by_int8: bool) -> MemoryBank:
    rows, dim = keys.shape
    zeros, ones = np.zeros(dim, np.float32), np.ones(dim, np.float32)
    arrays = MemoryBankArrays(keys, zeros, ones, np.zeros(rows, np.int64), np.zeros((rows, 2), np.int64))
    return MemoryBank(arrays, SearchColumns.alike(np.arange(dim)), Int8Search(keys) if by_int8 else None)


def test_a_key_asked_for_is_found() -> None:
    keys = np.array([[0, 0], [10, 0], [0, 10], [-10, 3]], dtype=np.float32)
    rows = Int8Search(keys).nearest_rows(keys + np.float32(0.5))
    assert rows.tolist() == [0, 1, 2, 3]


def test_the_length_of_a_key_counts_not_its_direction_alone() -> None:
    keys = np.array([[1, 1], [100, 100]], dtype=np.float32)  # q.k alone would always take the second
    assert Int8Search(keys).nearest_rows(np.array([[2, 2], [90, 95]], dtype=np.float32)).tolist() == [0, 1]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 24, 152]), st.sampled_from([1, 37, 700]))
def test_a_distance_is_never_less_and_hardly_more_than_by_exact_search(seed: int, dim: int, rows: int) -> None:
    keys, queries = clustered(rows, dim, seed), clustered(300, dim, seed + 1, spread=2)
    exact, found = (bank_of(keys, by_int8).nearest(queries)[0] for by_int8 in (False, True))
    assert (found >= exact * (1 - 1e-5)).all()
    assert dim == 2 or found.sum() <= exact.sum() * 1.02  # in the plane a step of a key is as wide as a gap


def test_an_anomaly_score_is_never_less_and_hardly_more_than_by_exact_search() -> None:
    keys, places = clustered(2000, 64, 1), PlaceStatistics(np.ones((16, 16), np.float32), np.ones((16, 16), np.float32))
    facts = ScoreFacts(top_fraction=0.01, map_sigma_patches=1.0)
    for seed in range(5):
        picture = clustered(256, 64, 100 + seed, spread=1 + seed)
        exact, found = (detect(picture, bank_of(keys, b), places, facts).anomaly_score for b in (False, True))
        assert exact - 1e-5 <= found <= exact + 0.005 * abs(exact)


def test_blocks_of_any_size_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, queries = clustered(500, 16, 1), clustered(97, 16, 2)
    whole = Int8Search(keys).nearest_rows(queries)
    monkeypatch.setattr(int8_search, "BLOCK_CELLS", 10 * len(keys) + 3)
    assert Int8Search(keys).nearest_rows(queries).tolist() == whole.tolist()
    monkeypatch.setattr(int8_search, "BLOCK_CELLS", 1)
    assert Int8Search(keys).nearest_rows(queries[:5]).tolist() == whole[:5].tolist()


def test_a_patch_that_is_not_a_number_is_not_near_anything() -> None:
    queries = clustered(4, 8, 2)
    queries[1, 3] = np.nan
    distances, _ = bank_of(clustered(50, 8, 1), by_int8=True).nearest(queries)
    assert np.isnan(distances).tolist() == [False, True, False, False]


def test_a_bank_of_zeros_is_searched_like_any_other() -> None:
    distances, _ = bank_of(np.zeros((3, 4), np.float32), by_int8=True).nearest(np.ones((2, 4), np.float32))
    assert distances.tolist() == [2.0, 2.0]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=20))
def test_digits_add_up_to_the_number(numbers: list[int]) -> None:
    found = digits(np.array(numbers, dtype=np.int64))
    meets = np.array([QUERY_LEVELS] * (found.shape[1] - 1) + [1])
    assert np.abs(found).max() <= KEY_LEVELS
    np.testing.assert_allclose(found @ meets, numbers, atol=1)


@pytest.mark.parametrize("backend", installed_backends())
def test_a_product_can_be_checked_by_hand(backend: BackendName) -> None:
    columns = np.array([[1, -2], [3, 4], [10, 20], [7, 0]], dtype=np.float32)
    product = Int8Product(columns, 0.5, meets=[2, -1], backend=backend)
    rows = np.array([[1.0, -0.5], [0.0, 100.0]], dtype=np.float32)  # 2 and -1 levels; 0 and, cut off, 127
    assert product.of(rows).tolist() == [[2 - 3 + 20 - 7, -4 - 4 + 40], [381 + 20 - 7, 508 + 40]]


@pytest.mark.parametrize("backend", installed_backends())
def test_every_runtime_finds_the_same_rows(backend: BackendName) -> None:
    keys, queries = clustered(2000, 152, 1), clustered(600, 152, 2, spread=2)
    found = Int8Search(keys, backend=backend).nearest_rows(queries)
    assert (
        found == Int8Search(keys).nearest_rows(queries)
    ).mean() > 0.999  # a number on the edge is rounded either way


@pytest.mark.parametrize("backend", installed_backends())
def test_a_matrix_in_integers_is_near_the_one_in_float32(backend: BackendName) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(152, 40)) * np.geomspace(0.01, 100, 40)).astype(np.float32)
    rows = rng.normal(size=(300, 152)).astype(np.float32)
    off = Int8Matrix(matrix, largest=5, backend=backend).of(rows) - rows @ matrix
    assert (off.std(axis=0) < 0.03 * (rows @ matrix).std(axis=0)).all()


def test_two_products_side_by_side_fit_sixteen_bits() -> None:
    assert 2 * 255 * KEY_LEVELS < 2**15  # what x86 without VNNI adds before it widens


def test_the_graph_in_the_package_is_the_one_that_export_writes() -> None:
    assert Path(PRODUCT_GRAPH).read_bytes() == int8_product_graph()
