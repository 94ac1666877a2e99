"""Several cameras as one stream, fair to each: a thread a camera fetches, one consumer takes in turns.

Whoever inspects never waits for a camera that has nothing: it takes from the next one that has. What is fetched and
not yet taken is bounded. A live camera's frame is replaced by a newer one and counted as dropped; a file waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from time import monotonic

from edge.cameras.frames import Camera, Frame, NoFrame

FRAMES_AHEAD = 2  # of a file: one is read while another waits, so that a camera whose turn it is has one
LONGEST_END_S = 5.0
POLL_S = 0.1  # how soon a stop is noticed while nothing arrives


@dataclass(frozen=True)
class Ended:
    """A camera that gives no more frames. error: why, None when its file or folder simply came to its end."""

    error: Exception | None = None


Item = Frame | NoFrame | Ended
Turns = Generator[tuple[int, Item], None, None]
IsPaused = Callable[[str], bool]  # of a camera's name


def never(camera: str) -> bool:
    """No camera is paused."""
    return False


def in_turns(
    cameras: Sequence[Camera],
    stop: threading.Event,
    came_round: Callable[[], None] = lambda: None,
    is_paused: IsPaused = never,
) -> Turns:
    """(number of the camera, what it gave), round robin over those that have something; ends with the last or `stop`.

    Of each camera `Ended` is the last item. Closing the generator, as any end of it, stops the fetching threads and
    waits for them (LONGEST_END_S at most), so that a camera can be closed afterwards. came_round: called by the
    consumer's thread each time it comes back for more, and every POLL_S while nothing arrives. is_paused: while it
    says so of a camera, files wait.
    """
    halt, changed = threading.Event(), threading.Condition()
    feeds = [_Feed(camera, halt, changed) for camera in cameras]
    for feed in feeds:
        feed.start()
    open_feeds, turn = len(feeds), 0
    try:
        while open_feeds and not stop.is_set():
            came_round()
            number = _wait_for_any(feeds, turn, changed, is_paused)
            if number is None:
                continue
            item = feeds[number].take()
            open_feeds -= isinstance(item, Ended)
            turn = (number + 1) % len(feeds)
            yield number, item
        halt.set()
        yield from _last_answers(feeds, changed, came_round)
    finally:
        halt.set()
        give_up_s = monotonic() + LONGEST_END_S
        for feed in feeds:
            feed.join(max(0.0, give_up_s - monotonic()))  # a read that hangs, as on a dead network disk, ends with us


def _last_answers(feeds: Sequence[_Feed], changed: threading.Condition, came_round: Callable[[], None]) -> Turns:
    """After a stop: every trigger that came before it still gets its record."""
    give_up_s = monotonic() + LONGEST_END_S
    for number, feed in enumerate(feeds):
        while feed.is_triggered and not feed.has_ended and monotonic() < give_up_s:
            came_round()
            if _wait_for_any([feed], 0, changed) is not None:
                yield number, feed.take()


def _wait_for_any(
    feeds: Sequence[_Feed],
    turn: int,
    changed: threading.Condition,
    is_paused: Callable[[str], bool] = lambda camera: False,
) -> int | None:
    """The first feed from `turn` on that has something; None after POLL_S without any."""
    numbers = [(turn + offset) % len(feeds) for offset in range(len(feeds))]
    with changed:
        changed.wait_for(lambda: any(feed.has_item(is_paused) for feed in feeds), POLL_S)
        return next((number for number in numbers if feeds[number].has_item(is_paused)), None)


class _Feed(threading.Thread):
    """Fetches from one camera. The thread owns the camera's generator: a call that blocks blocks nobody else."""

    def __init__(self, camera: Camera, halt: threading.Event, changed: threading.Condition) -> None:
        super().__init__(name="oddkind-feed", daemon=True)
        self.waiting: deque[Item] = deque()  # at most FRAMES_AHEAD, and an Ended
        self._camera, self._halt, self._changed = camera, halt, changed
        self.is_triggered, self.has_ended = camera.is_triggered, False
        self._waits_while_paused = not (camera.is_live or camera.is_triggered)

    def run(self) -> None:
        """Fetch until the camera ends, fails or `halt` is set; the last item says which."""
        error = None
        try:
            with closing(self._camera.frames(self._halt)) as frames:
                for item in frames:
                    self._put(item)
                    if self._halt.is_set() and not self._camera.is_triggered:  # what was asked for is answered
                        break
        except Exception as exc:  # whatever it is ends this camera, not the others; the consumer hears of it
            error = exc
        with self._changed:
            self.waiting.append(Ended(error))
            self._changed.notify_all()

    def has_item(self, is_paused: IsPaused) -> bool:
        """Whether there is something to take; a file's frames wait until the station is armed again."""
        return bool(self.waiting) and not (self._waits_while_paused and is_paused(self._camera.name))

    def take(self) -> Item:
        """The oldest item; there must be one."""
        with self._changed:
            item = self.waiting.popleft()
            self.has_ended = isinstance(item, Ended)
            self._changed.notify_all()
        return item

    def _put(self, item: Frame | NoFrame) -> None:
        with self._changed:
            if self._camera.is_live and isinstance(item, Frame) and self._replaced(item):
                return
            while len(self.waiting) >= FRAMES_AHEAD and not self._halt.is_set():
                self._changed.wait(POLL_S)
            self.waiting.append(item)
            self._changed.notify_all()

    def _replaced(self, newer: Frame) -> bool:
        """Put a live frame in place of the one that nobody took in time."""
        if not self.waiting or not isinstance(older := self.waiting[-1], Frame):
            return False
        self.waiting[-1] = replace(newer, dropped_before=older.dropped_before + 1 + newer.dropped_before)
        return True
