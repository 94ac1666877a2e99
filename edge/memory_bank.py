"""The memory bank: what good patches look like. The only file that imports hnswlib.

hnswlib's file stores neither space nor dimension and a flipped bit can crash the process, so the vectors
(`memory_bank.npz`) are the truth, the index is a cache beside them, and both are opened only after
their digests have been checked against the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.errors import UNREADABLE_NPZ, BundleError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
PlaceYx = tuple[int, int]  # row, column of a piece's first patch on the grid of the whole picture

BANK_FILE = "memory_bank.npz"
INDEX_FILE = "memory_bank.hnsw"
SIGN_BIT = np.uint32(1 << 31)  # of a float32
QUERY_BLOCK = 512  # rows of distances that stay in the cache
BLOCK_CELLS = 1 << 22  # and no more distances than this at a time, however many rows the bank has


@dataclass(frozen=True)
class MemoryBankArrays:
    """What `memory_bank.npz` holds.

    vectors: (M, D) float32, standardised patch embeddings. feature_mean, feature_std: (D,) float32.
    source_index: (M,) int64 into the sources list. patch_yx: (M, 2) int64 on the patch grid of the source, of the whole
    picture where each place has a bank of its own.
    """

    vectors: Floats
    feature_mean: Floats
    feature_std: Floats
    source_index: Ints
    patch_yx: Ints

    def save(self, path: Path) -> None:
        """Write without pickle; the same arrays give the same bytes."""
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> MemoryBankArrays:
        """Read without pickle; BundleError when an array is missing or has the wrong shape."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except UNREADABLE_NPZ as exc:
            raise BundleError(f"{path}: not a memory bank ({exc}); calibrate again") from exc
        shapes = [getattr(arrays, name).shape for name in cls.__dataclass_fields__]
        rows, dim = shapes[0] if len(shapes[0]) == 2 else (0, 0)
        if rows == 0 or shapes[1:] != [(dim,), (dim,), (rows,), (rows, 2)]:
            raise BundleError(f"{path}: arrays do not fit together; calibrate again")
        return arrays


@dataclass(frozen=True)
class SearchColumns:
    """The columns of a patch embedding that distances are taken over. columns: (d,). weights: (d,) of each."""

    columns: Ints
    weights: Floats

    @classmethod
    def alike(cls, columns: Ints) -> SearchColumns:
        """Every column counts the same."""
        return cls(columns, np.ones(len(columns), dtype=np.float32))

    def keys(self, standardised: Floats) -> Floats:
        """(N, D) -> (N, d) contiguous, in the units that are searched."""
        if self._all_in_order(standardised.shape[1]):
            return np.asarray(standardised * self.weights)
        return np.ascontiguousarray(standardised[:, self.columns] * self.weights)

    def _all_in_order(self, D: int) -> bool:
        """Whether nothing has to be gathered, which takes longer than all the rest."""
        return len(self.columns) == D and bool((self.columns == np.arange(D)).all())


