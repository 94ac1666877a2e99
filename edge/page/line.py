"""What the page knows of the line: counts, yield, trend, the newest picture of each camera and the last rejects."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, get_args

from edge.outputs.sinks import HeatMap
from edge.page.live import LivePicture
from edge.page.rejects import Reject, Rejects
from edge.pictures import FrameBgr
from edge.result import Inspection, Verdict
from edge.station.control import Status

TREND_POINTS = 240  # of each camera
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass
class _CameraLine:
    """One camera, under the lock of `Line`."""

    name: str
    picture: LivePicture
    counts: Counter[str] = field(default_factory=Counter)
    last: Inspection | None = None
    last_at_s: float = 0.0
    is_current: bool = False  # not paused since the last record
    trend: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=TREND_POINTS))

    def to_json(self, number: int, now_s: float) -> dict[str, Any]:
        last = self.last
        since_s = now_s - self.last_at_s
        return {
            "number": number,
            "name": self.name,
            "counts": {verdict: self.counts[verdict] for verdict in VERDICTS},
            "yield_percent": yield_percent(self.counts),
            "age_s": round(since_s, 3) if last else None,
            "frame_age_s": round(since_s + last.age_ms / 1e3, 3) if last and last.age_ms is not None else None,
            "picture": self.picture.number,
            "last": last.to_record() if last else None,
            "is_current": self.is_current,
        }


class Line:
    """Fed by the loop's thread, asked by the server's; what it keeps is bounded."""

    def __init__(self, cameras: Sequence[str], rejects: Rejects, most_fps: float) -> None:
        self._cameras = {name: _CameraLine(name, LivePicture(most_fps)) for name in cameras}
        self._classes: Counter[str] = Counter()
        self._points = 0
        self._status: Status | None = None
        self._round_at_s = monotonic()
        self._lock = threading.Lock()
        self.rejects = rejects

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None) -> None:
        """A record; by the loop's thread, some hundredths of a millisecond."""
        with self._lock:
            camera = self._cameras[inspection.provenance.source]
            camera.last, camera.last_at_s, camera.is_current = inspection, monotonic(), True
            if inspection.master_part is None:
                self._count(camera, inspection)
        if frame_bgr is not None:
            camera.picture.put(frame_bgr, heat_map, inspection)
            if inspection.verdict == "defect" and inspection.master_part is None:
                self.rejects.add(Reject(inspection, frame_bgr, heat_map))

    def _count(self, camera: _CameraLine, inspection: Inspection) -> None:
        """A part of the production."""
        camera.counts[inspection.verdict] += 1
        self._points += 1
        camera.trend.append(_point(self._points, inspection))
        if inspection.verdict == "defect":
            self._classes[inspection.defect_class or ""] += 1

    def see(self, camera: str, frame_bgr: FrameBgr) -> None:
        """A picture that is not inspected."""
        self._cameras[camera].picture.put(frame_bgr)

    def came_round(self, status: Status) -> None:
        """The loop lives. After a pause nobody knows what lies before the camera, until there is a record."""
        self._status, self._round_at_s = status, monotonic()
        if status.state == "paused":
            for camera in self._cameras.values():
                camera.is_current = False

    @property
    def loop_age_s(self) -> float:
        """Since the loop came round, or since the start."""
        return monotonic() - self._round_at_s

    @property
    def pictures(self) -> list[int]:
        """Number of the newest picture of each camera, 0 before the first."""
        return [camera.picture.number for camera in self._cameras.values()]

    def picture(self, number: int) -> LivePicture | None:
        """Of the camera of this number, from 0; None when there is none."""
        cameras = list(self._cameras.values())
        return cameras[number].picture if 0 <= number < len(cameras) else None

    def state(self, trend_after: int = 0) -> dict[str, Any]:
        """All of it, ready for JSON; trend: points with numbers over `trend_after`."""
        now_s = monotonic()
        with self._lock:
            cameras = [camera.to_json(n, now_s) for n, camera in enumerate(self._cameras.values())]
            counts = sum((camera.counts for camera in self._cameras.values()), Counter())
            classes = dict(self._classes.most_common())
            trend = [{"camera": n, **p} for n, c in enumerate(self._cameras.values()) for p in _after(c, trend_after)]
        status = self._status
        for camera in cameras:
            camera["trouble"] = status.cameras.get(camera["name"]) if status else None
        return {
            "state": status.state if status else "paused",
            "reason": status.reason if status else "the station is starting",
            "loop_age_s": round(self.loop_age_s, 3),
            "counts": {verdict: counts[verdict] for verdict in VERDICTS},
            "yield_percent": yield_percent(counts),
            "classes": classes,
            "cameras": cameras,
            "rejects": self.rejects.seen,
            "trend": trend,
        }


def yield_percent(counts: Counter[str]) -> float | None:
    """Good ones of all records; what has no verdict is not good. None before the first."""
    total = sum(counts[verdict] for verdict in VERDICTS)
    return round(100 * counts["good"] / total, 2) if total else None


def _point(number: int, inspection: Inspection) -> dict[str, Any]:
    score, threshold = inspection.anomaly_score, inspection.image_threshold
    ratio = round(score / threshold, 4) if score is not None and threshold > 0 else None
    return {"n": number, "ratio": ratio, "verdict": inspection.verdict}


def _after(camera: _CameraLine, number: int) -> Iterable[dict[str, Any]]:
    return [point for point in camera.trend if point["n"] > number]
