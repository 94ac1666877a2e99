"""Memory bank -> the centres of its inverted lists, and how many of them a search has to look into."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge.list_search import ListSearch, nearest_centre
from edge.manifest import ListFacts

ROWS_A_LIST = 400
# Under this the product in INT8 is faster.
LEAST_ROWS = 5_000
SAMPLE_ROWS, LLOYD_STEPS = 30_000, 6
PROBE_LADDER = (1, 2, 3, 4, 6, 8)
ODD_PROBES = 8  # times as many for the oddest patches: they decide the score, and are few


def list_centres(keys: np.ndarray, seed: int = 0) -> np.ndarray:
    """(M, d) -> (L, d): a few steps of k-means on a sample."""
    rng = np.random.default_rng(seed)
    sample = keys[rng.choice(len(keys), min(SAMPLE_ROWS, len(keys)), replace=False)]
    centres = sample[: max(2, round(len(keys) / ROWS_A_LIST))].copy()
    for _ in range(LLOYD_STEPS):
        own = nearest_centre(sample, centres)
        order = np.argsort(own, kind="stable")
        taken, first, count = np.unique(own[order], return_index=True, return_counts=True)
        centres[taken] = np.add.reduceat(sample[order], first) / count[:, np.newaxis]
    return centres


def fewest_probes(
    keys: np.ndarray, centres: np.ndarray, excess: Callable[[ListSearch], float], most: float
) -> ListFacts | None:
    """The first step of PROBE_LADDER whose `excess` is `most` at the utmost; None when the last one's is not."""
    for probes in PROBE_LADDER:
        facts = ListFacts(lists=len(centres), probes=probes, odd_probes=ODD_PROBES * probes, excess=0)
        found = excess(ListSearch(keys, centres, facts))
        if found <= most:
            return facts.model_copy(update={"excess": round(found, 6)})
    return None
