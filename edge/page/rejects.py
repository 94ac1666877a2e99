"""The last rejects with all that was seen of them, in memory that is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from edge.draw import draw_heatmap, fit_within
from edge.outputs.sinks import HeatMap
from edge.pictures import FrameBgr, encode_picture
from edge.regions import BoxXyxy
from edge.result import Inspection

Evidence = Literal["frame", "heatmap", "crop"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
LARGEST_PX, CROP_PX = 2000, 320
LEAST_CROP_PX = 96
JPEG_QUALITY = 90
MARGIN = 0.4  # of the region, around it


@dataclass(frozen=True)
class Reject:
    """A defect. frame_bgr: (H, W, 3) uint8, as inspected. heat_map: (h', w'), 1 where a pixel begins to be odd."""

    inspection: Inspection
    frame_bgr: FrameBgr
    heat_map: HeatMap | None
    _made: dict[Evidence, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """What it takes to keep it."""
        return self.frame_bgr.nbytes + (self.heat_map.nbytes if self.heat_map is not None else 0)

    def jpeg(self, what: Evidence) -> bytes:
        """One picture of it; a crop is made once."""
        if what in self._made:
            return self._made[what]
        jpeg = encode_picture(_DRAWN[what](self), ".jpg", JPEG_QUALITY)
        if what == "crop":
            self._made[what] = jpeg
        return jpeg


class Rejects:
    """The newest `keep` rejects that fit into `most_bytes`, the newest of all whatever its size; from any thread."""

    def __init__(self, keep: int, most_bytes: int) -> None:
        self._keep, self._most_bytes = keep, most_bytes
        self._kept: dict[str, Reject] = {}  # by result_id, oldest first
        self._bytes = 0
        self._lock = threading.Lock()
        self.seen = 0

    def add(self, reject: Reject) -> None:
        """One more; the oldest make room for it."""
        with self._lock:
            self.seen += 1
            self._forget(reject.inspection.result_id)
            self._kept[reject.inspection.result_id] = reject
            self._bytes += reject.size_bytes
            while len(self._kept) > self._keep or (self._bytes > self._most_bytes and len(self._kept) > 1):
                self._forget(next(iter(self._kept)))

    def get(self, result_id: str) -> Reject | None:
        """None when it is no longer kept."""
        with self._lock:
            return self._kept.get(result_id)

    @property
    def newest_first(self) -> list[Reject]:
        """Those that are kept."""
        with self._lock:
            return list(reversed(self._kept.values()))

    def _forget(self, result_id: str) -> None:
        gone = self._kept.pop(result_id, None)
        self._bytes -= gone.size_bytes if gone else 0


def _heatmap(reject: Reject) -> FrameBgr:
    frame_bgr = fit_within(reject.frame_bgr, LARGEST_PX)
    return frame_bgr if reject.heat_map is None else draw_heatmap(frame_bgr, reject.heat_map, 1.0)


def _crop(reject: Reject) -> FrameBgr:
    """The strongest region with what is around it, square where the frame allows it."""
    x0, y0, x1, y1 = _window(reject)
    return fit_within(np.ascontiguousarray(reject.frame_bgr[y0:y1, x0:x1]), CROP_PX)


def _window(reject: Reject) -> BoxXyxy:
    H, W = reject.frame_bgr.shape[:2]
    if not reject.inspection.regions:
        return 0, 0, W, H
    x0, y0, x1, y1 = reject.inspection.regions[0].box_xyxy
    side = round(max(LEAST_CROP_PX, (1 + MARGIN) * max(x1 - x0, y1 - y0)))
    width, height = min(side, W), min(side, H)
    left = min(max(0, (x0 + x1 - width) // 2), W - width)
    top = min(max(0, (y0 + y1 - height) // 2), H - height)
    return left, top, left + width, top + height


_DRAWN: dict[Evidence, Callable[[Reject], FrameBgr]] = {
    "frame": lambda reject: fit_within(reject.frame_bgr, LARGEST_PX),
    "heatmap": _heatmap,
    "crop": _crop,
}
