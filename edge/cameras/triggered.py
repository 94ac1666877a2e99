"""A camera that answers triggers: one item for each, in order, by its deadline, whatever the device does.

The device runs freely, or waits for us to fire it. A trigger gets the first picture grabbed after it, and no two
triggers share one. A picture that does not come in time, a lost camera, a pause or a full queue is a `NoFrame` with
the reason.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from time import monotonic
from typing import Annotated, Any, Literal

import pydantic

from edge.cameras.device import SOFTWARE
from edge.cameras.frames import Camera, Due, Frame, Frames, NoFrame, WrappedCamera
from edge.cameras.gpio_trigger import GpioTrigger
from edge.notify import Notify
from edge.result import Provenance
from edge.station.control import Asked, Control
from edge.station.parts import StationPart

LineName = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z]\w{0,39}$")]
POLL_S = 0.1  # how soon a stop is noticed while no trigger comes


class TriggerSettings(StationPart):
    """One verdict a part. by: `software` (page, command line, MQTT, PLC, GPIO) or `camera`, by an input of its own.

    line: that input, such as Line1. fire: the device waits until we fire it; otherwise it runs freely and the first
    picture after the trigger is taken. gpio: a sensor whose edges are triggers too. deadline_s: from trigger to
    verdict. queue: triggers that may wait; one more is an overrun. delay_s: from the trigger to the moment the part is
    in view; a picture grabbed before is not taken.
    """

    by: Literal["software", "camera"] = "software"
    line: LineName | None = None
    fire: bool = False
    gpio: GpioTrigger | None = None
    deadline_s: float = pydantic.Field(default=1.0, ge=0.01, le=3600)
    queue: int = pydantic.Field(default=8, ge=1, le=1000)
    delay_s: float = pydantic.Field(default=0.0, ge=0, le=3600)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> TriggerSettings:
        if self.delay_s >= self.deadline_s:
            raise ValueError(f"delay_s {self.delay_s:g} is not less than deadline_s {self.deadline_s:g}")
        if (self.by == "camera") != (self.line is not None):
            raise ValueError("by: camera and the line of the camera, such as line: Line1, belong together")
        if self.by == "camera" and (self.fire or self.gpio or self.delay_s):
            raise ValueError("by: camera goes without fire, gpio and delay_s: the camera's own line says when")
        return self

    @property
    def source(self) -> str | None:
        """What the device is told to wait for; None: it runs freely."""
        return SOFTWARE if self.fire else self.line


@dataclass(frozen=True)
class _Pending:
    """A trigger without an answer. is_overrun: too many were waiting when it came."""

    asked: Asked
    is_overrun: bool


class TriggeredCamera(WrappedCamera):
    """`camera` as triggers of `control` ask for it."""

    is_triggered = True

    def __init__(self, camera: Camera, settings: TriggerSettings, control: Control, notify: Notify) -> None:
        super().__init__(camera)
        self._settings, self._control = settings, control
        self._pictures: Pictures = NewestPicture(camera, notify) if camera.is_live else PictureInTurn(camera)
        self._pending: deque[_Pending] = deque()
        self._changed = threading.Condition()
        self._next_frame_id = 0

    def frames(self, stop: threading.Event) -> Frames:
        """One item a trigger, until the camera has ended or `stop` is set; triggers before that are answered too."""
        self._control.take_triggers(self.name, self._take)
        self._pictures.begin(stop)
        try:
            while not stop.is_set() and not self._pictures.has_ended:
                if pending := self._next_pending(POLL_S):
                    yield self._answer(pending, stop)
        finally:
            self._control.take_triggers(self.name, None)
        while pending := self._next_pending(0.0):
            yield self._nothing(pending, "stopped" if stop.is_set() else "camera lost: it gives no more pictures")
        self._pictures.end()

    def _take(self, asked: Asked) -> None:
        """Called by whoever triggers; never waits."""
        with self._changed:
            waiting = sum(not pending.is_overrun for pending in self._pending)
            self._pending.append(_Pending(asked, waiting >= self._settings.queue))
            self._changed.notify()

    def _next_pending(self, wait_s: float) -> _Pending | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending, wait_s)
            return self._pending.popleft() if self._pending else None

    def _answer(self, pending: _Pending, stop: threading.Event) -> Frame | NoFrame:
        due = self._due(pending)
        if pending.is_overrun:
            return self._nothing(pending, f"overrun: {self._settings.queue} triggers were waiting already")
        if not self._control.inspects(self.name):
            return self._nothing(pending, f"paused: {self._control.status.reason}")
        if self._settings.fire and not self._camera.fire():
            return self._nothing(pending, self._camera.trouble or "camera lost: it cannot be fired")
        in_view_at_s = due.asked_at_s + self._settings.delay_s
        found = self._pictures.after(in_view_at_s, due.deadline_at_s, stop)
        if isinstance(found, str):
            return self._nothing(pending, found)
        provenance = replace(self._provenance(pending), **_of_picture(found.provenance))
        if isinstance(found, NoFrame):
            return NoFrame(provenance, found.reason, due=due)
        return Frame(found.frame_bgr, provenance, grabbed_at_s=found.grabbed_at_s, due=due)

    def _nothing(self, pending: _Pending, reason: str) -> NoFrame:
        return NoFrame(self._provenance(pending), reason, due=self._due(pending))

    def _due(self, pending: _Pending) -> Due:
        return Due(pending.asked.at_s, pending.asked.at_s + self._settings.deadline_s)

    def _provenance(self, pending: _Pending) -> Provenance:
        """Each answer has a number of its own, whether there was a picture or not."""
        self._next_frame_id += 1
        trigger = pending.asked.trigger
        return Provenance(self.name, self._next_frame_id - 1, trigger.at, trigger=trigger)


class Pictures(ABC):
    """Where a triggered camera has its pictures from. has_ended: there will be no more."""

    has_ended = False

    @abstractmethod
    def begin(self, stop: threading.Event) -> None:
        """Before the first trigger."""

    @abstractmethod
    def after(self, moment_s: float, deadline_s: float, stop: threading.Event) -> Frame | NoFrame | str:
        """The first picture grabbed after `moment_s`, or the reason why there is none at `deadline_s`."""

    @abstractmethod
    def end(self) -> None:
        """Let go; raises what ended the camera, if that was an error."""


class PictureInTurn(Pictures):
    """Files: each trigger takes the next one."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._next: Frame | NoFrame | None = None

    def begin(self, stop: threading.Event) -> None:
        """Read the first one ahead, so that the last one is known to be the last."""
        self._frames = self._camera.frames(stop)
        self._read_ahead()

    def after(self, moment_s: float, deadline_s: float, stop: threading.Event) -> Frame | NoFrame | str:
        """The next picture, as if it were grabbed now."""
        item = self._next
        self._read_ahead()
        if isinstance(item, Frame):
            return replace(item, grabbed_at_s=monotonic())
        return item or "camera lost: it gives no more pictures"

    def end(self) -> None:
        """Close the file."""
        self._frames.close()

    def _read_ahead(self) -> None:
        self._next = next(self._frames, None)
        self.has_ended = self._next is None


