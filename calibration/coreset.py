"""Greedy k-centre coreset of good patches, over a stream of any length in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge.memory_bank import SearchColumns

# The pool may hold this many times the rows asked for before it is thinned.
POOL_FACTOR = 6


def greedy_k_center(keys: np.ndarray, rows: int, first: int = 0) -> tuple[np.ndarray, float]:
    """Pick `rows` of keys (N, d) so that the farthest key is as near as can be (Gonzalez, 2-approximation).

    Returns the indices in order of choice and the radius: the largest L2 distance left to a chosen key.
    """
    rows = min(rows, len(keys))
    norms = np.einsum("nd,nd->n", keys, keys)
    chosen = np.empty(rows, dtype=np.int64)
    nearest_sq = np.full(len(keys), np.inf, dtype=np.float32)
    pick = first
    for step in range(rows):
        chosen[step] = pick
        distance_sq = norms + (norms[pick] - 2.0 * (keys @ keys[pick]))
        np.minimum(nearest_sq, distance_sq, out=nearest_sq)
        nearest_sq[pick] = 0.0  # not a rounding error above it, or it could be picked twice
        pick = int(nearest_sq.argmax())
    return chosen, float(np.sqrt(max(nearest_sq[pick], 0.0)))


@dataclass
class StreamingCoreset:
    """Blocks of patches in, `rows` of them out; memory does not grow with the number of blocks.

    A patch nearer than `radius` to the pool is dropped: it would only be covered again. A full pool is
    thinned greedily to twice the rows asked for and `radius` becomes what that cover leaves, so every patch
    ever seen stays within the sum of what all thinnings left of some row.
    """

    rows: int
    search: SearchColumns
    radius: float = 0.0
    peak_pool_rows: int = 0
    _vectors: list[np.ndarray] = field(default_factory=list)
    _origins: list[np.ndarray] = field(default_factory=list)
    _left_in_all: float = 0.0

    def add(self, vectors: np.ndarray, origins: np.ndarray) -> None:
        """vectors (n, D) standardised; origins (n, 3) int64: source number, patch row, patch column."""
        if self.radius > 0:
            fresh = self._distance_to_pool(vectors) > self.radius
            vectors, origins = vectors[fresh], origins[fresh]
        self._vectors.append(vectors)
        self._origins.append(origins)
        size = sum(len(part) for part in self._vectors)
        self.peak_pool_rows = max(self.peak_pool_rows, size)
        if size > POOL_FACTOR * self.rows:
            self._thin(2 * self.rows)

    def result(self) -> tuple[np.ndarray, np.ndarray, float]:
        """vectors (rows, D), origins (rows, 3), covering radius (an upper bound over all patches seen)."""
        self._thin(self.rows)
        return self._vectors[0], self._origins[0], self._left_in_all

    def _thin(self, rows: int) -> None:
        vectors, origins = np.concatenate(self._vectors), np.concatenate(self._origins)
        chosen, left = greedy_k_center(self.search.keys(vectors), rows)
        self._vectors, self._origins = [vectors[chosen]], [origins[chosen]]
        self.radius = max(self.radius, left)
        self._left_in_all += left  # a patch's cover may itself be thinned out later: the steps add up

    def _distance_to_pool(self, vectors: np.ndarray) -> np.ndarray:
        queries = self.search.keys(vectors)
        nearest_sq = np.full(len(queries), np.inf, dtype=np.float32)
        for part in self._vectors:
            keys = self.search.keys(part)
            closeness = queries @ keys.T - 0.5 * np.einsum("md,md->m", keys, keys)
            nearest_sq = np.minimum(
                nearest_sq, np.einsum("nd,nd->n", queries, queries) - 2 * closeness.max(1, initial=-np.inf)
            )
        return np.sqrt(np.maximum(nearest_sq, 0))
