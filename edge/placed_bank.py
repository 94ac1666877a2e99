"""A memory bank for parts that always lie at the same place in the frame: each place has a bank of its own.

A texture that is good in one corner of a part is a defect in another. So a piece of the picture is compared only with
rows that were seen where the piece lies, or a margin around it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edge.errors import BundleError
from edge.int8_search import Int8Search
from edge.manifest import BackendName, TilingFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, PlaceYx, SearchColumns
from edge.tiling import TilePlan

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Banks of other places than the plan's tiles that are kept, of odd places and closeups.
OTHER_PLACES = 32


class PlacedBank(MemoryBank):
    """Rows of all places. `patch_yx` of its arrays is on the whole picture's grid.

    Banks of single places share the rows and their keys with it; what each needs for its search is made when it is
    first asked for, and kept for as many places as the plan has tiles and OTHER_PLACES more.
    """

    def __init__(
        self,
        arrays: MemoryBankArrays,
        search: SearchColumns,
        plan: TilePlan,
        margin: int,
        in_int8: bool,
        threads: int = 1,
        backend: BackendName = "onnxruntime",
    ) -> None:
        """margin: patches around a piece whose rows count too. BundleError when a piece could have no row at all."""
        super().__init__(arrays, search)
        self._plan, self._margin, self._in_int8 = plan, margin, in_int8
        self._threads, self._backend = threads, backend
        self._near = lru_cache(maxsize=len(plan.tiles) + OTHER_PLACES)(self._bank_near)
        if not _has_rows_everywhere(arrays.patch_yx, plan, margin):
            raise BundleError("memory bank: places without any row near them; calibrate with more --bank-rows")

    @classmethod
    def of(
        cls,
        bank: MemoryBank,
        plan: TilePlan,
        tiling: TilingFacts,
        in_int8: bool,
        threads: int = 1,
        backend: BackendName = "onnxruntime",
    ) -> PlacedBank:
        """The rows of `bank`, each where it was seen."""
        margin = -(-(tiling.margin_px or 0) * plan.tile_hw[0] // tiling.tile_px)
        return cls(bank.arrays, bank.search, plan, margin, in_int8, threads, backend)

    @property
    def is_exact(self) -> bool:
        """Whether the row found is always the nearest of those at its place."""
        return not self._in_int8

    def searched_exactly(self) -> PlacedBank:
        """The same rows at the same places, searched exactly."""
        return PlacedBank(self.arrays, self.search, self._plan, self._margin, in_int8=False)

    def near(self, place_yx: PlaceYx) -> MemoryBank:
        """The bank of the piece whose first patch is this one."""
        return self._near(place_yx)

    def rows_near(self, place_yx: PlaceYx) -> Ints:
        """Rows that the piece whose first patch is this one is compared with."""
        offset = self.arrays.patch_yx - np.array(place_yx)
        inside = (offset >= -self._margin) & (offset < np.array(self._plan.tile_hw) + self._margin)
        return np.flatnonzero(inside.all(axis=1))

    def _bank_near(self, place_yx: PlaceYx) -> MemoryBank:
        rows = self.rows_near(place_yx)
        keys = self.keys[rows]
        search = _exact(keys)
        if self._in_int8:
            search = Int8Search(keys, self._threads, self._backend).nearest_rows
        bank: MemoryBank = copy(self)
        bank._index = _Among(rows, search)
        return bank


class _Among:
    """A search of some of a bank's rows."""

    def __init__(self, rows: Ints, search: Callable[[Floats], Ints]) -> None:
        self._rows, self._search = rows, search

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,) of the whole bank."""
        return self._rows[self._search(queries)]


def _exact(keys: Floats) -> Callable[[Floats], Ints]:
    nothing, origin = np.zeros(keys.shape[1], np.float32), np.zeros(len(keys), np.int64)
    arrays = MemoryBankArrays(keys, nothing, nothing, origin, np.column_stack([origin, origin]))
    return MemoryBank(arrays, SearchColumns.alike(np.arange(keys.shape[1]))).nearest_rows_exact


def _has_rows_everywhere(patch_yx: Ints, plan: TilePlan, margin: int) -> bool:
    """Whether a piece at any place has a row. patch_yx: (M, 2) on the picture's grid."""
    rows = np.zeros(plan.grid_hw, np.int64)
    np.add.at(rows, tuple(patch_yx.T), 1)
    padded = np.pad(rows, [(margin + 1, margin)] * 2).cumsum(axis=0).cumsum(axis=1)
    h, w = (side + 2 * margin for side in plan.tile_hw)
    return bool((padded[h:, w:] - padded[:-h, w:] - padded[h:, :-w] + padded[:-h, :-w] > 0).all())
