"""Large pictures: cut into overlapping squares that are each inspected as one, and their maps joined without a seam.

A backbone sees nothing beyond its input, so a patch at the edge of a tile is judged by half of what surrounds it. Tiles
therefore overlap, and where they do their scores are averaged, each with a weight that falls to nothing at the edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly, ScoreMap, enlarge, mean_of_largest
from edge.errors import PictureError
from edge.manifest import Embedding, ScoreFacts, TilingFacts
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


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of a picture lie. grid_hw: patches of the whole picture. tile_hw: of one tile.

    weights: (h, w) of a tile's patches where tiles overlap.
    """

    grid_hw: tuple[int, int]
    tile_hw: tuple[int, int]
    tiles: tuple[Tile, ...]
    weights: Floats

    @classmethod
    def of(cls, frame_hw: tuple[int, int], tiling: TilingFacts, embedding: Embedding) -> TilePlan:
        """Tiles that cover a picture of frame_hw, row by row; PictureError when it is smaller than one."""
        if min(frame_hw) < tiling.tile_px:
            raise PictureError(
                f"the picture is {frame_hw[1]} x {frame_hw[0]} px, tiles of {tiling.tile_px} px were calibrated; "
                "give larger pictures, or calibrate with a smaller --tile"
            )
        rows, columns = (_Axis.of(side_px, tiling, embedding, axis) for axis, side_px in enumerate(frame_hw))
        tile_px = tiling.tile_px
        tiles = [
            Tile((x, y, x + tile_px, y + tile_px), row, column)
            for row, y in zip(rows.first_patches, rows.first_pixels, strict=True)
            for column, x in zip(columns.first_patches, columns.first_pixels, strict=True)
        ]
        weights = np.outer(rows.weights, columns.weights).astype(np.float32)
        return cls((rows.patches, columns.patches), embedding.grid_hw, tuple(tiles), weights)

    def inspected(self, keep: Mask | None) -> Iterator[Tile]:
        """Tiles with a patch to look at. keep: (h, w) bool on the picture's grid, None where all of it counts."""
        for tile in self.tiles:
            if keep is None or keep[self._patches(tile)].any():
                yield tile

    def joined(self, look: Callable[[Tile], Floats], keep: Mask | None = None) -> Floats:
        """look: a tile -> its patch scores (h, w). All of them on the picture's grid; 0 where nobody looks.

        Only one tile's features are in memory at a time. NaN stays NaN.
        """
        total, weight = np.zeros(self.grid_hw, np.float32), np.zeros(self.grid_hw, np.float32)
        for tile in self.inspected(keep):
            patches = self._patches(tile)
            total[patches] += look(tile) * self.weights
            weight[patches] += self.weights
        scores = np.asarray(total / np.where(weight > 0, weight, 1), dtype=np.float32)
        return scores if keep is None else scores * keep

    def _patches(self, tile: Tile) -> tuple[slice, slice]:
        h, w = self.tile_hw
        return slice(tile.row, tile.row + h), slice(tile.column, tile.column + w)


@dataclass(frozen=True)
class _Axis:
    """One side of a picture. patches: along it. first_patches, first_pixels: of each tile. weights: (n,) in a tile."""

    patches: int
    first_patches: list[int]
    first_pixels: list[int]
    weights: Floats

    @classmethod
    def of(cls, side_px: int, tiling: TilingFacts, embedding: Embedding, axis: int) -> _Axis:
        in_tile = embedding.grid_hw[axis]
        patch_px = tiling.tile_px / in_tile
        patches = max(in_tile, round(side_px / patch_px))
        overlap = math.ceil(tiling.overlap_px / patch_px)
        # Tiles start where the coarsest tap's cells do, or the same place would look different in each of them.
        align = max(1, max(tap.stride for tap in embedding.taps) * in_tile // embedding.input_size)
        step = max(align, (in_tile - overlap) // align * align)
        starts = [*range(0, patches - in_tile, step), patches - in_tile]
        last_px = side_px - tiling.tile_px
        pixels = [min(round(start * side_px / patches), last_px) for start in starts]
        return cls(patches, starts, [*pixels[:-1], last_px], _ramp(in_tile, overlap))


def _ramp(patches: int, overlap: int) -> Floats:
    """(n,) 1 in the middle, falling as a squared sine towards both ends over `overlap` patches."""
    from_end = np.minimum(np.arange(patches), np.arange(patches)[::-1]) + 0.5
    risen = np.clip(from_end / max(overlap, 1), 0, 1)
    return np.asarray(np.sin(0.5 * np.pi * risen) ** 2, dtype=np.float32)


def score_tiles(
    frame_bgr: FrameBgr,
    plan: TilePlan,
    look: Callable[[FrameBgr], Anomaly],
    score: ScoreFacts,
    keep: Mask | None = None,
) -> ScoreMap:
    """Every tile through `look`, joined. As many patches decide about the picture as about one tile.

    A defect is as large in a large picture as in a small one; a share of the whole picture would thin it.
    """
    patch_scores = plan.joined(lambda tile: look(np.ascontiguousarray(tile.cut(frame_bgr))).patch_scores, keep)
    counted = max(1, round(score.top_fraction * plan.tile_hw[0] * plan.tile_hw[1]))
    return ScoreMap(patch_scores, enlarge(patch_scores), mean_of_largest(patch_scores, counted))
