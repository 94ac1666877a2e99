"""The camera loop: a frame, an inspection, a record in every sink, until the source ends or somebody stops it."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

from edge.frames import Camera, Frame, NoFrame
from edge.inspector import Inspector
from edge.result import Inspection, no_verdict
from edge.sinks import Notify, Sink


@dataclass(frozen=True)
class RunSummary:
    """What a run did. frames: records written, the sum of good, defect and no_verdict. dropped: frames never seen."""

    frames: int
    good: int
    defect: int
    no_verdict: int
    dropped: int
    reconnects: int

    def __str__(self) -> str:
        verdicts = f"{self.good} good, {self.defect} defect, {self.no_verdict} no_verdict"
        return f"{self.frames} frames: {verdicts}; {self.dropped} dropped, {self.reconnects} reconnects"


def say(text: str) -> None:
    """One line for a person, on stderr: stdout belongs to the records."""
    print(f"oddkind: {text}", file=sys.stderr, flush=True)


def run(
    camera: Camera,
    inspector: Inspector,
    sinks: Sequence[Sink],
    max_frames: int | None = None,
    stop: threading.Event | None = None,
    always_type: bool = False,
    notify: Notify = say,
) -> RunSummary:
    """Inspect what `camera` gives until it ends, `max_frames` records are written or `stop` is set.

    The caller opens and closes camera and sinks. A frame that cannot be inspected, a broken picture and a lost
    camera are `no_verdict` records; CameraError when the camera never opened, OutputError when a record is refused.
    """
    watch = _ClassWatch(inspector, notify)
    counts: Counter[str] = Counter()
    with closing(camera.frames(stop or threading.Event())) as frames:
        for item in frames:
            watch.refresh()
            inspection = _inspect(item, inspector, always_type)
            for sink in sinks:
                sink.write(inspection, item.frame_bgr if isinstance(item, Frame) else None)
            counts.update({"frames": 1, inspection.verdict: 1, "dropped": _dropped(item)})
            _tell_of_camera(item, camera, counts, notify)
            if counts["frames"] == max_frames:
                break
    return RunSummary(**{name: counts[name] for name in RunSummary.__dataclass_fields__})


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process as if nobody had asked."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _ClassWatch:
    """Takes over newly enrolled classes between frames; an unreadable store leaves the old classes in force."""

    def __init__(self, inspector: Inspector, notify: Notify) -> None:
        self._inspector, self._notify = inspector, notify
        self._complaint: str | None = None

    def refresh(self) -> None:
        """Read the store again if it was replaced; tell of a change and, once, of a failure."""
        try:
            changed = self._inspector.reload_classes()
        except Exception as exc:  # the file is not ours: whatever is wrong with it, inspection goes on
            complaint = f"{_one_line(exc)}; the classes read before stay in force"
            if complaint != self._complaint:
                self._notify(complaint)
            self._complaint = complaint
            return
        if changed:
            self._complaint = None
            self._notify(f"classes: {', '.join(self._inspector.classifier.names) or 'none'}")


def _inspect(item: Frame | NoFrame, inspector: Inspector, always_type: bool) -> Inspection:
    """An inspection that can be written as a record, whatever happens on the way."""
    bundle_id, threshold = inspector.manifest.bundle_id, inspector.image_threshold
    if isinstance(item, NoFrame):
        return no_verdict(item.provenance, bundle_id, threshold, item.reason)
    waited_ms = (monotonic() - item.grabbed_at_s) * 1e3
    try:
        inspection = inspector.inspect(item.frame_bgr, item.provenance, always_type).with_latency("wait", waited_ms)
        inspection.to_json()  # refuses NaN, which a broken head could put anywhere
    except Exception as exc:  # one strange frame must not stop the line
        return no_verdict(item.provenance, bundle_id, threshold, f"this frame cannot be inspected: {_one_line(exc)}")
    return inspection


def _tell_of_camera(item: Frame | NoFrame, camera: Camera, counts: Counter[str], notify: Notify) -> None:
    if isinstance(item, NoFrame) and item.lost:
        notify(f"{camera.name}: {item.reason}; trying to reconnect")
    elif camera.reconnects > counts["reconnects"]:
        notify(f"{camera.name}: the camera is back")
    counts["reconnects"] = camera.reconnects


def _dropped(item: Frame | NoFrame) -> int:
    return item.dropped_before if isinstance(item, Frame) else 0


def _one_line(exc: Exception) -> str:
    text = str(exc).strip()
    first = text.splitlines()[0] if text else ""
    return first if type(exc).__module__.startswith("edge") else f"{type(exc).__name__}: {first}"
