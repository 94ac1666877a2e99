"""Triggers that wait for their pictures, in order; from any thread."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic

from edge.cameras.frames import Due, Frame, NoFrame
from edge.station.control import Asked

ENDED = "camera lost: it gives no more pictures"


@dataclass
class Waiting:
    """A trigger, and what became of it. in_view_at_s: a picture grabbed before shows another part.

    It is settled by a picture or by the reason why there is none. is_silence: because no picture came. is_counted: it
    takes a place in the queue.
    """

    asked: Asked
    due: Due
    in_view_at_s: float
    picture: Frame | NoFrame | None = None
    reason: str | None = None
    is_silence: bool = False
    is_counted: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it can be answered."""
        return self.picture is not None or self.reason is not None


class WaitingTriggers:
    """Every trigger leaves by `next`, in the order in which it came, once it is settled or its deadline has passed."""

    def __init__(self, deadline_s: float, delay_s: float, queue: int) -> None:
        self._deadline_s, self._delay_s, self._queue = deadline_s, delay_s, queue
        self._all: deque[Waiting] = deque()
        self._open: deque[Waiting] = deque()  # those of them that wait for a picture
        self._unanswered = 0  # of all, without those that were no more than a reason from the start
        self.changed = threading.Condition(threading.RLock())
        self.newest: Frame | None = None

    def add(self, asked: Asked, reason: str | None) -> None:
        """One more. reason: why there will be no picture, when that is known already."""
        due = Due(asked.at_s, asked.at_s + self._deadline_s)
        waiting = Waiting(asked, due, asked.at_s + self._delay_s, reason=reason)
        with self.changed:
            self._forget_settled()
            if reason is None and self._unanswered >= self._queue:
                waiting.reason = f"overrun: {self._queue} triggers were waiting already"
            self._all.append(waiting)
            if not waiting.is_settled:
                self._open.append(waiting)
                self._unanswered += 1
                waiting.is_counted = True
            self.changed.notify_all()

    def next(self, wait_s: float, stop: threading.Event | None = None) -> Waiting | None:
        """The oldest, when it is settled; None after `wait_s`, or at once when `stop` is set."""
        give_up_s = monotonic() + wait_s
        with self.changed:
            while True:
                first = self._all[0] if self._all else None
                if first and (first.is_settled or self._is_expired(first)):
                    self._unanswered -= first.is_counted
                    return self._all.popleft()
                until_s = min(give_up_s, first.due.deadline_at_s) if first else give_up_s
                left_s = until_s - monotonic()
                if (first is None and left_s <= 0) or monotonic() >= give_up_s or (stop and stop.is_set()):
                    return None
                self.changed.wait(max(0.0, left_s))

    def oldest_open(self) -> Waiting | None:
        """The oldest that waits for a picture and whose deadline has not passed."""
        with self.changed:
            self._forget_settled()
            return self._open[0] if self._open else None

    def offer(self, frame: Frame, instead: NoFrame | None = None) -> None:
        """A picture has come: it is that of the oldest trigger that it can be the picture of, and of no other."""
        with self.changed:
            self.newest = frame
            self._forget_settled()
            if self._open and self._open[0].in_view_at_s <= frame.grabbed_at_s:
                self.settle(self._open[0], instead or frame)

    def settle(self, waiting: Waiting, outcome: Frame | NoFrame | str, is_silence: bool = False) -> None:
        """Its picture, or the reason why there is none; what is settled stays so."""
        with self.changed:
            if waiting.is_settled:
                return
            if isinstance(outcome, str):
                waiting.reason, waiting.is_silence = outcome, is_silence
            else:
                waiting.picture = outcome
            self.changed.notify_all()

    def settle_all(self, reason: str) -> None:
        """None of those that wait will have a picture."""
        with self.changed:
            for waiting in self._open:
                self.settle(waiting, reason)
            self._open.clear()

    def _forget_settled(self) -> None:
        while self._open and (self._open[0].is_settled or self._is_expired(self._open[0])):
            self._open.popleft()

    def _is_expired(self, waiting: Waiting) -> bool:
        """Too late for a picture; then it is settled."""
        if not waiting.is_settled and monotonic() >= waiting.due.deadline_at_s:
            self.settle(waiting, self._too_late(waiting.in_view_at_s), is_silence=True)
        return waiting.is_settled

    def _too_late(self, in_view_at_s: float) -> str:
        if self.newest is None:
            return "timeout: no picture has come yet"
        older_s = in_view_at_s - self.newest.grabbed_at_s
        if older_s > 0:
            return f"stale frame: the newest picture is {older_s * 1e3:.0f} ms older than the part"
        return "timeout: no picture for this trigger alone; triggers come faster than pictures"
