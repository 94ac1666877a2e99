"""The thread that draws, encodes and keeps evidence, so that neither pictures nor the disk hold the camera loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from edge.notify import Notify, Trouble, is_worth_telling, one_line
from edge.outputs.evidence_store import EvidenceStore
from edge.outputs.sinks import HeatMap
from edge.pictures import FrameBgr
from edge.result import Inspection

TIDY_S = 600.0  # how often what has become too old is looked for while nothing arrives
CLOSE_S = 8.0  # how long the end of a run waits for the disk


@dataclass(frozen=True)
class Job:
    """One result whose pictures are to be kept."""

    inspection: Inspection
    frame_bgr: FrameBgr
    heat_map: HeatMap | None

    @property
    def size_bytes(self) -> int:
        """What it takes in memory while it waits."""
        return self.frame_bgr.nbytes + (self.heat_map.nbytes if self.heat_map is not None else 0)


Pictures = Callable[[Job], Mapping[str, bytes]]


class EvidenceWriter(threading.Thread):
    """Keeps what is queued. A disk that refuses costs pictures, told when it begins and when it is over.

    max_bytes: of frames that wait; further ones are dropped and counted. name: for messages.
    """

    def __init__(self, store: EvidenceStore, pictures: Pictures, max_bytes: int, name: str, notify: Notify) -> None:
        super().__init__(name="oddkind-evidence", daemon=True)
        self._store, self._pictures, self._max_bytes, self._name = store, pictures, max_bytes, name

        def notify_safely(text: str) -> None:
            with suppress(Exception):  # a closed stderr must not end the thread
                notify(text)

        self._notify = notify_safely
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: the end
        self._waiting_bytes, self._waiting = 0, 0
        self._counting = threading.Lock()
        self._disk, self._drawing = Trouble(notify_safely), Trouble(notify_safely)
        self.dropped, self.refused = 0, 0  # by the full queue; by the disk

    def put(self, job: Job) -> None:
        """Queue one result; never waits. A single one always fits."""
        with self._counting:
            fits = not self._waiting or self._waiting_bytes + job.size_bytes <= self._max_bytes
            if fits:
                self._waiting_bytes += job.size_bytes
                self._waiting += 1
            else:
                self.dropped += 1
        if fits:
            self._queue.put(job)
        elif is_worth_telling(self.dropped):
            self._notify(f"{self._name}: the disk is too slow; results without pictures so far: {self.dropped}")

    def close(self) -> None:
        """Keep what is queued, for CLOSE_S at most, and tell of what was not."""
        self._queue.put(None)
        self.join(CLOSE_S)
        lost = self.dropped + self.refused + self._waiting
        if lost:
            self._notify(f"{self._name}: results whose pictures were not kept: {lost}")

    def run(self) -> None:
        """Until closed and nothing is queued."""
        self._guarded(self._store.list_again)
        while job := self._next():
            self._keep(job)
            with self._counting:
                self._waiting_bytes -= job.size_bytes
                self._waiting -= 1

    def _next(self) -> Job | None:
        while True:
            try:
                return self._queue.get(timeout=TIDY_S)
            except queue.Empty:
                self._guarded(self._store.tidy)

    def _keep(self, job: Job) -> None:
        try:
            pictures = self._pictures(job)
        except Exception as exc:  # a frame too strange to draw on
            self.refused += 1
            self._drawing.met(f"{self._name}: pictures cannot be made ({one_line(exc)}); inspecting goes on")
            return
        if pictures and self._guarded(lambda: self._store.save(job.inspection, pictures)):
            self._disk.over(f"{self._name}: pictures are kept again; results without so far: {self.refused}")
        elif pictures:
            self.refused += 1

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Whether the disk let us."""
        try:
            work()
        except Exception as exc:  # a disk can say anything
            reason = (exc.strerror if isinstance(exc, OSError) else None) or one_line(exc)
            self._disk.met(f"{self._name}: pictures cannot be kept ({reason}); inspecting goes on")
            return False
        return True