class RowSearch(Protocol):
    """A faster way to find the nearest row: the HNSW index, or the product in INT8."""

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,)."""


class MemoryBank:
    """Nearest good patch by L2 distance over the search columns, exact or found by `index`."""

    def __init__(self, arrays: MemoryBankArrays, search: SearchColumns, index: RowSearch | None = None) -> None:
        self.arrays = arrays
        self.search = search
        self._keys = search.keys(arrays.vectors)  # (M, d)
        self._index = index

    @cached_property
    def _keys_with_norm_t(self) -> Floats:
        """(d + 1, M), for exact search."""
        half_norms = 0.5 * np.einsum("md,md->m", self._keys, self._keys)
        return np.ascontiguousarray(np.concatenate([self._keys, -half_norms[:, np.newaxis]], axis=1).T)

    @property
    def rows(self) -> int:
        """M, the number of bank rows."""
        return len(self._keys)

    @property
    def keys(self) -> Floats:
        """(M, d) float32, what is searched."""
        return self._keys

    @property
    def is_exact(self) -> bool:
        """Whether the row found is always the nearest."""
        return self._index is None

    def searched_exactly(self) -> MemoryBank:
        """The same rows without an index."""
        return self if self.is_exact else MemoryBank(self.arrays, self.search)

    def near(self, place_yx: PlaceYx) -> MemoryBank:
        """What a piece at this place is compared with: everything, but see `edge.placed_bank`."""
        return self

    def standardise(self, patch_embeddings: Floats) -> Floats:
        """(N, D) backbone units -> (N, D), see `standardise`."""
        return standardise(patch_embeddings, self.arrays.feature_mean, self.arrays.feature_std)

    def nearest(self, standardised: Floats) -> tuple[Floats, Ints]:
        """(N, D) standardised -> L2 distances (N,) over the search columns, bank rows (N,).

        A patch that is not finite gets distance NaN, which is never `<= threshold`.
        """
        queries = self.search.keys(standardised)
        rows = self._index.nearest_rows(queries) if self._index else self.nearest_rows_exact(queries)
        # The distance is taken anew from the vectors, so every search agrees on it to the last bit.
        difference = self._keys[rows]
        difference -= queries
        return np.sqrt(np.einsum("nd,nd->n", difference, difference)), rows

    def nearest_rows_exact(self, queries: Floats) -> Ints:
        """Exact search by matrix products: (N, d) -> rows (N,). The nearest key has the largest q.k - |k|^2 / 2."""
        ones = np.ones((len(queries), 1), dtype=np.float32)
        queries_with_one = np.concatenate([queries, ones], axis=1)
        rows = np.empty(len(queries), dtype=np.int64)
        size = max(1, min(QUERY_BLOCK, BLOCK_CELLS // self.rows))
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            rows[block] = (queries_with_one[block] @ self._keys_with_norm_t).argmax(axis=1)
        return rows


def standardise(patch_embeddings: Floats, feature_mean: Floats, feature_std: Floats) -> Floats:
    """Each channel in its own standard deviations over good patches, then the signed square root.

    The root tames heavy-tailed channels: without it a few of them decide every distance (and the coreset).
    """
    z = np.subtract(patch_embeddings, feature_mean, dtype=np.float32)
    z /= feature_std
    root = np.abs(z)
    np.sqrt(root, out=root)
    # As copysign does, three times as fast: the sign bit of z over the root's bits.
    bits = z.view(np.uint32)
    bits &= SIGN_BIT
    bits |= root.view(np.uint32)
    return z


class HnswIndex:
    """A built HNSW graph over the search keys, with `ef` set (the file forgets it)."""

    def __init__(self, index: Any, ef: int) -> None:
        self._index = index
        self.set_ef(ef)

    @classmethod
    def build(cls, keys: Floats, M: int, ef_construction: int, seed: int, ef: int) -> HnswIndex:
        """Single-threaded and seeded: the same keys (M, d) give the same bytes."""
        import hnswlib

        index = hnswlib.Index(space="l2", dim=keys.shape[1])
        index.init_index(len(keys), M=M, ef_construction=ef_construction, random_seed=seed)
        index.add_items(keys, np.arange(len(keys)), num_threads=1)
        return cls(index, ef)

    @classmethod
    def load(cls, path: Path, dim: int, rows: int, ef: int) -> HnswIndex:
        """Open a file whose digest has been checked; `dim` and `rows` come from the manifest."""
        import hnswlib

        index = hnswlib.Index(space="l2", dim=dim)
        try:
            index.load_index(str(path), max_elements=rows)
        except RuntimeError as exc:
            raise BundleError(f"{path}: hnswlib cannot open it ({exc}); calibrate again") from exc
        if index.element_count != rows:
            raise BundleError(f"{path}: {index.element_count} rows, the manifest says {rows}; calibrate again")
        return cls(index, ef)

    def set_ef(self, ef: int) -> None:
        """Breadth of the search: more is slower and finds the true neighbour more often."""
        self._index.set_ef(ef)

    def save(self, path: Path) -> None:
        """Write hnswlib's own format."""
        self._index.save_index(str(path))

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,), one thread."""
        labels, _ = self._index.knn_query(queries, k=1, num_threads=1)
        rows: Ints = labels[:, 0].astype(np.int64)
        return rows
