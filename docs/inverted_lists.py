"""Search of a large bank by inverted lists, a trial of docs/bank_size.py: not part of the product.

Rows are clustered; a patch is compared with the rows of its nearest lists only, and the oddest patches, which decide
the image score, with those of several more. A distance can come out too long, never too short.
"""

from __future__ import annotations

import numpy as np

SAMPLE_ROWS, LLOYD_STEPS = 30_000, 6


class InvertedLists:
    """keys: (M, d) float32. probes: lists for every patch. more_probes: for the `odd_share` that is farthest."""

    def __init__(self, keys: np.ndarray, lists: int, probes: int = 1, more_probes: int = 8, odd_share: float = 0.05):
        self.probes, self.more_probes, self.odd_share = probes, more_probes, odd_share
        self.centres = centres(keys, lists)
        own = nearest(keys, self.centres)
        self.order = np.argsort(own, kind="stable")
        self.starts = np.searchsorted(own[self.order], np.arange(lists + 1))
        ordered = keys[self.order]
        half = 0.5 * np.einsum("md,md->m", ordered, ordered)
        self.rows = np.concatenate([ordered, -half[:, np.newaxis]], axis=1)
        self.half_of_centres = 0.5 * np.einsum("md,md->m", self.centres, self.centres)

    @property
    def bytes(self) -> int:
        """Of everything a search reads."""
        return sum(array.nbytes for array in (self.rows, self.order, self.centres, self.starts))

    def nearest_rows(self, queries: np.ndarray) -> np.ndarray:
        """(N, d) -> rows (N,)."""
        closeness_of_lists = queries @ self.centres.T - self.half_of_centres
        with_one = np.concatenate([queries, np.ones((len(queries), 1), np.float32)], axis=1)
        closeness, rows = np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)
        everyone = np.arange(len(queries))
        self._visit(everyone, closeness_of_lists, self.probes, with_one, closeness, rows)
        odd = int(self.odd_share * len(queries))
        if odd and self.more_probes > self.probes:
            distance_sq = np.einsum("nd,nd->n", queries, queries) - 2 * closeness
            farthest = np.argpartition(distance_sq, -odd)[-odd:]
            self._visit(farthest, closeness_of_lists[farthest], self.more_probes, with_one, closeness, rows)
        return self.order[rows]

    def _visit(self, who, closeness_of_lists, probes, with_one, closeness, rows) -> None:  # type: ignore[no-untyped-def]
        """Compare the patches `who` with their nearest lists, list by list, and keep what is nearer."""
        probes = min(probes, len(self.centres))
        chosen = np.argpartition(closeness_of_lists, -probes, axis=1)[:, -probes:].ravel()
        order = np.argsort(chosen, kind="stable")
        visitors, chosen = np.repeat(who, probes)[order], chosen[order]
        found, first = np.unique(chosen, return_index=True)
        for which, start, end in zip(found, first, [*first[1:], len(chosen)], strict=True):
            patches, begin = visitors[start:end], self.starts[which]
            product = with_one[patches] @ self.rows[begin : self.starts[which + 1]].T
            if not product.shape[1]:
                continue
            best = product.argmax(axis=1)
            value = product[np.arange(len(best)), best]
            nearer = value > closeness[patches]
            closeness[patches[nearer]], rows[patches[nearer]] = value[nearer], begin + best[nearer]


def centres(keys: np.ndarray, lists: int) -> np.ndarray:
    """(lists, d) by a few steps of k-means on a sample, seeded."""
    rng = np.random.default_rng(0)
    sample = keys[rng.choice(len(keys), min(SAMPLE_ROWS, len(keys)), replace=False)]
    found = sample[:lists].copy()
    for _ in range(LLOYD_STEPS):
        own = nearest(sample, found)
        order = np.argsort(own, kind="stable")
        taken, first, count = np.unique(own[order], return_index=True, return_counts=True)
        found[taken] = np.add.reduceat(sample[order], first) / count[:, np.newaxis]
    return found


def nearest(keys: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(M, d) -> (M,) number of the nearest centre."""
    half = 0.5 * np.einsum("md,md->m", centres, centres)
    return np.concatenate([(keys[i : i + 4096] @ centres.T - half).argmax(1) for i in range(0, len(keys), 4096)])
