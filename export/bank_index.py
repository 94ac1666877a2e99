"""Memory bank -> HNSW index file, with the `ef` that finds the true neighbour. Torch-free, runs on the device too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.manifest import IndexFacts
from edge.memory_bank import INDEX_FILE, HnswIndex, MemoryBank

M_LINKS = 16
EF_CONSTRUCTION = 200
EF_LADDER = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Recall tuned on good patches overstates recall on defects, so both are asked for.
MIN_RECALL_GOOD = 0.99
MIN_RECALL_PSEUDO = 0.98
# One step of the graph search costs about as much as this many rows of one matrix product (measured: 2,000 rows
# break even near ef 10, at ef 24 exact search is twice as fast).
ROWS_PER_EF = 200


def index_bank(
    folder: Path, bank: MemoryBank, good: np.ndarray, pseudo: np.ndarray, seed: int = 0
) -> tuple[IndexFacts, bool]:
    """Write the index of `bank` into `folder`; good, pseudo: (n, D) standardised patches to measure recall@1 with.

    Takes the smallest `ef` of EF_LADDER that meets both recalls. The second value says whether
    to search it: False when no `ef` does, or when exact search of so few rows is the faster one.
    """
    index = HnswIndex.build(bank.keys, M_LINKS, EF_CONSTRUCTION, seed, EF_LADDER[0])
    index.save(folder / INDEX_FILE)
    index = HnswIndex.load(folder / INDEX_FILE, bank.keys.shape[1], bank.rows, EF_LADDER[0])
    recall_good = recall_pseudo = 0.0
    for ef in EF_LADDER:
        index.set_ef(ef)
        recall_good, recall_pseudo = recall_at_1(index, bank, good), recall_at_1(index, bank, pseudo)
        if recall_good >= MIN_RECALL_GOOD and recall_pseudo >= MIN_RECALL_PSEUDO:
            break
    facts = IndexFacts(
        M=M_LINKS,
        ef_construction=EF_CONSTRUCTION,
        ef=ef,
        seed=seed,
        recall_good=round(recall_good, 5),
        recall_pseudo=round(recall_pseudo, 5),
    )
    meets_recall = recall_good >= MIN_RECALL_GOOD and recall_pseudo >= MIN_RECALL_PSEUDO
    return facts, meets_recall and bank.rows >= ROWS_PER_EF * ef


def recall_at_1(index: HnswIndex, bank: MemoryBank, standardised: np.ndarray) -> float:
    """Share of (n, D) patches whose neighbour through the index is as near as the exact one."""
    queries = bank.search.keys(standardised)
    exact = np.linalg.norm(queries - bank.keys[bank.nearest_rows_exact(queries)], axis=1)
    found = np.linalg.norm(queries - bank.keys[index.nearest_rows(queries)], axis=1)
    return float(np.mean(found <= exact * (1 + 1e-5)))
