"""HNSW and lists against exact search; `ef` off the ladder; the fastest search by measurement."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge.list_search import LISTS_FILE, ListSearch, load_centres
from edge.manifest import Search
from edge.memory_bank import INDEX_FILE, HnswIndex, MemoryBank, MemoryBankArrays, RowSearch, SearchColumns
from edge.projected_search import AXES_FILE, ProjectedSearch, load_axes
from export.bank_index import (
    EF_LADDER,
    FEW_ROWS,
    MAX_EXCESS,
    MIN_RECALL_GOOD,
    MIN_RECALL_PSEUDO,
    fastest,
    index_bank,
    mean_excess,
    recall_at_1,
)

DIM = 24


def random_bank(rows: int, dim: int = DIM, seed: int = 0) -> MemoryBank:
    """Rows without any structure: the hardest for a graph. The last feature is not searched."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dim + 1)).astype(np.float32)
    arrays = MemoryBankArrays(vectors, np.zeros(dim + 1), np.ones(dim + 1), np.zeros(rows), np.zeros((rows, 2)))
    return MemoryBank(arrays, SearchColumns.alike(np.arange(dim)))


def queries(count: int, dim: int = DIM, seed: int = 1) -> np.ndarray:
    """Patches near no row in particular."""
    return np.random.default_rng(seed).normal(size=(count, dim + 1)).astype(np.float32)


def brute_force_recall(folder: Path, bank: MemoryBank, ef: int, patches: np.ndarray) -> float:
    """Share of patches whose row from the file is the one that a plain loop finds."""
    index = HnswIndex.load(folder / INDEX_FILE, bank.keys.shape[1], bank.rows, ef)
    found = index.nearest_rows(bank.search.keys(patches))
    true = [int(np.linalg.norm(bank.keys - bank.search.keys(q[np.newaxis]), axis=1).argmin()) for q in patches]
    return float(np.mean(found == true))


def test_the_stated_recall_is_what_a_plain_loop_finds(tmp_path: Path) -> None:
    bank, good, pseudo = random_bank(1500), queries(300), 3 * queries(300, seed=2)
    facts = index_bank(tmp_path, bank, good, pseudo).index
    assert facts is not None
    assert brute_force_recall(tmp_path, bank, facts.ef, good) == pytest.approx(facts.recall_good, abs=1e-5)
    assert brute_force_recall(tmp_path, bank, facts.ef, pseudo) == pytest.approx(facts.recall_pseudo, abs=1e-5)


def test_ef_is_the_smallest_step_of_the_ladder_that_meets_both_recalls(tmp_path: Path) -> None:
    bank, good, pseudo = random_bank(1500), queries(300), 3 * queries(300, seed=2)
    facts = index_bank(tmp_path, bank, good, pseudo).index
    assert facts is not None
    step = EF_LADDER.index(facts.ef)
    assert step > 0  # random rows are hard enough that the first step does not do
    assert facts.recall_good >= MIN_RECALL_GOOD
    assert facts.recall_pseudo >= MIN_RECALL_PSEUDO
    below = HnswIndex.load(tmp_path / INDEX_FILE, DIM, bank.rows, EF_LADDER[step - 1])
    before = recall_at_1(below, bank, good), recall_at_1(below, bank, pseudo)
    assert before[0] < MIN_RECALL_GOOD or before[1] < MIN_RECALL_PSEUDO


class Mirror:
    """Finds what exact search finds, after `seconds` of sleep."""

    def __init__(self, bank: MemoryBank, seconds: float) -> None:
        self._bank, self._seconds = bank, seconds

    def nearest_rows(self, queries: np.ndarray) -> np.ndarray:
        time.sleep(self._seconds)
        return np.zeros(len(queries), dtype=np.int64)


def test_a_recall_that_no_ef_reaches_rules_the_graph_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.bank_index.EF_LADDER", (1, 2))
    monkeypatch.setattr("export.bank_index.WORTH_IT", 1e9)  # whatever may be taken is
    found = index_bank(tmp_path, random_bank(3000, dim=48), queries(200, dim=48), queries(200, dim=48))
    assert found.index is not None
    assert found.index.ef == 2
    assert found.index.recall_good < MIN_RECALL_GOOD
    assert found.search == "int8"


def test_integers_that_find_rows_too_far_away_are_ruled_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.bank_index.WORTH_IT", 1e9)
    bank = random_bank(1500, dim=2)
    assert index_bank(tmp_path, bank, queries(100, dim=2), queries(100, dim=2, seed=2)).search == "hnsw"
    monkeypatch.setattr("export.bank_index.MAX_EXCESS", -1)
    monkeypatch.setattr("export.bank_index.MIN_RECALL_GOOD", 2)
    assert index_bank(tmp_path, bank, queries(100, dim=2), queries(100, dim=2, seed=2)).search == "exact"


def test_few_rows_are_searched_exactly_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.bank_index.WORTH_IT", 1e9)
    for rows, expected in ((FEW_ROWS, "exact"), (FEW_ROWS + 1, "int8")):
        bank = random_bank(rows)
        assert fastest(bank, {"int8": Mirror(bank, 0)}, queries(10)) == expected


def test_of_several_searches_the_one_that_waits_least_is_taken() -> None:
    bank = random_bank(FEW_ROWS + 1)
    slow: dict[Search, RowSearch] = {"int8": Mirror(bank, 1.0), "hnsw": Mirror(bank, 2.0)}
    assert fastest(bank, slow, queries(10)) == "exact"
    assert fastest(bank, {**slow, "hnsw": Mirror(bank, 0.0)}, queries(10)) == "hnsw"


