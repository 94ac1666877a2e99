"""What of a frame is inspected, and in which pieces: a region of interest, a mask of what to ignore, tiles.

Without any of them a frame is one picture and nothing here costs anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly, ScoreMap
from edge.errors import BundleError, PictureError
from edge.manifest import BundleManifest, Embedding, ScoreFacts, TilingFacts, ViewFacts
from edge.memory_bank import PlaceYx
from edge.odd_places import score_tiles
from edge.pictures import FrameBgr, read_picture
from edge.regions import BoxXyxy, OddRegion
from edge.tiling import TilePlan

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
LookAt = Callable[[FrameBgr, PlaceYx], Anomaly]

WHOLE: PlaceYx = (0, 0)  # where a picture lies that is seen in one piece
MASK_FILE = "inspection_mask.png"


@dataclass(frozen=True)
class ViewedMap(ScoreMap):
    """Of a frame that was cropped, masked or tiled. whole: what was seen, where it was seen in one piece."""

    whole: Anomaly | None


@dataclass(frozen=True)
class Closeup:
    """A region as it is typed: the picture it was seen in as one, what was seen there, and the region in it."""

    picture_bgr: FrameBgr
    anomaly: Anomaly
    region: OddRegion


@dataclass(frozen=True)
class View:
    """Frame -> the pictures that go through the backbone, and their maps -> the frame's map.

    mask: (H, W) bool of the frame, True where parts are inspected.
    """

    embedding: Embedding
    score: ScoreFacts
    facts: ViewFacts | None = None
    tiling: TilingFacts | None = None
    mask: Mask | None = None

    @classmethod
    def load(cls, folder: Path, manifest: BundleManifest) -> View:
        """The view of a bundle; BundleError when its mask does not fit its manifest."""
        facts, mask = manifest.view, None
        if facts and facts.mask:
            mask = read_picture(folder / facts.mask).max(axis=2) > 0
            if mask.shape != facts.frame_hw:
                raise BundleError(f"{folder}: {facts.mask} is {mask.shape}, not {facts.frame_hw}; calibrate again")
        return cls(manifest.embedding, manifest.score, facts, manifest.tiling, mask)

    @property
    def is_plain(self) -> bool:
        """Whether frames are inspected whole and in one piece."""
        return self.facts is None and self.tiling is None

    def crop(self, frame_bgr: FrameBgr) -> FrameBgr:
        """The region of interest, not copied; PictureError when the frame is of another size than it was drawn on."""
        x0, y0, x1, y1 = self._roi(self.checked_hw(frame_bgr))
        return frame_bgr[y0:y1, x0:x1]

    def checked_hw(self, frame_bgr: FrameBgr) -> tuple[int, int]:
        """(H, W) of a frame; PictureError when it is not the one that region and mask were drawn on."""
        H, W = frame_bgr.shape[:2]
        if self.facts is not None and self.facts.frame_hw != (H, W):
            drawn_h, drawn_w = self.facts.frame_hw
            raise PictureError(
                f"the frame is {W} x {H} px, {self._bound_by} {drawn_w} x {drawn_h}; "
                "set the camera as it was, or calibrate again"
            )
        return H, W

    def see(self, frame_bgr: FrameBgr, look: LookAt, pixel_threshold: float = math.inf) -> ScoreMap:
        """The whole frame's map, from one look or from one a tile and more where it comes near the threshold."""
        if self.is_plain:
            return look(frame_bgr, WHOLE)
        picture_bgr = self.crop(frame_bgr)
        seen: ScoreMap
        if self.tiling:
            plan = self.plan(_hw(picture_bgr))
            keep = self.keep(plan.grid_hw)
            seen, whole = score_tiles(picture_bgr, plan, look, self.score, keep, pixel_threshold), None
        else:
            seen = whole = look(np.ascontiguousarray(picture_bgr), WHOLE)
        return ViewedMap(seen.patch_scores, self._over_frame(seen.anomaly_map), seen.anomaly_score, whole)

    def closeup(self, frame_bgr: FrameBgr, seen: ScoreMap, region: OddRegion, look: LookAt) -> Closeup:
        """The piece of the frame in which `region` is looked at; of a tiled one a tile with the region in its middle.

        So what a region is compared by hangs on the region, not on where the tiles happen to lie.
        """
        if isinstance(seen, Anomaly):
            return Closeup(frame_bgr, seen, region)
        box_xyxy = self._window(region.box_xyxy(_hw(frame_bgr)), _hw(frame_bgr))
        x0, y0, x1, y1 = box_xyxy
        picture_bgr = np.ascontiguousarray(frame_bgr[y0:y1, x0:x1])
        anomaly = (
            seen.whole
            if isinstance(seen, ViewedMap) and seen.whole
            else look(picture_bgr, self.place_yx(box_xyxy, _hw(frame_bgr)))
        )
        mask = _cut_mask(region.mask, box_xyxy, _hw(frame_bgr), _hw(anomaly.anomaly_map))
        return Closeup(picture_bgr, anomaly, replace(region, mask=mask))

    def pieces_xyxy(self, frame_hw: tuple[int, int]) -> list[BoxXyxy]:
        """What goes through the backbone one by one, in source pixels of the frame."""
        left, top, right, bottom = self._roi(frame_hw)
        if self.tiling is None:
            return [(left, top, right, bottom)]
        plan = self.plan((bottom - top, right - left))
        boxes = [tile.box_xyxy for tile in plan.inspected(self.keep(plan.grid_hw))]
        return [(x0 + left, y0 + top, x1 + left, y1 + top) for x0, y0, x1, y1 in boxes]

    def place_yx(self, box_xyxy: BoxXyxy, frame_hw: tuple[int, int]) -> PlaceYx:
        """First patch of a piece of the frame on the grid of what is inspected."""
        if self.tiling is None:
            return WHOLE
        left, top, right, bottom = self._roi(frame_hw)
        return self.plan((bottom - top, right - left)).place_yx(box_xyxy[0] - left, box_xyxy[1] - top)

    @property
    def aligned_plan(self) -> TilePlan | None:
        """Tiles of the frames that were calibrated, where each place has a bank of its own."""
        if self.tiling is None or self.tiling.margin_px is None:
            return None
        if self.facts is None:
            raise BundleError("manifest: a bank for each place, but no size of frames; calibrate again")
        left, top, right, bottom = self.facts.roi_xyxy
        return self.plan((bottom - top, right - left))

    @property
    def _bound_by(self) -> str:
        if self.tiling and self.tiling.margin_px is not None:
            return "each place has a bank of its own, on frames of"
        return "region of interest and mask were drawn on"

    def plan(self, picture_hw: tuple[int, int]) -> TilePlan:
        """Tiles of a picture that has been cropped already."""
        assert self.tiling
        return _plan(picture_hw, self.tiling, self.embedding)

    def keep(self, grid_hw: tuple[int, int]) -> Mask | None:
        """(h, w) patches with anything to inspect in them; None where that is all of them."""
        if self.mask is None:
            return None
        return _shrunk(self.crop(self.mask.astype(np.uint8)), grid_hw)

    def _roi(self, frame_hw: tuple[int, int]) -> BoxXyxy:
        return self.facts.roi_xyxy if self.facts else (0, 0, frame_hw[1], frame_hw[0])

    def _over_frame(self, anomaly_map: Floats) -> Floats:
        """A map of the region of interest -> one of the frame, 0 outside; no finer than the frame itself."""
        if self.facts is None or self.facts.roi_xyxy == (0, 0, *self.facts.frame_hw[::-1]):
            return anomaly_map
        (H, W), (x0, y0, x1, y1) = self.facts.frame_hw, self.facts.roi_xyxy
        map_h, map_w = anomaly_map.shape
        over = np.zeros((min(H, round(map_h * H / (y1 - y0))), min(W, round(map_w * W / (x1 - x0)))), np.float32)
        (top, bottom), (left, right) = _cells(y0, y1, H, len(over)), _cells(x0, x1, W, over.shape[1])
        over[top:bottom, left:right] = cv2.resize(anomaly_map, (right - left, bottom - top))
        return over

    def _window(self, box_xyxy: BoxXyxy, frame_hw: tuple[int, int]) -> BoxXyxy:
        """Inside the region of interest: all of it, or the tile around the box's middle."""
        left, top, right, bottom = self._roi(frame_hw)
        if self.tiling is None:
            return left, top, right, bottom
        side = self.tiling.tile_px
        x = min(max((box_xyxy[0] + box_xyxy[2] - side) // 2, left), right - side)
        y = min(max((box_xyxy[1] + box_xyxy[3] - side) // 2, top), bottom - side)
        return x, y, x + side, y + side


@lru_cache(maxsize=8)
def _plan(picture_hw: tuple[int, int], tiling: TilingFacts, embedding: Embedding) -> TilePlan:
    return TilePlan.of(picture_hw, tiling, embedding)


def _shrunk(mask: npt.NDArray[np.uint8], hw: tuple[int, int]) -> Mask:
    """Cells that at least one pixel of the mask lies in."""
    return np.asarray(cv2.resize(mask.astype(np.float32), hw[::-1], interpolation=cv2.INTER_AREA) > 0)


def _cut_mask(mask: Mask, box_xyxy: BoxXyxy, frame_hw: tuple[int, int], hw: tuple[int, int]) -> Mask:
    """(h', w') of the frame -> (hw) of the window; never empty."""
    (top, bottom), (left, right) = (
        _cells(box_xyxy[1], box_xyxy[3], frame_hw[0], mask.shape[0]),
        _cells(box_xyxy[0], box_xyxy[2], frame_hw[1], mask.shape[1]),
    )
    inside = mask[top:bottom, left:right].astype(np.uint8)
    cut = np.asarray(cv2.resize(inside, hw[::-1], interpolation=cv2.INTER_NEAREST) > 0)
    return cut if cut.any() else _shrunk(inside, hw) if inside.any() else np.ones(hw, dtype=np.bool_)


def _cells(start_px: int, stop_px: int, side_px: int, cells: int) -> tuple[int, int]:
    """Cells of a map of `cells` over `side_px` that lie between two pixels, at least one."""
    start = min(round(start_px * cells / side_px), cells - 1)
    return start, max(start + 1, round(stop_px * cells / side_px))


def _hw(array: npt.NDArray[np.generic]) -> tuple[int, int]:
    return array.shape[0], array.shape[1]
