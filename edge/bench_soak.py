"""Does memory stay flat? Many frames through the whole loop, resident memory sampled on the way."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.bench_timing import ALWAYS_GOOD, ALWAYS_REJECTED, own_classifier
from edge.cameras.frames import Camera, Frame, Frames
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.loop import run
from edge.machine import machine_facts, rss_kib
from edge.notify import Notify, say
from edge.outputs.sinks import HeatMap, JsonLinesSink, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection, Provenance, utc_now

MIN_FRAMES = 100
SAMPLES = 1000  # at most; a figure every so many frames
# What is allocated once, at the first good and rejected frames, is no growth: the first tenth counts as warm-up.
WARM_UP_SHARE, MAX_WARM_UP_FRAMES = 0.1, 2000


@dataclass(frozen=True)
class Trend:
    """A least-squares line through resident memory. standard_error: of the slope, if samples were independent.

    They are not, memory comes in steps, so the error is rather too small than too large.
    """

    slope_kib_per_1000_frames: float
    standard_error: float

    @classmethod
    def of(cls, frames: npt.ArrayLike, rss: npt.ArrayLike) -> Trend:
        """frames: (n,) numbers of frames, n >= 3; rss: (n,) KiB."""
        x, y = np.asarray(frames, dtype=np.float64) / 1000, np.asarray(rss, dtype=np.float64)
        centred = x - x.mean()
        spread = float(centred @ centred)
        slope = float(centred @ y) / spread
        residuals = y - y.mean() - slope * centred
        return cls(round(slope, 3), round(float(np.sqrt(residuals @ residuals / (len(x) - 2) / spread)), 3))


@dataclass(frozen=True)
class SoakReport:
    """Resident memory over a run. start_mb: at the end of the warm-up. samples_kib: (frame, RSS) after it."""

    bundle_id: str
    runtime: str
    machine: dict[str, object]
    frames: int
    good: int
    rejected: int
    pictures: int
    warm_up_frames: int
    frames_per_s: float
    start_mb: float
    end_mb: float
    most_mb: float
    trend: Trend
    samples_kib: tuple[tuple[int, int], ...]

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A few lines for the terminal."""
        trend = self.trend
        return "\n".join(
            [
                f"bundle {self.bundle_id}, {self.runtime}, on {self.machine['cpu']}",
                f"{self.frames} frames of {self.pictures} pictures, {self.good} treated as good, {self.rejected} as "
                f"rejected and typed; {self.frames_per_s:.1f} frames/s",
                f"resident memory, MiB: {self.start_mb:.1f} after {self.warm_up_frames} frames of warm-up, "
                f"{self.end_mb:.1f} at the end, {self.most_mb:.1f} at most",
                f"slope: {trend.slope_kib_per_1000_frames:+.2f} KiB per 1,000 frames, standard error "
                f"{trend.standard_error:.2f} ({len(self.samples_kib)} samples)",
            ]
        )


def soak(inspector: Inspector, pictures: Sequence[FrameBgr], frames: int, notify: Notify = say) -> SoakReport:
    """Inspect `frames` frames, every other one treated as rejected and typed, whatever it shows.

    Changes the inspector's threshold and, when none is enrolled, its classes. UsageError for less than MIN_FRAMES.
    """
    if frames < MIN_FRAMES:
        raise UsageError(f"--soak {frames}: expected at least {MIN_FRAMES} frames, or there is no slope to see")
    if not inspector.classifier.names:
        inspector.classifier = own_classifier(inspector)
    warm_up = min(MAX_WARM_UP_FRAMES, round(frames * WARM_UP_SHARE))
    sampler = _Sampler(inspector, warm_up, frames)
    started_s = perf_counter()
    with JsonLinesSink(Path(os.devnull)) as records:
        summary = run([_Cycle(pictures, frames)], inspector, [records, sampler], notify=notify)
    seconds = perf_counter() - started_s
    if summary.no_verdict:
        raise UsageError(f"--soak: {summary.no_verdict} of {summary.frames} frames got no verdict; try --picture")
    numbers, rss = sampler.numbers.tolist(), sampler.rss_kib.tolist()
    return SoakReport(
        bundle_id=inspector.manifest.bundle_id,
        runtime=f"{inspector.backbone.name} {inspector.backbone.version} {inspector.precision}",
        machine=machine_facts(),
        frames=summary.frames,
        good=summary.good,
        rejected=summary.defect,
        pictures=len(pictures),
        warm_up_frames=warm_up,
        frames_per_s=round(summary.frames / seconds, 2),
        start_mb=_mb(rss[0]),
        end_mb=_mb(rss[-1]),
        most_mb=_mb(max(rss)),
        trend=Trend.of(numbers, rss),
        samples_kib=tuple(zip(numbers, rss, strict=True)),
    )


class _Cycle(Camera):
    """The same few pictures again and again, as a file source: no frame is dropped."""

    name = "soak"

    def __init__(self, pictures: Sequence[FrameBgr], frames: int) -> None:
        self._pictures, self._frames = pictures, frames

    def frames(self, stop: threading.Event) -> Frames:
        """`frames` frames."""
        for frame_id, frame_bgr in zip(range(self._frames), itertools.cycle(self._pictures), strict=False):
            yield Frame(frame_bgr, Provenance(self.name, frame_id, utc_now()))


class _Sampler(Sink):
    """Looks at resident memory after every so many frames, and lets good and rejected take turns."""

    def __init__(self, inspector: Inspector, warm_up: int, frames: int) -> None:
        self._inspector, self._count = inspector, 0
        self._numbers = np.arange(warm_up, frames + 1, max(1, (frames - warm_up) // SAMPLES))
        self._rss_kib = np.full(len(self._numbers), -1)  # filled now: a list would grow with what it measures
        self._taken = 0
        inspector.image_threshold = ALWAYS_GOOD

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """(n,) frames inspected at each sample."""
        return self._numbers[: self._taken]

    @property
    def rss_kib(self) -> npt.NDArray[np.int64]:
        """(n,) resident memory then."""
        return self._rss_kib[: self._taken]

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        self._count += 1
        self._inspector.image_threshold = ALWAYS_REJECTED if inspection.verdict == "good" else ALWAYS_GOOD
        if self._taken < len(self._numbers) and self._count == self._numbers[self._taken]:
            self._rss_kib[self._taken] = rss_kib()
            self._taken += 1


def _mb(kib: int) -> float:
    return round(kib / 1024, 1)
