"""Where the pictures of a triggered camera come from: files in turn, a device that runs freely, one that is fired."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import replace
from time import monotonic

from edge.cameras.faults import FaultWatch
from edge.cameras.frames import Camera, Frame, NoFrame
from edge.cameras.waiting import ENDED, Waiting, WaitingTriggers
from edge.notify import Notify

POLL_S = 0.1  # how soon a stop is noticed


class TriggerPictures(ABC):
    """Settles triggers. has_ended: there will be no more pictures. fault: what the newest one shows is wrong."""

    def __init__(self, camera: Camera, triggers: WaitingTriggers, watch: FaultWatch | None) -> None:
        self._camera, self._triggers, self._watch = camera, triggers, watch
        self.has_ended = False
        self.fault: str | None = None

    @abstractmethod
    def begin(self, stop: threading.Event) -> None:
        """Before the first answer."""

    @abstractmethod
    def end(self) -> None:
        """Let go; raises what ended the camera, if that was an error."""

    def _looked_at(self, frame: Frame) -> NoFrame | None:
        """What to answer in place of a picture that nobody should judge."""
        self.fault = self._watch.fault(frame) if self._watch else None
        return NoFrame(frame.provenance, self.fault) if self.fault else None


class PicturesInTurn(TriggerPictures):
    """Files: each trigger takes the next one, by a thread that reads when it is asked."""

    def begin(self, stop: threading.Event) -> None:
        """Read the first one ahead, so that the last one is known to be the last."""
        self._error: Exception | None = None
        self._frames = self._camera.frames(stop)
        self._next = self._read()
        self._thread = threading.Thread(target=self._serve, args=(stop,), name="oddkind-in-turn", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Close the file."""
        self._thread.join(POLL_S * 10)
        if self._error:
            raise self._error

    def _serve(self, stop: threading.Event) -> None:
        with closing(self._frames):
            while self._next is not None and not stop.is_set():
                waiting = self._wait(stop)
                if waiting is None:
                    continue
                item = self._next
                if isinstance(item, Frame):
                    item = replace(item, grabbed_at_s=monotonic())
                    item = self._looked_at(item) or item
                self._triggers.settle(waiting, item)
                self._next = self._read()
        with self._triggers.changed:
            self.has_ended = True
            self._triggers.changed.notify_all()

    def _read(self) -> Frame | NoFrame | None:
        try:
            return next(self._frames, None)
        except Exception as exc:  # it ends the camera, and is raised where the loop hears of it
            self._error = exc
            return None

    def _wait(self, stop: threading.Event) -> Waiting | None:
        """The oldest trigger, once its part is in view."""
        with self._triggers.changed:
            waiting = self._triggers.oldest_open()
            left_s = waiting.in_view_at_s - monotonic() if waiting else POLL_S
            if waiting and left_s <= 0:
                return waiting
            self._triggers.changed.wait(min(POLL_S, max(0.001, left_s)))
        return None


class LivePictures(TriggerPictures):
    """A device that runs freely: a thread looks at every picture, and gives it to the trigger that it is for."""

    def __init__(
        self, camera: Camera, triggers: WaitingTriggers, notify: Notify, watch: FaultWatch | None = None
    ) -> None:
        super().__init__(camera, triggers, watch)
        self._notify = notify
        self._error: Exception | None = None

    def begin(self, stop: threading.Event) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._look, args=(stop,), name="oddkind-newest", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The thread ends with `stop` or with the camera; one that hangs in the device is left to itself."""
        self._thread.join(POLL_S * 10)
        if self._error:
            raise self._error

    def _look(self, stop: threading.Event) -> None:
        was_lost = False
        try:
            with closing(self._camera.frames(stop)) as frames:
                for item in frames:
                    if isinstance(item, Frame):
                        if was_lost:
                            self._notify(f"{self._camera.name}: the camera is back")
                        self._came(item)
                    elif item.lost:
                        self._lost(item)
                    was_lost = isinstance(item, NoFrame) and (item.lost or was_lost)
        except Exception as exc:  # it ends the camera; `end` raises it where the loop hears of it
            self._error = exc
        self._triggers.settle_all("stopped" if stop.is_set() else ENDED)
        with self._triggers.changed:
            self.has_ended = True
            self._triggers.changed.notify_all()

    def _came(self, frame: Frame) -> None:
        self._triggers.offer(frame, self._looked_at(frame))

    def _lost(self, item: NoFrame) -> None:
        """No trigger may come for hours: a loss is told when it happens, and those that wait are not kept waiting."""
        self.fault = None
        self._triggers.settle_all(item.reason)
        self._notify(f"{self._camera.name}: {item.reason}; trying to reconnect")


class FiredPictures(LivePictures):
    """A device that takes a picture when we fire it: one at a time, so that each picture has one trigger it can be of.

    grace_s: how long a picture that did not come in time is still expected; until then nothing else is fired, because
    nobody could say whose the next picture is.
    """

    def __init__(
        self,
        camera: Camera,
        triggers: WaitingTriggers,
        notify: Notify,
        watch: FaultWatch | None = None,
        grace_s: float = 2.0,
    ) -> None:
        super().__init__(camera, triggers, notify, watch)
        self._grace_s = grace_s
        self._fired: Waiting | None = None

    def begin(self, stop: threading.Event) -> None:
        """Begin to look and to fire."""
        super().begin(stop)
        threading.Thread(target=self._fire_all, args=(stop,), name="oddkind-fire", daemon=True).start()

    def _fire_all(self, stop: threading.Event) -> None:
        while not stop.is_set() and not self.has_ended:
            waiting = self._next_to_fire()
            if waiting is None:
                continue
            with self._triggers.changed:
                self._fired = waiting
            if not self._camera.fire():  # outside the lock: a driver may take its time
                self._triggers.settle(waiting, self._camera.trouble or "camera lost: it cannot be fired", True)
                self._forget(waiting)

    def _next_to_fire(self) -> Waiting | None:
        with self._triggers.changed:
            waiting, fired = self._triggers.oldest_open(), self._fired
            now_s = monotonic()
            if fired and now_s >= fired.due.deadline_at_s + self._grace_s:
                self._fired = fired = None
            if waiting and waiting is not fired and fired is None and now_s >= waiting.in_view_at_s:
                return waiting
            self._triggers.changed.wait(min(POLL_S, max(0.001, waiting.in_view_at_s - now_s if waiting else POLL_S)))
        return None

    def _came(self, frame: Frame) -> None:
        """The picture of the trigger that was fired, even when that has been answered without."""
        instead = self._looked_at(frame)
        with self._triggers.changed:
            self._triggers.newest = frame
            fired, self._fired = self._fired, None
            if fired:
                self._triggers.settle(fired, instead or frame)

    def _lost(self, item: NoFrame) -> None:
        super()._lost(item)
        with self._triggers.changed:
            self._fired = None

    def _forget(self, waiting: Waiting) -> None:
        with self._triggers.changed:
            if self._fired is waiting:
                self._fired = None
            self._triggers.changed.notify_all()
