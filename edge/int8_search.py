"""Exact search's matrix product in INT8: three times as fast, and the row it finds is the nearest or a near tie.

A key and a query are rounded to integers; the distance to the row found is taken anew in float32 by the memory bank.
So a score can only come out higher than by exact search, by a few hundredths of a percent, never lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.int8_product import KEY_LEVELS, QUERY_LEVELS, Int8Product
from edge.manifest import BackendName

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A query beyond this many times the largest number in the bank is cut off: it is odd whatever its neighbour.
QUERY_REACH = 2.0
BLOCK_CELLS = 1 << 20  # of the product at a time: 4 MiB stay in the cache


class Int8Search:
    """Nearest key by the largest q.k - |k|^2 / 2, in integers."""

    def __init__(self, keys: Floats, threads: int = 1, backend: BackendName = "onnxruntime") -> None:
        """keys: (M, d)."""
        columns = KeyColumns.of(keys)
        self._product = Int8Product(
            columns.levels, columns.query_scale, columns.meets, threads=threads, backend=backend
        )
        self._block = rows_at_once(len(keys))

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,)."""
        return nearest_rows(self._product, queries, self._block)


@dataclass(frozen=True)
class KeyColumns:
    """Keys as whole numbers. levels: (d + C, M). query_scale: of a query's numbers to levels. meets: (C,).

    The halved square of a key goes in as its last columns, which meet QUERY_LEVELS in every query, and one that meets
    1 and holds what is left.
    """

    levels: Floats
    query_scale: float
    meets: list[int]

    @classmethod
    def of(cls, keys: Floats) -> KeyColumns:
        """keys: (M, d)."""
        largest = float(np.abs(keys).max()) or 1.0
        query_scale, key_scale = level_scale(largest), largest / KEY_LEVELS
        half_squares = 0.5 * np.einsum("md,md->m", keys, keys, dtype=np.float64)
        offsets = (half_squares.mean() - half_squares) / (query_scale * key_scale)
        extra = digits(np.rint(offsets).astype(np.int64))
        levels = np.concatenate([np.rint(keys / key_scale), extra], axis=1).T
        return cls(levels, query_scale, [QUERY_LEVELS] * (extra.shape[1] - 1) + [1])


def level_scale(largest: float) -> float:
    """What a query's numbers are divided by, in a bank whose largest number is `largest`."""
    return QUERY_REACH * largest / QUERY_LEVELS


def rows_at_once(keys: int) -> int:
    """Queries whose products with so many keys stay in the cache."""
    return max(1, BLOCK_CELLS // keys)


def nearest_rows(product: Int8Product, queries: Floats, block: int) -> Ints:
    """(N, d) -> rows (N,), at most `block` queries at a time, each time as many."""
    parts = np.array_split(queries, -(-len(queries) // block))
    return np.concatenate([product.of(part).argmax(axis=1) for part in parts])


def digits(numbers: Ints) -> Floats:
    """(M,) integers -> (M, n + 1): n numbers that QUERY_LEVELS times, and one that once, add up to each.

    All are KEY_LEVELS at most; n is as small as the largest number allows, so few columns carry a small spread.
    """
    left = numbers.astype(np.float64)
    found = []
    while np.abs(left).max(initial=0) > KEY_LEVELS:
        found.append(np.clip(np.rint(left / QUERY_LEVELS), -KEY_LEVELS, KEY_LEVELS))
        left = left - QUERY_LEVELS * found[-1]
        if not found[-1].any():
            break
    return np.asarray(np.stack([*found, np.clip(left, -KEY_LEVELS, KEY_LEVELS)], axis=1), dtype=np.float32)
