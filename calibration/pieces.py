"""Cropped, masked and tiled products: the pieces of good pictures that are learned from, and whole frames' thresholds.

Each piece is learned from as a picture is. Only the thresholds are of whole frames: the largest score of a hundred
tiles is not that of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.build_placed_bank import cells
from calibration.detection import Thresholds
from calibration.good_pictures import Piece, Track, no_track
from calibration.thresholds import choose_threshold
from edge.anomaly import Anomaly
from edge.errors import CalibrationError, PictureError, UsageError
from edge.manifest import Embedding, ScoreFacts, TilingFacts, ViewFacts
from edge.memory_bank import PlaceYx
from edge.pictures import FrameBgr, read_picture, write_picture
from edge.regions import BoxXyxy
from edge.view import MASK_FILE, View

# More pieces teach no more. They are visited a few at a time, so that the first hundred are of many pictures and yet
# no picture is decoded for each of its pieces.
FIT_PIECES, HELD_OUT_PIECES = 1500, 300
# Where each place has a bank of its own: for each part of the picture as large as a tile.
FIT_PIECES_A_PLACE = 300
MARGIN_SHARE = 0.125  # of a tile's side; parts never lie at quite the same place
PIECES_A_VISIT = 8
HELD_OUT_SHARE, LEAST_HELD_OUT = 0.2, 2
THRESHOLD_PIECES = 8000  # of held-out frames inspected whole; at least LEAST_HELD_OUT frames are


@dataclass(frozen=True)
class ViewOptions:
    """What of a frame to inspect. tile_px, overlap_px: None for whole pictures, or the default overlap.

    roi_xyxy: source pixels. mask: a picture, white where parts are inspected; black is ignored. aligned: parts lie at
    the same place in every frame, so each place gets a bank of its own.
    """

    tile_px: int | None = None
    overlap_px: int | None = None
    roi_xyxy: BoxXyxy | None = None
    mask: Path | None = None
    aligned: bool = False

    def check(self) -> None:
        """UsageError for a combination that cannot mean anything."""
        if self.overlap_px is not None and self.tile_px is None:
            raise UsageError("--overlap goes with --tile")
        if self.aligned and self.tile_px is None:
            raise UsageError("--aligned goes with --tile; a picture in one piece has one place")
        if self.tile_px is not None and 2 * (self.overlap_px or 0) > self.tile_px:
            raise UsageError(f"--overlap {self.overlap_px}: expected at most half of --tile, {self.tile_px // 2}")

    def tiling(self) -> TilingFacts | None:
        """How frames are cut; a quarter of a tile hides the seams, see docs/performance.md."""
        if self.tile_px is None:
            return None
        overlap_px = self.tile_px // 4 if self.overlap_px is None else self.overlap_px
        margin_px = round(MARGIN_SHARE * self.tile_px) if self.aligned else None
        return TilingFacts(tile_px=self.tile_px, overlap_px=overlap_px, margin_px=margin_px)


def make_view(options: ViewOptions, paths: Sequence[Path], embedding: Embedding, score: ScoreFacts) -> View:
    """The view of a product whose good pictures are `paths`; CalibrationError for one they do not fit."""
    tiling, facts, mask = options.tiling(), None, None
    if options.roi_xyxy or options.mask or options.aligned:
        H, W = read_picture(paths[0]).shape[:2]
        mask = _read_mask(options.mask, (H, W)) if options.mask else None
        roi = options.roi_xyxy or (0, 0, W, H)
        if not (0 <= roi[0] < roi[2] <= W and 0 <= roi[1] < roi[3] <= H):
            raise CalibrationError(f"--roi: expected x,y,w,h inside {paths[0]} of {W} x {H} px")
        if mask is not None:
            roi = _around(mask, roi)
        facts = ViewFacts(frame_hw=(H, W), roi_xyxy=roi, mask=MASK_FILE if mask is not None else None)
    view = View(embedding, score, facts, tiling, mask)
    for path in () if view.is_plain else paths:
        try:
            view.pieces_xyxy(view.checked_hw(read_picture(path)))
        except PictureError as exc:
            raise CalibrationError(f"{path}: {exc}") from exc
    return view


def write_mask(view: View, folder: Path) -> None:
    """The mask beside the bundle's other files, if there is one."""
    if view.mask is not None:
        white = np.repeat(view.mask.astype(np.uint8)[..., np.newaxis] * 255, 3, axis=2)
        write_picture(folder / MASK_FILE, white)