def test_excess_is_the_share_by_which_found_rows_are_farther() -> None:
    vectors = np.array([[3, 0], [1, 0], [9, 0]], dtype=np.float32)
    arrays = MemoryBankArrays(vectors, np.zeros(2), np.ones(2), np.zeros(3), np.zeros((3, 2)))
    bank = MemoryBank(arrays, SearchColumns.alike(np.arange(2)))
    asked = np.array([[0, 0], [2, 0]], dtype=np.float32)  # row 0 is at 3 and 1, the nearest at 1 and 1
    assert mean_excess(Mirror(bank, 0), bank, asked) == pytest.approx((4 - 2) / 2)


def test_two_rows_at_the_same_distance_both_count_as_found() -> None:
    vectors = np.array([[1, 0], [1, 0], [-1, 0]], dtype=np.float32)
    bank = MemoryBank(
        MemoryBankArrays(vectors, np.zeros(2), np.ones(2), np.zeros(3), np.zeros((3, 2))),
        SearchColumns.alike(np.arange(2)),
    )
    index = HnswIndex.build(bank.keys, M=4, ef_construction=10, seed=0, ef=3)
    assert recall_at_1(index, bank, np.array([[2, 0], [0, 5]], dtype=np.float32)) == 1.0


def test_the_same_bank_and_seed_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        index_bank(tmp_path / name, random_bank(800), queries(50), queries(50), seed=5)
        files.append((tmp_path / name / INDEX_FILE).read_bytes())
    assert files[0] == files[1]


def test_a_large_bank_gets_lists_that_find_nearly_what_exact_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.bank_index.LEAST_ROWS", 2000)
    monkeypatch.setattr("export.bank_index.EF_LADDER", (10,))
    bank, good, pseudo = clustered_bank(3000), clustered_bank(200, seed=1).arrays.vectors, queries(200)
    facts = index_bank(tmp_path, bank, good, pseudo).lists
    assert facts is not None
    assert (facts.lists, facts.odd_probes) == (8, 8 * facts.probes)
    assert facts.excess <= MAX_EXCESS
    search = ListSearch(bank.keys, load_centres(tmp_path, DIM, facts), facts)
    worst = max(mean_excess(search, bank, patches) for patches in (good, pseudo))
    assert worst == pytest.approx(facts.excess, abs=1e-5)


def test_lists_that_miss_too_much_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.bank_index.LEAST_ROWS", 2000)
    monkeypatch.setattr("export.bank_index.EF_LADDER", (10,))
    monkeypatch.setattr("export.list_centres.PROBE_LADDER", (1,))
    monkeypatch.setattr("export.list_centres.ODD_PROBES", 1)
    found = index_bank(tmp_path, random_bank(3000), queries(200), queries(200, seed=2))
    assert found.lists is None
    assert found.search != "lists"
    assert not (tmp_path / LISTS_FILE).exists()


def test_a_small_bank_has_no_lists(tmp_path: Path) -> None:
    assert index_bank(tmp_path, random_bank(800), queries(50), queries(50)).lists is None
    assert not (tmp_path / LISTS_FILE).exists()


def test_a_wide_bank_gets_axes_that_find_nearly_what_exact_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.search_axes.DIMS_LADDER", (8,))
    monkeypatch.setattr("export.bank_index.MAX_EXCESS", 0.05)  # these rows are few
    mixing = 2 * np.random.default_rng(5).normal(size=(6, DIM + 1))
    rngs = (np.random.default_rng(seed) for seed in range(3))
    rows, good, pseudo = (
        (rng.normal(size=(count, 6)) @ mixing + rng.normal(size=(count, DIM + 1))).astype(np.float32)
        for rng, count in zip(rngs, (600, 200, 200), strict=True)
    )
    bank = bank_of(rows)
    facts = index_bank(tmp_path, bank, good, 2 * pseudo).projection
    assert facts is not None
    assert 0 < facts.excess <= 0.05
    search = ProjectedSearch(bank.keys, load_axes(tmp_path, DIM, 8))
    worst = max(mean_excess(search, bank, patches) for patches in (good, 2 * pseudo))
    assert worst == pytest.approx(facts.excess, abs=1e-5)


def test_a_bank_whose_rows_vary_in_every_direction_has_no_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.search_axes.DIMS_LADDER", (8,))
    found = index_bank(tmp_path, random_bank(800), queries(100), queries(100))
    assert found.projection is None
    assert found.search != "projected"
    assert not (tmp_path / AXES_FILE).exists()


def clustered_bank(rows: int, seed: int = 0) -> MemoryBank:
    """Rows around 20 centres, as patches of a part are."""
    rng, places = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(20, DIM + 1)) * 4
    vectors = (places[rng.integers(20, size=rows)] + rng.normal(size=(rows, DIM + 1))).astype(np.float32)
    return bank_of(vectors)


def bank_of(vectors: np.ndarray) -> MemoryBank:
    """(M, DIM + 1), of which the last column is not searched."""
    rows, zeros, ones = len(vectors), np.zeros(DIM + 1, np.float32), np.ones(DIM + 1, np.float32)
    arrays = MemoryBankArrays(vectors, zeros, ones, np.zeros(rows, np.int64), np.zeros((rows, 2), np.int64))
    return MemoryBank(arrays, SearchColumns.alike(np.arange(DIM)))
