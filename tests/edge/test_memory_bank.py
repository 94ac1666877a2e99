"""The memory bank: brute force is the oracle, and a distance is what a ruler says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.memory_bank import QUERY_BLOCK, HnswIndex, MemoryBank, MemoryBankArrays, SearchColumns, standardise

Floats = npt.NDArray[np.float32]

EF = 32


def arrays_of(vectors: Floats) -> MemoryBankArrays:
    """A bank of these rows, features left as they are."""
    rows, dim = vectors.shape
    return MemoryBankArrays(
        vectors=vectors,
        feature_mean=np.zeros(dim, np.float32),
        feature_std=np.ones(dim, np.float32),
        source_index=np.zeros(rows, np.int64),
        patch_yx=np.zeros((rows, 2), np.int64),
    )


def bank_of(vectors: Floats, columns: list[int] | None = None, index: HnswIndex | None = None) -> MemoryBank:
    picked = np.array(columns if columns is not None else range(vectors.shape[1]), np.int64)
    return MemoryBank(arrays_of(vectors), SearchColumns.alike(picked), index)


def clustered(rows: int, dim: int, seed: int) -> Floats:
    """Points around 20 centres, as patches of a part are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, dim)) * 4
    return (centres[rng.integers(20, size=rows)] + rng.normal(size=(rows, dim))).astype(np.float32)


def brute_force(queries: Floats, keys: Floats) -> Floats:
    """(N, d), (M, d) -> (N,) distance to the nearest key, every pair measured in double precision."""
    difference = queries[:, np.newaxis].astype(np.float64) - keys[np.newaxis].astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2)).min(axis=1)


def test_distances_can_be_checked_with_a_ruler() -> None:
    bank = bank_of(np.array([[0, 0], [10, 0]], np.float32))

    distances, rows = bank.nearest(np.array([[3, 4], [10, 2], [0, 0]], np.float32))

    assert distances.tolist() == [5.0, 2.0, 0.0]
    assert rows.tolist() == [0, 1, 0]


def test_only_search_columns_count() -> None:
    bank = bank_of(np.array([[0, 0, 0], [9, 1, 9]], np.float32), columns=[1])

    distances, rows = bank.nearest(np.array([[0, 1.25, 0]], np.float32))

    assert (distances.tolist(), rows.tolist()) == ([0.25], [1])
    assert bank.keys.tolist() == [[0], [1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 8))
def test_exact_search_finds_what_brute_force_finds(seed: int, rows: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(rows, dim)).astype(np.float32)
    queries = rng.normal(size=(17, dim)).astype(np.float32)

    distances, _ = bank_of(keys).nearest(queries)

    np.testing.assert_allclose(distances, brute_force(queries, keys), rtol=1e-4, atol=1e-3)


def test_exact_search_does_not_lose_queries_between_its_blocks() -> None:
    keys = clustered(300, 6, seed=1)

    asked = np.arange(2 * QUERY_BLOCK + 7) % 300

    rows = bank_of(keys).nearest_rows_exact(keys[asked])

    assert rows.tolist() == asked.tolist()


def test_hnsw_finds_the_true_neighbour_of_at_least_98_in_100_patches() -> None:
    keys, queries = clustered(2000, 16, seed=1), clustered(500, 16, seed=2)
    index = HnswIndex.build(keys, M=16, ef_construction=200, seed=0, ef=EF)

    found, _ = bank_of(keys, index=index).nearest(queries)
    truth = brute_force(queries, keys)

    assert np.mean(found <= truth * (1 + 1e-5)) >= 0.98
    assert (found >= truth * (1 - 1e-5)).all()  # it can miss the neighbour, never invent a nearer one


def test_a_wider_search_misses_no_more_often() -> None:
    keys, queries = clustered(2000, 16, seed=1), clustered(300, 16, seed=3)
    index = HnswIndex.build(keys, M=4, ef_construction=20, seed=0, ef=1)
    bank = bank_of(keys, index=index)
    narrow = bank.nearest(queries)[0]
    index.set_ef(200)

    wide = bank.nearest(queries)[0]

    assert (wide <= narrow).all()
    assert wide.sum() < narrow.sum()


def test_hnsw_and_exact_search_give_the_same_distance_to_the_last_bit() -> None:
    keys = clustered(500, 8, seed=1)
    index = HnswIndex.build(keys, M=16, ef_construction=200, seed=0, ef=200)
    queries = clustered(64, 8, seed=4)
    by_index, by_products = bank_of(keys, index=index).nearest(queries), bank_of(keys).nearest(queries)
    same = by_index[1] == by_products[1]

    assert same.mean() > 0.9
    assert by_index[0][same].tobytes() == by_products[0][same].tobytes()


