"""Evidence: pictures of rejects, of frames without a verdict and of some good ones, kept under a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Literal

import filelock
import pydantic

from edge.draw import draw_heatmap
from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.evidence_budget import Budget
from edge.outputs.evidence_store import EvidenceFiles, EvidenceStore
from edge.outputs.evidence_writer import EvidenceWriter, Job
from edge.outputs.line_file import may_pass
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr, encode_picture
from edge.regions import BoxXyxy
from edge.result import Inspection
from edge.station.control import Control
from edge.station.parts import StationPath

BYTES_IN_MB = 1_000_000
MARGIN = 0.25  # of a crop, on each side, of the region's longer side
SMALLEST_CROP_PX = 64


class EvidenceOutput(Output):
    """Pictures in a folder of their own. frames, heatmaps, crops: which ones; a crop is of a reject's strongest region.

    format: of frames and crops; png is lossless, heat-maps are always JPEG. every_nth_good: of each camera; 0: none.
    no_verdict: frames without a verdict too, of each camera one in no_verdict_every_s at most. max_mb, max_days,
    max_per_class: what may be kept, see `Budget`. min_free_mb: with less free nothing is kept. queue_mb: frames that
    wait in memory. Megabytes are 10^6 bytes.
    """

    folder: StationPath
    frames: bool = True
    heatmaps: bool = True
    crops: bool = True
    format: Literal["jpg", "png"] = "jpg"
    jpeg_quality: int = pydantic.Field(default=95, ge=1, le=100)
    every_nth_good: int = pydantic.Field(default=100, ge=0, le=1_000_000)
    no_verdict: bool = True
    no_verdict_every_s: float = pydantic.Field(default=10.0, ge=0, le=86_400)
    max_mb: float = pydantic.Field(default=2000.0, ge=0.1, le=100_000_000)
    max_days: float | None = pydantic.Field(default=None, ge=0.01, le=36_500)
    max_per_class: int | None = pydantic.Field(default=None, ge=1, le=10_000_000)
    min_free_mb: float = pydantic.Field(default=500.0, ge=0, le=100_000_000)
    queue_mb: float = pydantic.Field(default=64.0, ge=1, le=100_000)

    @pydantic.model_validator(mode="after")
    def _keeps_something(self) -> EvidenceOutput:
        if not (self.frames or self.heatmaps or self.crops):
            raise ValueError("nothing would be kept; expected at least one of frames, heatmaps, crops")
        return self

    @property
    def budget(self) -> Budget:
        """What may be kept."""
        return Budget(round(self.max_mb * BYTES_IN_MB), self.max_days, self.max_per_class)

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink; OutputError when the folder cannot be used or another run uses it."""
        return EvidenceSink(self, notify)

    def in_words(self) -> str:
        """Folder and budget."""
        good = f", 1 of {self.every_nth_good} good ones" if self.every_nth_good else ""
        days = f", {self.max_days:g} days" if self.max_days else ""
        each = f", {self.max_per_class} of each class" if self.max_per_class else ""
        return f"evidence in {self.folder}: rejects{good}; at most {self.max_mb:g} MB{days}{each}"


class EvidenceSink(Sink):
    """Chooses on the loop's thread, which costs some microseconds; all else is done by a thread of its own."""

    def __init__(self, settings: EvidenceOutput, notify: Notify) -> None:
        self._lock = _locked(settings.folder)
        self._choice = _Choice(settings)
        self._store = EvidenceStore(settings.folder, settings.budget, round(settings.min_free_mb * BYTES_IN_MB))
        self._writer = EvidenceWriter(
            self._store,
            lambda job: evidence_pictures(job, settings),
            round(settings.queue_mb * BYTES_IN_MB),
            str(settings.folder),
            notify,
        )
        self._writer.start()

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Queue one result, if its pictures are wanted; the frame is not copied."""
        if frame_bgr is not None and self._choice.is_wanted(inspection):
            self._writer.put(Job(inspection, frame_bgr, heat_map))

    def find(self, result_id: str) -> EvidenceFiles | None:
        """The files of a result, None when there are none, or not yet; from any thread."""
        return self._store.find(result_id)

    def close(self) -> None:
        """Keep what is queued, for some seconds at most."""
        self._writer.close()
        self._lock.release()


class _Choice:
    """Which results are kept."""

    def __init__(self, settings: EvidenceOutput) -> None:
        self._settings = settings
        self._good: Counter[str] = Counter()
        self._last_s: dict[str, float] = {}

    def is_wanted(self, inspection: Inspection) -> bool:
        """Whether this one is; asked once for each. A camera is counted by itself: two may take turns."""
        s, camera = self._settings, inspection.provenance.source
        if inspection.verdict == "good":
            self._good[camera] += 1
            return s.every_nth_good > 0 and self._good[camera] % s.every_nth_good == 0
        if inspection.verdict == "defect":
            return True
        now_s = monotonic()
        if not s.no_verdict or now_s - self._last_s.get(camera, float("-inf")) < s.no_verdict_every_s:
            return False
        self._last_s[camera] = now_s
        return True


def evidence_pictures(job: Job, settings: EvidenceOutput) -> Mapping[str, bytes]:
    """Encoded pictures by the ends of their names, such as `frame.jpg`; those that this result can have."""
    s, pictures = settings, dict[str, bytes]()
    if s.frames:
        pictures[f"frame.{s.format}"] = encode_picture(job.frame_bgr, f".{s.format}", s.jpeg_quality)
    if s.heatmaps and job.heat_map is not None:
        drawn_bgr = draw_heatmap(job.frame_bgr, job.heat_map, 1.0)  # it is over the threshold already
        pictures["heatmap.jpg"] = encode_picture(drawn_bgr, ".jpg", s.jpeg_quality)
    if s.crops and job.inspection.verdict == "defect" and job.inspection.regions:
        crop_bgr = cropped(job.frame_bgr, job.inspection.regions[0].box_xyxy)
        pictures[f"crop.{s.format}"] = encode_picture(crop_bgr, f".{s.format}", s.jpeg_quality)
    return pictures


def cropped(frame_bgr: FrameBgr, box_xyxy: BoxXyxy) -> FrameBgr:
    """The box with a margin around it, SMALLEST_CROP_PX wide and high at least where the frame is."""
    (H, W), (x0, y0, x1, y1) = frame_bgr.shape[:2], box_xyxy
    margin = round(MARGIN * max(x1 - x0, y1 - y0))
    left, right = _span(x0 - margin, x1 + margin, W)
    top, bottom = _span(y0 - margin, y1 + margin, H)
    return frame_bgr[top:bottom, left:right]


def _span(start: int, end: int, limit: int) -> tuple[int, int]:
    """Grown to SMALLEST_CROP_PX around its middle, and moved or cut to lie within 0 and `limit`."""
    missing = max(0, SMALLEST_CROP_PX - (end - start))
    start, end = start - missing // 2, end + missing - missing // 2
    shift = max(0, -start) - max(0, end - limit) if end - start < limit else 0
    return max(0, start + shift), min(limit, end + shift)


def _locked(folder: Path) -> filelock.BaseFileLock:
    """Two runs would remove each other's pictures. A disk that is full or read-only today is no reason to stop."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise OutputError(f"{folder}: another run keeps evidence here; give each a folder of its own") from exc
    except OSError as exc:
        if not may_pass(exc):
            raise OutputError(f"{folder}: cannot be used for evidence ({exc.strerror or exc})") from exc
    return lock
