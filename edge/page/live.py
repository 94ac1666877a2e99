"""The newest picture of a camera, encoded when somebody watches, and once for all who do."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, get_args

import cv2
import numpy as np

from edge.draw import BLACK, WHITE, draw_heatmap, fit_within, text_unit
from edge.outputs.sinks import HeatMap
from edge.pictures import FrameBgr, encode_picture
from edge.result import Inspection

View = Literal["plain", "contour", "heatmap"]
VIEWS: tuple[View, ...] = get_args(View)
LARGEST_PX = 1280
FINE_PX = 640  # a line on smaller frames would be a broad one on a screen
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Sight:
    """A frame and what was said of it. number: grows with each of a camera. inspection: None while it is paused."""

    number: int
    frame_bgr: FrameBgr
    heat_map: HeatMap | None = None
    inspection: Inspection | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What belongs to this picture, ready for JSON; boxes in pixels of a frame of `size_wh`."""
        H, W = self.frame_bgr.shape[:2]
        record = self.inspection.to_record() if self.inspection else {}
        keys = ("result_id", "verdict", "defect_class")
        regions = [{key: r[key] for key in _OF_REGION} for r in record.get("regions", ())]
        return {"number": self.number, "size_wh": [W, H], **{k: record.get(k) for k in keys}, "regions": regions}


_OF_REGION = ("box_xyxy", "peak_score", "defect_class", "relation_score")


@dataclass(frozen=True)
class Encoded:
    """A JPEG of a sight."""

    sight: Sight
    jpeg: bytes


class LivePicture:
    """One camera's newest sight, from any thread. most_fps: it is not encoded more often than that."""

    def __init__(self, most_fps: float) -> None:
        self._period_s = 1 / most_fps
        self._newest: Sight | None = None
        self._numbers = 0
        self._locks = {view: threading.Lock() for view in VIEWS}
        self._made: dict[View, Encoded] = {}
        self._made_at_s = dict.fromkeys(VIEWS, float("-inf"))
        self.encodings = 0

    def put(self, frame_bgr: FrameBgr, heat_map: HeatMap | None = None, inspection: Inspection | None = None) -> None:
        """A newer one takes its place; by the loop's thread alone, and nothing is drawn yet."""
        self._numbers += 1
        self._newest = Sight(self._numbers, frame_bgr, heat_map, inspection)

    @property
    def number(self) -> int:
        """Of the newest, 0 before the first."""
        return self._newest.number if self._newest else 0

    def due_in_s(self, view: View) -> float:
        """How long until it may be encoded again."""
        return max(0.0, self._made_at_s[view] + self._period_s - monotonic())

    def encoded(self, view: View) -> Encoded | None:
        """The newest as JPEG; who comes while it is being made waits for the same one."""
        with self._locks[view]:
            sight, made = self._newest, self._made.get(view)
            if sight is None or (made and made.sight.number == sight.number):
                return made
            jpeg = encode_picture(_drawn(sight, view), ".jpg", JPEG_QUALITY)
            self._made[view] = made = Encoded(sight, jpeg)
            self._made_at_s[view] = monotonic()
            self.encodings += 1
            return made


def _drawn(sight: Sight, view: View) -> FrameBgr:
    frame_bgr = fit_within(sight.frame_bgr, LARGEST_PX)
    if sight.heat_map is None or view == "plain":
        return frame_bgr
    return draw_heatmap(frame_bgr, sight.heat_map, 1.0) if view == "heatmap" else _contour(frame_bgr, sight.heat_map)


def _contour(frame_bgr: FrameBgr, heat_map: HeatMap) -> FrameBgr:
    """A line where pixels begin to be odd."""
    factor = 2 if max(frame_bgr.shape[:2]) < FINE_PX else 1
    size_wh = (factor * frame_bgr.shape[1], factor * frame_bgr.shape[0])
    canvas = np.array(cv2.resize(frame_bgr, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    odd = cv2.resize(heat_map, size_wh, interpolation=cv2.INTER_LINEAR) > 1
    contours, _ = cv2.findContours(odd.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(2, round(1.5 * text_unit(canvas)))
    cv2.drawContours(canvas, contours, -1, BLACK, 2 * thickness + 1)
    cv2.drawContours(canvas, contours, -1, WHITE, thickness)
    return canvas
