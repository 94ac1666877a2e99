"""Inverted lists: with every list looked into the search is exact, with fewer never nearer than the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.list_search import LISTS_FILE, ListSearch, load_centres, nearest_centre, oddest
from edge.manifest import ListFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns

Floats = npt.NDArray[np.float32]


def facts_of(lists: int, probes: int, odd_probes: int) -> ListFacts:
    return ListFacts(lists=lists, probes=probes, odd_probes=odd_probes, excess=0)


def distances(keys: Floats, queries: Floats, rows: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(np.linalg.norm(queries - keys[rows], axis=1), dtype=np.float32)


def points(count: int, dim: int, seed: int) -> Floats:
    """Around 12 centres."""
    rng, centres = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(12, dim)) * 3
    return (centres[rng.integers(12, size=count)] + rng.normal(size=(count, dim))).astype(np.float32)


def exact(keys: Floats, queries: Floats) -> Floats:
    """By a plain table of all distances."""
    return np.asarray(np.sqrt(((queries[:, None] - keys[None]) ** 2).sum(-1)).min(1), dtype=np.float32)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 30]), st.sampled_from([3, 40]))
def test_a_search_of_every_list_is_exact_and_of_fewer_never_too_near(seed: int, lists: int, dim: int) -> None:
    keys, queries = points(400, dim, seed), points(60, dim, seed + 1)
    for probes in (1, lists):
        search = ListSearch(keys, keys[:lists], facts_of(lists, probes, probes))
        found, true = distances(keys, queries, search.nearest_rows(queries)), exact(keys, queries)
        assert (found >= true * (1 - 1e-4) - 1e-4).all()
        if probes == lists:
            np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-4)


def test_only_the_nearest_list_is_looked_into() -> None:
    keys = np.array([[0, 0], [4, 0], [10, 0]], dtype=np.float32)
    centres = np.array([[1, 0], [9, 0]], dtype=np.float32)  # rows 0 and 1 are of the first list
    assert nearest_centre(keys, centres).tolist() == [0, 0, 1]
    query = np.array([[5.5, 0]], dtype=np.float32)  # nearer to the second centre, but row 1 is nearest
    assert ListSearch(keys, centres, facts_of(2, 1, 1)).nearest_rows(query).tolist() == [2]
    assert ListSearch(keys, centres, facts_of(2, 2, 2)).nearest_rows(query).tolist() == [1]


def test_the_oddest_patch_is_looked_up_in_more_lists() -> None:
    keys = np.array([[0, 0], [4, 0], [10, 0]], dtype=np.float32)
    centres = np.array([[1, 0], [9, 0]], dtype=np.float32)
    queries = np.array([[0, 0], [5.5, 0], [10, 0]], dtype=np.float32)
    assert ListSearch(keys, centres, facts_of(2, 1, 2)).nearest_rows(queries).tolist() == [0, 1, 2]


def test_an_empty_list_is_passed_over() -> None:
    keys = np.array([[0, 0], [1, 0]], dtype=np.float32)
    centres = np.array([[0, 0], [50, 50], [90, 90]], dtype=np.float32)
    search = ListSearch(keys, centres, facts_of(3, 3, 3))
    assert search.nearest_rows(np.array([[1, 1], [70, 70]], dtype=np.float32)).tolist() == [1, 1]


def test_the_oddest_are_a_share_and_at_least_one() -> None:
    assert oddest(np.array([1, 9, 3], dtype=np.float32)).tolist() == [1]
    assert sorted(oddest(np.arange(40, dtype=np.float32)).tolist()) == [38, 39]
    assert oddest(np.empty(0, dtype=np.float32)).tolist() == []


def test_a_patch_that_is_not_finite_stays_so() -> None:
    keys = points(50, 4, 1)
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    arrays = MemoryBankArrays(keys, zeros, ones, np.zeros(50, np.int64), np.zeros((50, 2), np.int64))
    search = ListSearch(keys, keys[:5], facts_of(5, 1, 2))
    bank = MemoryBank(arrays, SearchColumns.alike(np.arange(4)), search)
    queries = points(10, 4, 2)
    queries[3, 1] = np.nan
    found, _ = bank.nearest(queries)
    assert np.isnan(found[3])
    assert np.isfinite(np.delete(found, 3)).all()


@pytest.mark.parametrize(
    ("shape", "said"), [((3, 4), "3 lists of 8"), ((4, 8), "3 lists of 8"), (None, "not the cent")]
)
def test_centres_that_do_not_fit_the_manifest_are_refused(
    tmp_path: Path, shape: tuple[int, int] | None, said: str
) -> None:
    if shape:
        np.save(tmp_path / LISTS_FILE, np.zeros(shape, np.float32))
    else:
        (tmp_path / LISTS_FILE).write_bytes(b"not an array")
    with pytest.raises(BundleError, match=said):
        load_centres(tmp_path, 8, facts_of(3, 1, 1))
