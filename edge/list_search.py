"""Search of a large bank by inverted lists: rows lie in clusters, a patch is compared with those of its nearest.

A row in a cluster that was not looked into is missed, so a distance can come out too long, never too short. The patches
that look oddest decide the anomaly score: they are looked up a second time, in more clusters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import BundleError
from edge.manifest import ListFacts

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LISTS_FILE = "memory_bank_lists.npy"
ODD_SHARE = 0.05  # of a frame's patches that are looked up twice
ROWS_AT_ONCE = 4096


class ListSearch:
    """Nearest key among those of the `probes` nearest lists; of the `odd_probes` nearest for the oddest patches."""

    def __init__(self, keys: Floats, centres: Floats, facts: ListFacts) -> None:
        """keys: (M, d). centres: (L, d) of the lists."""
        self._facts = facts
        self._centres_t, self._half_centres = np.ascontiguousarray(centres.T), half_squares(centres)
        own = nearest_centre(keys, centres)
        self._bank_rows = np.argsort(own, kind="stable")  # the rows of a list lie side by side
        self._starts = np.searchsorted(own[self._bank_rows], np.arange(len(centres) + 1))
        ordered = keys[self._bank_rows]
        self._keys_with_norm = np.concatenate([ordered, -half_squares(ordered)[:, np.newaxis]], axis=1)

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,)."""
        closeness = np.full(len(queries), -np.inf, dtype=np.float32)  # q.k - |k|^2 / 2 of the best row so far
        found = np.zeros(len(queries), dtype=np.int64)
        to_lists = queries @ self._centres_t - self._half_centres
        with_one = np.concatenate([queries, np.ones((len(queries), 1), dtype=np.float32)], axis=1)
        self._look_into(np.arange(len(queries)), to_lists, self._facts.probes, with_one, closeness, found)
        odd = oddest(np.einsum("nd,nd->n", queries, queries) - 2 * closeness)
        self._look_into(odd, to_lists[odd], self._facts.odd_probes, with_one, closeness, found)
        return np.asarray(self._bank_rows[found])

    def _look_into(
        self, patches: Ints, to_lists: Floats, probes: int, with_one: Floats, closeness: Floats, found: Ints
    ) -> None:
        """Compare `patches` with the rows of their `probes` nearest lists, one list at a time; keep what is nearer."""
        probes = min(probes, to_lists.shape[1])
        chosen = np.argpartition(to_lists, -probes, axis=1)[:, -probes:].ravel()
        order = np.argsort(chosen, kind="stable")
        visitors = np.repeat(patches, probes)[order]
        lists, first = np.unique(chosen[order], return_index=True)
        for number, these in zip(lists, np.split(visitors, first[1:]), strict=True):
            start, end = self._starts[number], self._starts[number + 1]
            if start == end:
                continue
            products = with_one[these] @ self._keys_with_norm[start:end].T
            best = products.argmax(axis=1)
            values = products[np.arange(len(best)), best]
            nearer = values > closeness[these]
            closeness[these[nearer]], found[these[nearer]] = values[nearer], start + best[nearer]


def oddest(distances_sq: Floats) -> Ints:
    """(N,) -> the ODD_SHARE that is farthest, at least one."""
    count = min(len(distances_sq), max(1, round(ODD_SHARE * len(distances_sq))))
    return np.argpartition(distances_sq, len(distances_sq) - count)[-count:] if count else np.empty(0, dtype=np.int64)


def nearest_centre(keys: Floats, centres: Floats) -> Ints:
    """(M, d) -> the centre (M,) each is nearest to."""
    half = half_squares(centres)
    blocks = (keys[start : start + ROWS_AT_ONCE] for start in range(0, len(keys), ROWS_AT_ONCE))
    return np.concatenate([(block @ centres.T - half).argmax(axis=1) for block in blocks])


def half_squares(vectors: Floats) -> Floats:
    """(n, d) -> |v|^2 / 2 (n,)."""
    return np.asarray(0.5 * np.einsum("nd,nd->n", vectors, vectors), dtype=np.float32)


def load_centres(folder: Path, dim: int, facts: ListFacts) -> Floats:
    """(L, d) of a bundle; BundleError when they are not what the manifest says."""
    path = folder / LISTS_FILE
    try:
        centres = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as exc:
        raise BundleError(f"{path}: not the centres of lists ({exc}); calibrate again") from exc
    if centres.shape != (facts.lists, dim):
        raise BundleError(f"{path}: {centres.shape}, the manifest says {facts.lists} lists of {dim}; calibrate again")
    return np.asarray(centres, dtype=np.float32)
