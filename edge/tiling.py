"""Large pictures: cut into overlapping squares that are each inspected as one, and their maps joined without a seam.

A backbone sees nothing beyond its input, so a patch at the edge of a tile is judged by half of what surrounds it. Tiles
therefore overlap, and where they do their scores are averaged, each with a weight that falls to nothing at the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import PictureError
from edge.manifest import Embedding, TilingFacts
from edge.pictures import FrameBgr
from edge.regions import BoxXyxy

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tile:
    """A square of the picture. box_xyxy: source pixels. row, column: of its first patch on the picture's grid."""

    box_xyxy: BoxXyxy
    row: int
    column: int

    def cut(self, frame_bgr: FrameBgr) -> FrameBgr:
        """(tile_px, tile_px, 3), a view of the frame."""
        x0, y0, x1, y1 = self.box_xyxy
        return frame_bgr[y0:y1, x0:x1]


LookAtTile = Callable[[Tile], Floats]  # -> its patch scores (h, w)


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of a picture lie. grid_hw: patches of the whole picture. tile_hw: of one tile.

    weights: (h, w) of a tile's patches where tiles overlap. rows, columns: both sides of the picture.
    """

    grid_hw: tuple[int, int]
    tile_hw: tuple[int, int]
    tiles: tuple[Tile, ...]
    weights: Floats
    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, frame_hw: tuple[int, int], tiling: TilingFacts, embedding: Embedding) -> TilePlan:
        """Tiles that cover a picture of frame_hw, row by row; PictureError when it is smaller than one."""
        if min(frame_hw) < tiling.tile_px:
            raise PictureError(
                f"the picture is {frame_hw[1]} x {frame_hw[0]} px, tiles of {tiling.tile_px} px were calibrated; "
                "give larger pictures, or calibrate with a smaller --tile"
            )
        rows, columns = (_Axis.of(side_px, tiling, embedding, axis) for axis, side_px in enumerate(frame_hw))
        tiles = tuple(_tile(rows, columns, row, column) for row in rows.starts for column in columns.starts)
        weights = np.outer(rows.weights, columns.weights).astype(np.float32)
        return cls((rows.patches, columns.patches), embedding.grid_hw, tiles, weights, rows, columns)

    def inspected(self, keep: Mask | None) -> Iterator[Tile]:
        """Tiles with a patch to look at. keep: (h, w) bool on the picture's grid, None where all of it counts."""
        for tile in self.tiles:
            if keep is None or keep[self.patches(tile)].any():
                yield tile

    def joined(self, look_at: LookAtTile, keep: Mask | None = None) -> Floats:
        """All tiles' patch scores on the picture's grid; 0 where nobody looks.

        Only one tile's features are in memory at a time. NaN stays NaN.
        """
        total, weight = np.zeros(self.grid_hw, np.float32), np.zeros(self.grid_hw, np.float32)
        for tile in self.inspected(keep):
            patches = self.patches(tile)
            total[patches] += look_at(tile) * self.weights
            weight[patches] += self.weights
        scores = np.asarray(total / np.where(weight > 0, weight, 1), dtype=np.float32)
        return scores if keep is None else scores * keep

    def around(self, row: int, column: int) -> Tile:
        """The tile with this patch in its middle, as far as the picture goes."""
        return _tile(self.rows, self.columns, self.rows.around(row), self.columns.around(column))

    def place_yx(self, x: int, y: int) -> tuple[int, int]:
        """Row and column of the first patch of a piece as large as a tile that starts at this pixel."""
        return self.rows.first_patch(y), self.columns.first_patch(x)

    def patches(self, tile: Tile) -> tuple[slice, slice]:
        """Where a tile lies on the picture's grid."""
        h, w = self.tile_hw
        return slice(tile.row, tile.row + h), slice(tile.column, tile.column + w)


@dataclass(frozen=True)
class _Axis:
    """One side of a picture. patches: along it. starts: first patch of each tile. weights: (n,) of a tile's patches.

    align: tiles start where the coarsest tap's cells do, or the same place would look different in each of them.
    """

    side_px: int
    tile_px: int
    patches: int
    starts: list[int]
    weights: Floats
    align: int

    @classmethod
    def of(cls, side_px: int, tiling: TilingFacts, embedding: Embedding, axis: int) -> _Axis:
        in_tile = embedding.grid_hw[axis]
        patches = max(in_tile, -(-side_px * in_tile // tiling.tile_px))  # rounded up, or tiles could leave a pixel out
        overlap = -(-tiling.overlap_px * in_tile // tiling.tile_px)
        align = max(1, max(tap.stride for tap in embedding.taps) * in_tile // embedding.input_size)
        step = max(align, (in_tile - overlap) // align * align)
        starts = [*range(0, patches - in_tile, step), patches - in_tile]
        return cls(side_px, tiling.tile_px, patches, starts, ramp(in_tile, overlap), align)

    def first_pixel(self, start: int) -> int:
        """Where a tile with this first patch starts; the last one ends with the picture."""
        last_px = self.side_px - self.tile_px
        return last_px if start == self.starts[-1] else min(start * self.side_px // self.patches, last_px)

    def first_patch(self, start_px: int) -> int:
        """The other way round, of any piece as large as a tile."""
        if start_px >= self.side_px - self.tile_px:
            return self.starts[-1]
        return min(round(start_px * self.patches / self.side_px), self.starts[-1])

    def around(self, patch: int) -> int:
        """First patch of a tile with `patch` in its middle, as far as the picture goes."""
        start = (patch - len(self.weights) // 2 + self.align // 2) // self.align * self.align
        return min(max(start, 0), self.starts[-1])


def _tile(rows: _Axis, columns: _Axis, row: int, column: int) -> Tile:
    x, y = columns.first_pixel(column), rows.first_pixel(row)
    return Tile((x, y, x + columns.tile_px, y + rows.tile_px), row, column)


def ramp(patches: int, overlap: int) -> Floats:
    """(n,) 1 in the middle, falling as a squared sine towards both ends over `overlap` patches."""
    from_end = np.minimum(np.arange(patches), np.arange(patches)[::-1]) + 0.5
    risen = np.clip(from_end / max(overlap, 1), 0, 1)
    return np.asarray(np.sin(0.5 * np.pi * risen) ** 2, dtype=np.float32)
