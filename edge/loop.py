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
from edge.judging import Judged, judge
from edge.notify import Notify, one_line, say
from edge.outputs.sinks import Sink
from edge.run_summary import CameraSummary, RunSummary
from edge.station.control import Control
from edge.station.service_manager import ServiceManager

ROUND_S = 0.1  # how often outputs hear that the loop is alive


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
    control: Control | None = None,
) -> RunSummary:
    """Inspect what `cameras` give, in turns, until all end, `max_frames` records are written or `stop` is set.

    The caller opens and closes cameras and sinks. A frame that cannot be inspected, a broken picture and a lost
    camera are `no_verdict` records. A camera that never opens is told of and the others go on; its error is raised
    when there is no other. OutputError when a record is refused. watches: one a camera, or none; a frame that one of
    them finds faulty is a `no_verdict` record too. manager: is told that the loop comes round, and of lost cameras.
    control: says whether to inspect; while it is paused the pictures of live cameras are shown and not judged.
    """
    manager, control = manager or ServiceManager(), control or Control()
    watch = _ClassWatch(inspector, notify)
    tallies = [_Tally(camera, notify, control) for camera in cameras]
    rounds = _Rounds(manager, control, tallies, sinks)
    written = 0
    with closing(
        in_turns(cameras, stop or threading.Event(), rounds.came_round, lambda: not control.is_armed)
    ) as turns:
        for number, item in turns:
            if isinstance(item, Ended):
                tallies[number].end(item, tallies)
                manager.has_status(_status(tallies))
                continue
            if not control.is_armed and isinstance(item, Frame) and item.due is None:
                tallies[number].see(item)
                for sink in sinks:
                    sink.see(item.provenance.source, item.frame_bgr)
                continue
            watch.refresh()
            judged = judge(item, inspector, always_type, watches[number] if watches else None)
            for sink in sinks:
                sink.write(judged.inspection, item.frame_bgr if isinstance(item, Frame) else None, judged.heat_map)
            tallies[number].add(item, judged)
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


class _Rounds:
    """What happens each time the loop comes round, at most every ROUND_S: it is alive, and how the cameras are."""

    def __init__(
        self, manager: ServiceManager, control: Control, tallies: Sequence[_Tally], sinks: Sequence[Sink]
    ) -> None:
        self._manager, self._control, self._tallies, self._sinks = manager, control, tallies, sinks
        self._last_s = float("-inf")

    def came_round(self) -> None:
        """Called by the loop's thread alone."""
        self._manager.came_round()
        now_s = monotonic()
        if now_s - self._last_s < ROUND_S:
            return
        self._last_s = now_s
        for tally in self._tallies:
            tally.tell_trouble()
        status = self._control.status
        for sink in self._sinks:
            sink.came_round(status)


class _Tally:
    """Counts one camera's records, and tells when it is lost, comes back, ends or fails."""

    def __init__(self, camera: Camera, notify: Notify, control: Control) -> None:
        self._camera, self._notify, self._control = camera, notify, control
        self.name = camera.name
        self._fault: str | None = None
        self._counts: Counter[str] = Counter()
        self.is_lost = False
        self.has_ended = False
        self.error: Exception | None = None

    def add(self, item: Frame | NoFrame, judged: Judged) -> None:
        """Count one record and what was dropped before it."""
        self._counts.update({"frames": 1, judged.inspection.verdict: 1})
        self._fault = judged.fault
        if isinstance(item, Frame):
            self.see(item)
        elif item.lost:
            self.is_lost = True
            self._notify(f"{self.name}: {item.reason}; trying to reconnect")

    def see(self, frame: Frame) -> None:
        """A picture has come, judged or not."""
        self._counts.update({"dropped": frame.dropped_before, "reconnects": self.is_lost})
        if self.is_lost:
            self._notify(f"{self.name}: the camera is back")
        self.is_lost = False

    def tell_trouble(self) -> None:
        """Let `control` know why this camera gives nothing that could be judged, or that it does."""
        ended = ("it has ended" if self.error is None else one_line(self.error)) if self.has_ended else None
        self._control.set_trouble(self.name, ended or self._camera.trouble or self._fault)

    def end(self, ended: Ended, tallies: Sequence[_Tally]) -> None:
        """No more from this camera; a single one needs no words, the end of the run says it."""
        self.has_ended, self.error = True, ended.error
        if len(tallies) > 1:
            what = one_line(ended.error) if ended.error else f"{self.name}: no more frames"
            self._notify(f"{what}; cameras that go on: {sum(not tally.has_ended for tally in tallies)}")

    def summary(self) -> CameraSummary:
        """What was counted."""
        self._counts["reconnects"] = max(self._counts["reconnects"], self._camera.reconnects)
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
