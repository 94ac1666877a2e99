"""A tiled picture's score: its joint map, odd places in it looked at once more from the middle of a tile.

A patch near the edge of a tile is judged by half of what surrounds it, so what the joint map says of a defect hangs on
where the seams are. What is said from its middle does not, and it is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly, ScoreMap, enlarge, mean_of_largest
from edge.manifest import ScoreFacts
from edge.memory_bank import PlaceYx
from edge.pictures import FrameBgr
from edge.tiling import LookAtTile, Tile, TilePlan, ramp

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Looks that a picture gets beyond those at its tiles, at most, however large it is.
MORE_LOOKS = 16
# From the edge of a tile a defect's peak looks up to this much fainter; fainter ones are looked at again for it.
FAINTER = 0.1


def score_tiles(
    frame_bgr: FrameBgr,
    plan: TilePlan,
    look: Callable[[FrameBgr, PlaceYx], Anomaly],
    score: ScoreFacts,
    keep: Mask | None = None,
    pixel_threshold: float = math.inf,
) -> ScoreMap:
    """Every tile through `look`, joined. As many patches decide about the picture as about one tile.

    A defect is as large in a large picture as in a small one; a share of the whole picture would thin it.
    pixel_threshold: where the joint map comes near it, it is looked at once more; the strangest place always is.
    """

    def look_at(tile: Tile) -> Floats:
        return look(np.ascontiguousarray(tile.cut(frame_bgr)), (tile.row, tile.column)).patch_scores

    patch_scores = plan.joined(look_at, keep)
    patch_scores = from_the_middle(plan, patch_scores, look_at, keep, (1 - FAINTER) * pixel_threshold)
    counted = max(1, round(score.top_fraction * plan.tile_hw[0] * plan.tile_hw[1]))
    return ScoreMap(patch_scores, enlarge(patch_scores), mean_of_largest(patch_scores, counted))


def from_the_middle(plan: TilePlan, joint: Floats, look_at: LookAtTile, keep: Mask | None, odd_above: float) -> Floats:
    """(h, w) joint scores -> (h, w) with odd places looked at from their middle, the strangest first.

    odd_above: places with a lower score stay as they are, but for the strangest. A place is done when the peak that is
    left of it has been looked at itself. NaN stays NaN.
    """
    scores, distance = joint.copy(), np.full(joint.shape, np.inf, np.float32)
    done, looked = np.zeros(joint.shape, dtype=np.bool_), set(plan.tiles)
    central, from_middle = _central(plan.tile_hw), _from_middle(plan.tile_hw)
    for _ in range(MORE_LOOKS):
        tile = _next(plan, scores, done, looked, odd_above)
        if tile is None:
            break
        looked.add(tile)
        patches = plan.patches(tile)
        seen = look_at(tile) if keep is None else look_at(tile) * keep[patches]
        # Each patch is told by the look whose middle it is nearest to, so the order of the looks does not matter.
        nearer = from_middle < distance[patches]
        distance[patches] = np.where(nearer, from_middle, distance[patches])
        blend = joint[patches] + central * (seen - joint[patches])
        scores[patches] = np.where(nearer, blend, scores[patches])
    return scores


def _next(plan: TilePlan, scores: Floats, done: Mask, looked: set[Tile], odd_above: float) -> Tile | None:
    """The tile around the strangest place that is not done; those that turn out to be done are marked."""
    near_h, near_w = (side // 4 for side in plan.tile_hw)
    while not done.all():
        row, column = np.unravel_index(np.where(done, -np.inf, scores).argmax(), scores.shape)
        if done.any() and not scores[row, column] > odd_above:
            return None
        tile = plan.around(int(row), int(column))
        if tile not in looked:
            return tile
        done[max(row - near_h, 0) : row + near_h + 1, max(column - near_w, 0) : column + near_w + 1] = True
    return None


@lru_cache(maxsize=4)
def _central(tile_hw: tuple[int, int]) -> Floats:
    """(h, w) 1 in the middle half of a tile, falling towards its edges."""
    h, w = tile_hw
    return np.outer(ramp(h, h // 4), ramp(w, w // 4)).astype(np.float32)


@lru_cache(maxsize=4)
def _from_middle(tile_hw: tuple[int, int]) -> Floats:
    """(h, w) patches from the middle of a tile."""
    rows, columns = (np.abs(np.arange(side) - side / 2 + 0.5) for side in tile_hw)
    return np.asarray(np.hypot(rows[:, np.newaxis], columns), dtype=np.float32)
