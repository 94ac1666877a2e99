"""The camera loop: a frame, an inspection, a record in every sink, until every source ends or somebody stops it.

However many cameras there are, one thread inspects: the backbone's session and the memory bank are loaded once.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from time import monotonic
from types import FrameType

from edge.cameras.faults import FaultWatch
from edge.cameras.feeds import Ended, in_turns
from edge.cameras.frames import Camera, Frame, NoFrame
from edge.errors import CameraError
from edge.inspector import Inspector
from edge.notify import Notify, one_line, say
from edge.outputs.sinks import Sink
from edge.result import Inspection, no_verdict
from edge.run_summary import CameraSummary, RunSummary
from edge.station.service_manager import ServiceManager


def run(
    cameras: Sequence[Camera],
    inspector: Inspector,
    sinks: Sequence[Sink],
    max_frames: int | None = None,
    stop: threading.Event | None = None,
    always_type: bool = False,
    notify: Notify = say,
    watches: Sequence[FaultWatch] = (),
    manager: ServiceManager | None = None,
) -> RunSummary:
    """Inspect what `cameras` give, in turns, until all end, `max_frames` records are written or `stop` is set.

    The caller opens and closes cameras and sinks. A frame that cannot be inspected, a broken picture and a lost
    camera are `no_verdict` records. A camera that never opens is told of and the others go on; its error is raised
    when there is no other. OutputError when a record is refused. watches: one a camera, or none; a frame that one of
    them finds faulty is a `no_verdict` record too. manager: is told that the loop comes round, and of lost cameras.
    """
    manager = manager or ServiceManager()
    watch = _ClassWatch(inspector, notify)
    tallies = [_Tally(camera.name, notify) for camera in cameras]
    written = 0
    with closing(in_turns(cameras, stop or threading.Event(), manager.came_round)) as turns:
        for number, item in turns:
            if isinstance(item, Ended):
                tallies[number].end(item, tallies)
                manager.has_status(_status(tallies))
                continue
            watch.refresh()
            inspection = _inspect(item, inspector, always_type, watches[number] if watches else None)
            for sink in sinks:
                sink.write(inspection, item.frame_bgr if isinstance(item, Frame) else None)
            tallies[number].add(item, inspection)
            manager.has_record(_status(tallies))
            written += 1
            if written == max_frames:
                break
    _raise_if_all_failed(tallies)
    return RunSummary(tuple(tally.summary() for tally in tallies))


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


class _Tally:
    """Counts one camera's records, and tells when it is lost, comes back, ends or fails."""

    def __init__(self, name: str, notify: Notify) -> None:
        self.name, self._notify = name, notify
        self._counts: Counter[str] = Counter()
        self.is_lost = False
        self.has_ended = False
        self.error: Exception | None = None

    def add(self, item: Frame | NoFrame, inspection: Inspection) -> None:
        """Count one record and what was dropped before it."""
        self._counts.update({"frames": 1, inspection.verdict: 1})
        if isinstance(item, Frame):
            self._counts.update({"dropped": item.dropped_before, "reconnects": self.is_lost})
            if self.is_lost:
                self._notify(f"{self.name}: the camera is back")
            self.is_lost = False
        elif item.lost:
            self.is_lost = True
            self._notify(f"{self.name}: {item.reason}; trying to reconnect")

    def end(self, ended: Ended, tallies: Sequence[_Tally]) -> None:
        """No more from this camera; a single one needs no words, the end of the run says it."""
        self.has_ended, self.error = True, ended.error
        if len(tallies) > 1:
            what = one_line(ended.error) if ended.error else f"{self.name}: no more frames"
            self._notify(f"{what}; cameras that go on: {sum(not tally.has_ended for tally in tallies)}")

    def summary(self) -> CameraSummary:
        """What was counted."""
        return CameraSummary.of(self.name, self._counts, one_line(self.error) if self.error else None)


def _status(tallies: Sequence[_Tally]) -> str:
    """The cameras in one line."""
    lost = [tally.name for tally in tallies if tally.is_lost and not tally.has_ended]
    ended = [tally.name for tally in tallies if tally.has_ended]
    parts = [f"cameras: {len(tallies)}"]
    if lost:
        parts.append(f"lost: {', '.join(lost)}")
    if ended:
        parts.append(f"ended: {', '.join(ended)}")
    if len(lost) + len(ended) == len(tallies):
        parts.append("nothing is inspected")
    return "; ".join(parts)


def _raise_if_all_failed(tallies: Sequence[_Tally]) -> None:
    errors = [tally.error for tally in tallies if tally.error]
    if len(errors) < len(tallies):
        return
    if len(errors) == 1:
        raise errors[0]
    raise CameraError(f"all {len(errors)} cameras failed, each for the reason told above; check them and run again")


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
            complaint = f"{one_line(exc)}; the classes read before stay in force"
            if complaint != self._complaint:
                self._notify(complaint)
            self._complaint = complaint
            return
        if changed:
            self._complaint = None
            self._notify(f"classes: {', '.join(self._inspector.classifier.names) or 'none'}")


def _inspect(
    item: Frame | NoFrame, inspector: Inspector, always_type: bool, watch: FaultWatch | None = None
) -> Inspection:
    """An inspection that can be written as a record, whatever happens on the way."""
    bundle_id, threshold = inspector.manifest.bundle_id, inspector.image_threshold
    if isinstance(item, NoFrame):
        return no_verdict(item.provenance, bundle_id, threshold, item.reason)
    waited_ms = (monotonic() - item.grabbed_at_s) * 1e3
    try:
        if watch and (fault := watch.fault(item)):
            return no_verdict(item.provenance, bundle_id, threshold, fault)
        inspection = inspector.inspect(item.frame_bgr, item.provenance, always_type).with_latency("wait", waited_ms)
        inspection.to_json()  # refuses NaN, which a broken head could put anywhere
    except Exception as exc:  # one strange frame must not stop the line
        return no_verdict(item.provenance, bundle_id, threshold, f"this frame cannot be inspected: {one_line(exc)}")
    return inspection
