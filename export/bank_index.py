"""Memory bank -> what its searches need, and which is the fastest. Torch-free, runs on the device too."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from edge.int8_search import Int8Search
from edge.list_search import LISTS_FILE, ListSearch
from edge.manifest import IndexFacts, Search, SearchFacts
from edge.memory_bank import INDEX_FILE, HnswIndex, MemoryBank, RowSearch
from edge.projected_search import AXES_FILE, ProjectedSearch
from export.list_centres import LEAST_ROWS, fewest_probes, list_centres
from export.search_axes import fewest_dims

M_LINKS = 16
EF_CONSTRUCTION = 200
EF_LADDER = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Recall tuned on good patches overstates recall on defects, so both are asked for.
MIN_RECALL_GOOD = 0.99
MIN_RECALL_PSEUDO = 0.98
# How much farther than the nearest row the one that INT8, projection or lists find may be, on average.
MAX_EXCESS = 0.005
# Under this, any search takes less than a millisecond a frame, and the exact one needs no measurement.
FEW_ROWS = 500
# One frame's patches, timed several times: the quickest counts, as others may be at work on this machine.
TIMED_QUERIES, TIMED_ROUNDS = 1024, 7
# A search that only approximates has to be this much faster, or the choice would change with the weather.
WORTH_IT = 0.8


def index_bank(folder: Path, bank: MemoryBank, good: np.ndarray, pseudo: np.ndarray, seed: int = 0) -> SearchFacts:
    """Write what the searches of `bank` need into `folder`, and time them.

    good, pseudo: (n, D) standardised patches to measure with. Large banks get lists, wide ones axes to project on. The
    search taken is the fastest, measured here, of those that find what exact search finds.
    """
    worst_excess = partial(_worst_excess, bank, good, pseudo)
    found_by: dict[Search, RowSearch] = {}
    int8 = Int8Search(bank.keys)
    if worst_excess(int8) <= MAX_EXCESS:
        found_by["int8"] = int8
    projection = None
    if projected := fewest_dims(bank.keys, worst_excess, MAX_EXCESS, seed):
        axes, projection = projected
        np.save(folder / AXES_FILE, axes)
        found_by["projected"] = ProjectedSearch(bank.keys, axes)
    lists = None
    if bank.rows >= LEAST_ROWS:
        centres = list_centres(bank.keys, seed)
        lists = fewest_probes(bank.keys, centres, worst_excess, MAX_EXCESS)
        if lists:
            np.save(folder / LISTS_FILE, centres)
            found_by["lists"] = ListSearch(bank.keys, centres, lists)
    index, facts = build_index(folder, bank, good, pseudo, seed)
    if facts.recall_good >= MIN_RECALL_GOOD and facts.recall_pseudo >= MIN_RECALL_PSEUDO:
        found_by["hnsw"] = index
    search = fastest(bank, found_by, good)
    return SearchFacts(search=search, index=facts, lists=lists, projection=projection)


def build_index(
    folder: Path, bank: MemoryBank, good: np.ndarray, pseudo: np.ndarray, seed: int
) -> tuple[HnswIndex, IndexFacts]:
    """Write the HNSW index, with the smallest `ef` of EF_LADDER that meets both recalls, or the last."""
    HnswIndex.build(bank.keys, M_LINKS, EF_CONSTRUCTION, seed, EF_LADDER[0]).save(folder / INDEX_FILE)
    index = HnswIndex.load(folder / INDEX_FILE, bank.keys.shape[1], bank.rows, EF_LADDER[0])
    recall_good = recall_pseudo = 0.0
    for ef in EF_LADDER:
        index.set_ef(ef)
        recall_good, recall_pseudo = recall_at_1(index, bank, good), recall_at_1(index, bank, pseudo)
        if recall_good >= MIN_RECALL_GOOD and recall_pseudo >= MIN_RECALL_PSEUDO:
            break
    return index, IndexFacts(
        M=M_LINKS,
        ef_construction=EF_CONSTRUCTION,
        ef=ef,
        seed=seed,
        recall_good=round(recall_good, 5),
        recall_pseudo=round(recall_pseudo, 5),
    )


def fastest(bank: MemoryBank, found_by: dict[Search, RowSearch], good: np.ndarray) -> Search:
    """Exact search, unless one of `found_by` is faster by more than noise on good patches (n, D), one thread."""
    if bank.rows <= FEW_ROWS:
        return "exact"
    queries = bank.search.keys(np.resize(good, (TIMED_QUERIES, good.shape[1])))
    with threadpool_limits(1, user_api="blas"):
        best: Search = "exact"
        least_s = seconds(lambda: bank.nearest_rows_exact(queries))
        for name, search in found_by.items():
            took_s = seconds(partial(search.nearest_rows, queries))
            if took_s < WORTH_IT * least_s:
                best, least_s = name, took_s
    return best


def seconds(work: Callable[[], object]) -> float:
    """The least of TIMED_ROUNDS."""
    return min(timeit.repeat(work, number=1, repeat=TIMED_ROUNDS))


def _worst_excess(bank: MemoryBank, good: np.ndarray, pseudo: np.ndarray, search: RowSearch) -> float:
    return max(mean_excess(search, bank, patches) for patches in (good, pseudo))


def mean_excess(search: RowSearch, bank: MemoryBank, standardised: np.ndarray) -> float:
    """How much farther than the nearest row, as a share of its distance, the rows found for (n, D) patches are."""
    queries = bank.search.keys(standardised)
    exact = np.linalg.norm(queries - bank.keys[bank.nearest_rows_exact(queries)], axis=1)
    found = np.linalg.norm(queries - bank.keys[search.nearest_rows(queries)], axis=1)
    return float((found - exact).sum() / max(float(exact.sum()), np.finfo(np.float32).tiny))


def recall_at_1(index: HnswIndex, bank: MemoryBank, standardised: np.ndarray) -> float:
    """Share of (n, D) patches whose neighbour through the index is as near as the exact one."""
    queries = bank.search.keys(standardised)
    exact = np.linalg.norm(queries - bank.keys[bank.nearest_rows_exact(queries)], axis=1)
    found = np.linalg.norm(queries - bank.keys[index.nearest_rows(queries)], axis=1)
    return float(np.mean(found <= exact * (1 + 1e-5)))