@pytest.mark.parametrize("searched_by", ["hnsw", "exact"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_patch_that_is_no_number_has_distance_nan_and_never_a_small_one(searched_by: str, value: float) -> None:
    keys = clustered(200, 4, seed=1)
    index = HnswIndex.build(keys, 16, 200, seed=0, ef=EF) if searched_by == "hnsw" else None
    queries = keys[:3].copy()
    queries[1, 2] = value

    with np.errstate(invalid="ignore"):
        distances, rows = bank_of(keys, index=index).nearest(queries)

    assert not distances[1] <= 1e9
    assert (distances[[0, 2]] < 1e-3).all()
    assert ((rows >= 0) & (rows < 200)).all()


def test_the_same_rows_build_the_same_bytes(tmp_path: Path) -> None:
    keys = clustered(400, 8, seed=1)
    for name in ("a", "b"):
        HnswIndex.build(keys, M=8, ef_construction=50, seed=7, ef=10).save(tmp_path / name)
    HnswIndex.build(keys, M=8, ef_construction=50, seed=8, ef=10).save(tmp_path / "other seed")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "other seed").read_bytes()


def test_an_index_answers_the_same_after_it_was_saved_and_loaded(tmp_path: Path) -> None:
    keys, queries = clustered(400, 8, seed=1), clustered(50, 8, seed=2)
    index = HnswIndex.build(keys, M=8, ef_construction=50, seed=0, ef=EF)
    index.save(tmp_path / "index")

    loaded = HnswIndex.load(tmp_path / "index", dim=8, rows=400, ef=EF)

    assert loaded.nearest_rows(queries).tolist() == index.nearest_rows(queries).tolist()


def test_an_index_with_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    HnswIndex.build(clustered(40, 4, seed=1), M=8, ef_construction=50, seed=0, ef=10).save(tmp_path / "index")

    with pytest.raises(BundleError, match="40 rows, the manifest says 41"):
        HnswIndex.load(tmp_path / "index", dim=4, rows=41, ef=10)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"not an index")

    with pytest.raises(BundleError, match="calibrate again"):
        HnswIndex.load(tmp_path / "index", dim=4, rows=40, ef=10)


def test_standardising_counts_in_standard_deviations_and_tames_large_values() -> None:
    patches = np.array([[14, 2], [6, -14]], np.float32)

    z = standardise(patches, np.array([10, 2], np.float32), np.array([1, 4], np.float32))

    assert z.tolist() == [[2, 0], [-2, -2]]  # z of 4, 0, -4 and -4, and the signed root of each


def test_the_same_arrays_save_to_the_same_bytes_and_come_back(tmp_path: Path) -> None:
    arrays = arrays_of(clustered(30, 4, seed=1))
    arrays.save(tmp_path / "a.npz")
    arrays.save(tmp_path / "b.npz")

    loaded = MemoryBankArrays.load(tmp_path / "a.npz")

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.testing.assert_array_equal(loaded.vectors, arrays.vectors)
    assert loaded.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": np.zeros((0, 4), np.float32)},
        {"vectors": np.zeros(4, np.float32)},
        {"feature_mean": np.zeros(3, np.float32)},
        {"feature_std": np.zeros(3, np.float32)},
        {"source_index": np.zeros(5, np.int64)},
        {"patch_yx": np.zeros((5, 2), np.int64)},
        {"vectors": np.array([[object()]], dtype=object)},
    ],
    ids=lambda change: " ".join(f"{name} {array.shape}" for name, array in change.items()),
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    arrays = {**arrays_of(clustered(30, 4, seed=1)).__dict__, **change}
    np.savez(tmp_path / "bank.npz", **arrays)

    with pytest.raises(BundleError, match="calibrate again"):
        MemoryBankArrays.load(tmp_path / "bank.npz")


def test_a_bank_without_one_of_its_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bank.npz", vectors=np.zeros((3, 2), np.float32))

    with pytest.raises(BundleError, match="not a memory bank"):
        MemoryBankArrays.load(tmp_path / "bank.npz")


def test_a_column_counts_by_its_weight() -> None:
    vectors = np.array([[0, 0]], np.float32)
    bank = MemoryBank(arrays_of(vectors), SearchColumns(np.array([0, 1]), np.array([0.5, 1.0], np.float32)))

    distances, _ = bank.nearest(np.array([[6, 4]], np.float32))

    assert distances.tolist() == [5.0]  # of 3 and 4
