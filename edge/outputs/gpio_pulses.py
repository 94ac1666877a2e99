"""The thread that sets a reject line: pulses at their time, and a level that is held while nothing is inspected."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from edge.gpio import OutputLine
from edge.notify import Notify, is_worth_telling, one_line

MOST_PENDING = 10_000
LOOK_S = 0.1  # how often it looks whether the line must be held
RETRY_S = 1.0
CLOSE_S = 2.0
PRIORITY = 10  # of 1 to 99


@dataclass(frozen=True)
class Hold:
    """Whether a line is to be active whatever is asked; news: what a person must be told, None when nothing."""

    is_held: bool
    news: str | None = None


class Pulses(threading.Thread):
    """Begins at once. Pulses that overlap are one, as long as all of them together; `late` counts those overdue.

    open_line: opens it, at once active or not. hold: asked ten times a second. close_active: the level that is left
    behind.
    """

    def __init__(
        self,
        name: str,
        open_line: Callable[[bool], OutputLine],
        pulse_s: float,
        hold: Callable[[], Hold],
        close_active: bool,
        notify: Notify,
    ) -> None:
        super().__init__(name="oddkind-reject", daemon=True)
        self.late = 0
        self._label, self._open_line, self._pulse_s, self._hold = name, open_line, pulse_s, hold
        self._close_active, self._notify = close_active, notify
        self._changed, self._is_closing = threading.Condition(), False
        self._starts_s: list[float] = []  # a heap
        self._until_s = float("-inf")  # the end of the pulse that goes on
        self._news: str | None = None
        self._is_failing = False
        self._is_active = hold().is_held
        self._line: OutputLine | None = open_line(self._is_active)
        self.start()

    def ask(self, start_s: float | None) -> None:
        """A pulse at this moment of `time.monotonic`, or now (None). One that is overdue begins now, and is told."""
        late_s = 0.0 if start_s is None else monotonic() - start_s
        with self._changed:
            is_full = len(self._starts_s) >= MOST_PENDING
            heapq.heappush(self._starts_s, float("-inf") if start_s is None or is_full else start_s)
            self._changed.notify()
        if late_s > 0:
            self.late += 1
            if is_worth_telling(self.late):
                self._notify(
                    f"{self._label}: a pulse was due {late_s * 1e3:.0f} ms before the verdict; late: {self.late}"
                )

    def close(self) -> None:
        """Set the line to what it is to be without us, and give it back; safe to call twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self.join(CLOSE_S)

    def run(self) -> None:
        """Set the line until closed; a chip that has gone is tried again."""
        _hurry()
        while not self._is_closing:
            try:
                self._set(self._is_due())
            except Exception as exc:
                self._fail(exc)
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(RETRY_S if self._is_failing else self._until_next_s())
        with suppress(Exception):
            self._set(self._close_active)
        self._let_go()

    def _is_due(self) -> bool:
        now_s = monotonic()
        with self._changed:
            while self._starts_s and self._starts_s[0] <= now_s:
                heapq.heappop(self._starts_s)
                self._until_s = now_s + self._pulse_s
        hold = self._hold()
        if hold.news != self._news:
            self._notify(f"{self._label}: {hold.news or 'the loop comes round again'}")
        self._news = hold.news
        return hold.is_held or now_s < self._until_s

    def _until_next_s(self) -> float:
        """Called with the lock held, so that a pulse that is asked for meanwhile is not overslept."""
        now_s = monotonic()
        moments_s = [now_s + LOOK_S, *self._starts_s[:1], *([self._until_s] if self._until_s > now_s else [])]
        return max(0.0, min(moments_s) - now_s)

    def _set(self, is_active: bool) -> None:
        if self._line is None:
            self._line = self._open_line(is_active)
            self._is_failing = False
            self._notify(f"{self._label}: it can be set again")
        elif is_active != self._is_active:
            self._line.set(is_active)
        self._is_active = is_active

    def _fail(self, exc: Exception) -> None:
        if not self._is_failing:
            self._notify(
                f"{self._label}: the line cannot be set ({one_line(exc)}); rejects are not pushed out; trying again"
            )
        self._is_failing = True
        self._let_go()

    def _let_go(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with suppress(Exception):
                line.close()


def _hurry() -> None:
    """Before every other program's threads, where this user may: a busy machine otherwise delays pulses by 10 ms."""
    with suppress(AttributeError, OSError):  # not Linux; not allowed
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))  # of this thread alone
