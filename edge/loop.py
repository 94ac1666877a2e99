"""The camera loop: a frame, an inspection, a record in every sink, until every source ends or somebody stops it.

However many cameras there are, one thread inspects: the backbone's session and the memory bank are loaded once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from types import FrameType

from edge.cameras.faults import FaultWatch
from edge.cameras.feeds import Ended, in_turns
from edge.cameras.frames import Camera, Frame, NoFrame
from edge.inspector import Inspector
from edge.judging import Judged, judge
from edge.notify import Notify, one_line, say
from edge.outputs.every_sink import EverySink
from edge.outputs.sinks import Sink
from edge.run_summary import RunSummary
from edge.station.control import Control
from edge.station.service_manager import ServiceManager
from edge.tally import Tally, in_words, raise_if_all_failed

ROUND_S = 0.1  # how often outputs hear that the loop is alive


def run(
    cameras: Sequence[Camera],
    inspector: Inspector,
    sinks: Sequence[Sink],
    max_frames: int | None = None,
    stop: threading.Event | None = None,
    always_type: bool = False,
    notify: Notify = say,
    watches: Sequence[FaultWatch | None] = (),
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
    control.sporadic = frozenset(camera.name for camera in cameras if camera.is_sporadic)
    tallies = [Tally(camera, notify, control) for camera in cameras]
    every_sink = EverySink(sinks, notify)
    line = _Line(inspector, every_sink, tallies, watches, control, always_type, _ClassWatch(inspector, notify))
    rounds = _Rounds(manager, control, tallies, every_sink)
    stop, written = stop or threading.Event(), 0
    with closing(in_turns(cameras, stop, rounds.came_round, lambda camera: not control.inspects(camera))) as turns:
        for number, item in turns:
            if isinstance(item, Ended):
                tallies[number].end(item, tallies)
                manager.has_status(in_words(tallies))
            elif isinstance(item, Frame) and item.due is None and not line.inspects(number, item):
                line.show(number, item)
            else:
                line.inspect(number, item)
                manager.has_record(in_words(tallies))
                written += 1
            if written == max_frames:
                stop.set()  # what was asked for before is answered
    raise_if_all_failed(tallies)
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


@dataclass(frozen=True)
class _Line:
    """What an item meets: the inspector, then every sink, then the camera's tally."""

    inspector: Inspector
    sink: EverySink
    tallies: Sequence[Tally]
    watches: Sequence[FaultWatch | None]
    control: Control
    always_type: bool
    classes: _ClassWatch

    def inspect(self, number: int, item: Frame | NoFrame) -> None:
        """One item becomes one record in every sink."""
        self.classes.refresh()
        judged = judge(item, self.inspector, self.always_type, self.watches[number] if self.watches else None)
        judged = self._as_master_part(number, item, judged)
        self.sink.write(judged.inspection, item.frame_bgr if isinstance(item, Frame) else None, judged.heat_map)
        self.tallies[number].add(item, judged)

    def inspects(self, number: int, frame: Frame) -> bool:
        """Whether this picture is to be judged."""
        return self.control.inspects(frame.provenance.source, self._grabbed_at_s(number, frame))

    def show(self, number: int, frame: Frame) -> None:
        """While the station is paused the picture goes to those who look, and nowhere else."""
        self.tallies[number].see(frame)
        self.sink.see(frame.provenance.source, frame.frame_bgr)

    def _as_master_part(self, number: int, item: Frame | NoFrame, judged: Judged) -> Judged:
        masters = self.control.master_parts
        if masters is None or (isinstance(item, NoFrame) and item.due is None):  # it answers no announcement
            return judged
        camera, grabbed_at_s = item.provenance.source, self._grabbed_at_s(number, item)
        return replace(judged, inspection=masters.judged(camera, judged.inspection, grabbed_at_s))

    def _grabbed_at_s(self, number: int, item: Frame | NoFrame) -> float | None:
        """When the picture was taken; None for a file, which is read ahead and shows what comes next."""
        if isinstance(item, Frame) and (item.due or self.tallies[number].camera.is_live):
            return item.grabbed_at_s
        return None


class _Rounds:
    """What happens each time the loop comes round, at most every ROUND_S: it is alive, and how the cameras are."""

    def __init__(self, manager: ServiceManager, control: Control, tallies: Sequence[Tally], sink: EverySink) -> None:
        self._manager, self._control, self._tallies, self._sink = manager, control, tallies, sink
        self._last_s = float("-inf")

    def came_round(self) -> None:
        """Called by the loop's thread alone."""
        self._manager.came_round()
        now_s = monotonic()
        if now_s - self._last_s < ROUND_S:
            return
        self._last_s = now_s
        if not self._control.is_armed or self._may_be_silent:
            self._manager.is_ready(in_words(self._tallies))  # no record may come for hours
        if self._control.master_parts:
            self._control.master_parts.came_round()
        for tally in self._tallies:
            tally.tell_trouble()
        self._sink.came_round(self._control.status)

    @property
    def _may_be_silent(self) -> bool:
        """Whether no camera that goes on is bound to give a record soon; the first record tells all the same."""
        return all(tally.camera.is_sporadic or tally.has_ended for tally in self._tallies)


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
