"""Pieces of good pictures -> a memory bank of which each place has rows of its own, for aligned parts.

The picture is divided into cells as large as a tile at most, and each gets as many rows, from patches that lie in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from calibration.build_bank import REFINE_PICTURES, STATISTICS_PICTURES, Block, BuiltBank, channel_statistics, refined
from calibration.coreset import StreamingCoreset
from calibration.good_pictures import Embedder, GoodSource, Track, no_track, place_of, read_good
from edge.bundle import search_columns
from edge.errors import CalibrationError
from edge.manifest import Search, TilingFacts
from edge.memory_bank import MemoryBank, PlaceYx, standardise
from edge.placed_bank import PlacedBank
from edge.tiling import TilePlan

MAX_ROWS = 1_000_000
# With fewer rows a place exact search takes less than a millisecond a tile.
EXACT_BELOW = 500

Cell = tuple[slice, slice]  # rows and columns of the whole picture's patches


def cells(plan: TilePlan) -> list[Cell]:
    """As few as cover the picture, none larger than a tile, all of a size as nearly as can be."""
    rows, columns = (_parts(side, tile) for side, tile in zip(plan.grid_hw, plan.tile_hw, strict=True))
    return [(row, column) for row in rows for column in columns]


def build_placed_bank(
    embedder: Embedder,
    pieces: Sequence[GoodSource],
    tap_weights: dict[str, float],
    rows: int,
    plan: TilePlan,
    tiling: TilingFacts,
    track: Track[Any] = no_track,
) -> BuiltBank:
    """`rows` for each cell. One cell's patches are in memory at a time; a piece is embedded for each it touches."""
    places = cells(plan)
    if rows * len(places) > MAX_ROWS:
        raise CalibrationError(
            f"--aligned: {rows} rows for each of {len(places)} places are more than {MAX_ROWS}; lower --bank-rows"
        )
    mean, std = channel_statistics(embedder, pieces[:STATISTICS_PICTURES], track)
    built = []
    for cell in track(places, "memory bank", len(places)):
        coreset = StreamingCoreset(rows, search_columns(embedder.embedding, tap_weights))
        for standardised, origins in _blocks(embedder, pieces, cell, mean, std):
            coreset.add(standardised, origins)
        built.append(refined(coreset, mean, std, _blocks(embedder, pieces, cell, mean, std, REFINE_PICTURES)))
    bank = PlacedBank.of(joined([b.bank for b in built]), plan, tiling, in_int8=False)
    return BuiltBank(bank, max(b.coreset_radius for b in built), max(b.peak_pool_rows for b in built))


def placed_search(rows: int) -> Search:
    """How so many rows a place are searched; an index for each would take more memory than it saves time."""
    return "exact" if rows < EXACT_BELOW else "int8"


def joined(banks: Sequence[MemoryBank]) -> MemoryBank:
    """All rows of banks that were standardised alike."""
    each = [bank.arrays for bank in banks]
    of_rows = {n: np.concatenate([getattr(a, n) for a in each]) for n in ("vectors", "source_index", "patch_yx")}
    return MemoryBank(replace(each[0], **of_rows), banks[0].search)


def _blocks(
    embedder: Embedder,
    pieces: Sequence[GoodSource],
    cell: Cell,
    mean: np.ndarray,
    std: np.ndarray,
    limit: int | None = None,
) -> Iterator[Block]:
    """Patches that lie in a cell, of `limit` pieces at most. Origins: row and column on the whole picture's grid."""
    touching = [i for i, piece in enumerate(pieces) if _touches(place_of(piece), embedder.embedding.grid_hw, cell)]
    for index in touching[:limit]:
        origins = embedder.patch_origins(index) + np.array([0, *place_of(pieces[index])])
        inside = _inside(origins, cell)
        yield standardise(embedder.embed(read_good(pieces[index]))[inside], mean, std), origins[inside]


def _touches(place_yx: PlaceYx, tile_hw: tuple[int, int], cell: Cell) -> bool:
    return all(
        start < side.stop and start + tile > side.start
        for start, tile, side in zip(place_yx, tile_hw, cell, strict=True)
    )


def _inside(origins: np.ndarray, cell: Cell) -> np.ndarray:
    """(n, 3) -> (n,) bool."""
    rows, columns = cell
    in_rows = (origins[:, 1] >= rows.start) & (origins[:, 1] < rows.stop)
    return np.asarray(in_rows & (origins[:, 2] >= columns.start) & (origins[:, 2] < columns.stop))


def _parts(side: int, tile: int) -> list[slice]:
    count = -(-side // tile)
    edges = [side * part // count for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