def split_pictures(paths: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    """Pictures to learn from and pictures held out; a picture has many tiles, so even few can be spared."""
    held_out = max(LEAST_HELD_OUT, round(HELD_OUT_SHARE * len(paths)))
    return paths[:-held_out], paths[-held_out:]


def pieces_of(view: View, paths: Sequence[Path], limit: int, seed: int) -> list[Piece]:
    """At most `limit` pieces, evenly from all pictures, a few of each picture at a time."""
    rng = np.random.default_rng(seed)
    share = -(-limit // len(paths))
    visits: list[tuple[int, list[Piece]]] = []
    for path in paths:
        frame_hw = view.checked_hw(read_picture(path))
        boxes = view.pieces_xyxy(frame_hw)
        if view.aligned_plan:
            boxes = [*boxes, *_middles(view, len(boxes), rng)]
        chosen = [Piece(path, boxes[i], view.place_yx(boxes[i], frame_hw)) for i in rng.permutation(len(boxes))[:share]]
        visits += [(start, chosen[start : start + PIECES_A_VISIT]) for start in range(0, len(chosen), PIECES_A_VISIT)]
    visits.sort(key=lambda visit: visit[0])  # stable: the first few of every picture, then the next few
    return [piece for _, pieces in visits for piece in pieces][:limit]


def _middles(view: View, count: int, rng: np.random.Generator) -> list[BoxXyxy]:
    """Pieces around places drawn at random, as the device looks at odd ones: no tile has them in its middle."""
    assert view.aligned_plan and view.facts
    plan, (left, top, _, _) = view.aligned_plan, view.facts.roi_xyxy
    keep = view.keep(plan.grid_hw)
    places = np.argwhere(np.ones(plan.grid_hw, dtype=np.bool_) if keep is None else keep)
    around = [plan.around(int(row), int(column)) for row, column in places[rng.integers(len(places), size=count)]]
    return [(x0 + left, y0 + top, x1 + left, y1 + top) for x0, y0, x1, y1 in (tile.box_xyxy for tile in around)]


def fit_pieces(view: View) -> int:
    """How many pieces to learn from at most."""
    plan = view.aligned_plan
    return FIT_PIECES_A_PLACE * len(cells(plan)) if plan else FIT_PIECES


def frame_thresholds(
    view: View,
    look: Callable[[FrameBgr, PlaceYx], Anomaly],
    held_out: Sequence[Path],
    false_reject_rate: float,
    track: Track[Any] = no_track,
) -> tuple[Thresholds, int]:
    """Both thresholds from whole held-out frames, and how many there were."""
    first = view.pieces_xyxy(view.checked_hw(read_picture(held_out[0])))
    frames = held_out[: max(LEAST_HELD_OUT, THRESHOLD_PIECES // len(first))]
    seen = [view.see(read_picture(path), look) for path in track(frames, "thresholds", len(frames))]
    image = choose_threshold(np.array([s.anomaly_score for s in seen]), false_reject_rate)
    pixel = choose_threshold(np.array([s.anomaly_map.max() for s in seen]), false_reject_rate)
    return Thresholds(image, pixel), len(frames)


def _read_mask(path: Path, frame_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, white and near it."""
    mask = read_picture(path).min(axis=2) >= 128
    if mask.shape != frame_hw:
        raise CalibrationError(
            f"--mask {path}: {mask.shape[1]} x {mask.shape[0]} px, the pictures are {frame_hw[1]} x {frame_hw[0]}; "
            "draw it on one of them"
        )
    if not mask.any():
        raise CalibrationError(f"--mask {path}: nothing white in it; paint what to inspect white, the rest black")
    return np.asarray(mask)


def _around(mask: np.ndarray, roi_xyxy: BoxXyxy) -> BoxXyxy:
    """The smallest box around what the mask leaves of a region."""
    x0, y0, x1, y1 = roi_xyxy
    if not mask[y0:y1, x0:x1].any():
        raise CalibrationError("--roi and --mask leave nothing to inspect; paint some of the region white")
    x, y, w, h = cv2.boundingRect(mask[y0:y1, x0:x1].astype(np.uint8))
    return x0 + x, y0 + y, x0 + x + w, y0 + y + h