class NewestPicture(Pictures):
    """A live camera: a thread keeps the newest picture, so that none is older than it looks."""

    def __init__(self, camera: Camera, notify: Notify) -> None:
        self._camera, self._notify = camera, notify
        self._newest: Frame | None = None
        self._used_id = -1
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def begin(self, stop: threading.Event) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._watch, args=(stop,), name="oddkind-newest", daemon=True)
        self._thread.start()

    def after(self, moment_s: float, deadline_s: float, stop: threading.Event) -> Frame | NoFrame | str:
        """Wait for it; a camera that is lost is not waited for."""
        with self._changed:
            while not self._is_after(moment_s):
                if stop.is_set():
                    return "stopped"
                if self._camera.trouble or self.has_ended:
                    return self._camera.trouble or "camera lost: it gives no more pictures"
                if monotonic() >= deadline_s:
                    return self._too_late(moment_s)
                self._changed.wait(min(POLL_S, max(0.0, deadline_s - monotonic())))
            assert self._newest is not None
            self._used_id = self._newest.provenance.frame_id
            return self._newest

    def end(self) -> None:
        """Wait for the thread, which ends with `stop` or with the camera."""
        self._thread.join()
        if self._error:
            raise self._error

    def _watch(self, stop: threading.Event) -> None:
        lost = False
        try:
            with closing(self._camera.frames(stop)) as frames:
                for item in frames:
                    lost = self._tell_lost(item, lost)
                    if isinstance(item, Frame):
                        self._put(item)
        except Exception as exc:  # it ends the camera; `end` raises it where the loop hears of it
            self._error = exc
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self._newest = frame
            self._changed.notify_all()

    def _tell_lost(self, item: Frame | NoFrame, was_lost: bool) -> bool:
        """No trigger may come for hours: a loss is told when it happens."""
        is_lost = isinstance(item, NoFrame) and item.lost
        if isinstance(item, NoFrame) and is_lost:
            self._notify(f"{self._camera.name}: {item.reason}; trying to reconnect")
        elif was_lost and isinstance(item, Frame):
            self._notify(f"{self._camera.name}: the camera is back")
        return is_lost

    def _is_after(self, moment_s: float) -> bool:
        newest = self._newest
        return newest is not None and newest.grabbed_at_s >= moment_s and newest.provenance.frame_id > self._used_id

    def _too_late(self, moment_s: float) -> str:
        if self._newest is None:
            return "timeout: no picture has come yet"
        older_s = moment_s - self._newest.grabbed_at_s
        if older_s > 0:
            return f"stale frame: the newest picture is {older_s * 1e3:.0f} ms older than the part"
        return "timeout: no picture for this trigger alone; triggers come faster than pictures"


def _of_picture(provenance: Provenance) -> dict[str, Any]:
    """What a picture says of itself; number and trigger are those of the answer."""
    return {"captured_at": provenance.captured_at, "path": provenance.path, "device": provenance.device}
