"""A camera that answers triggers: one item for each, in order, by its deadline, whatever the device does.

A trigger gets the first picture grabbed after it, and no two triggers share one. A picture that does not come in time,
a lost camera, a pause or a full queue is a `NoFrame` with the reason. See `edge.cameras.waiting` for how pictures find
their triggers; here they become items.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from edge.cameras.device import SOFTWARE
from edge.cameras.faults import FaultWatch
from edge.cameras.frames import Camera, Frame, Frames, NoFrame, WrappedCamera
from edge.cameras.gpio_trigger import GpioTrigger
from edge.cameras.pictures_for_triggers import FiredPictures, LivePictures, PicturesInTurn, TriggerPictures
from edge.cameras.waiting import ENDED, Waiting, WaitingTriggers
from edge.notify import Notify
from edge.result import Provenance
from edge.station.control import Asked, Control
from edge.station.parts import StationPart

LineName = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z]\w{0,39}$")]
POLL_S = 0.1  # how soon a stop is noticed while no trigger comes
TROUBLE_AFTER = 3  # triggers in a row without a picture


class TriggerSettings(StationPart):
    """One verdict a part. by: `software` (page, command line, MQTT, PLC, GPIO) or `camera`, by an input of its own.

    line: that input, such as Line1. fire: the device waits until we fire it; otherwise it runs freely and the first
    picture after the trigger is taken. gpio: a sensor whose edges are triggers too. deadline_s: from trigger to
    verdict. queue: triggers that may wait; one more is an overrun. delay_s: from the trigger to the moment the part is
    in view; a picture grabbed before is not taken, and a device is fired then.
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


class TriggeredCamera(WrappedCamera):
    """`camera` as triggers of `control` ask for it. watch: looks at every picture, those between triggers too."""

    is_triggered = True

    def __init__(
        self,
        camera: Camera,
        settings: TriggerSettings,
        control: Control,
        notify: Notify,
        watch: FaultWatch | None = None,
    ) -> None:
        super().__init__(camera)
        self._control = control
        self._triggers = WaitingTriggers(settings.deadline_s, settings.delay_s, settings.queue)
        self._pictures = _pictures(camera, settings, self._triggers, notify, watch)
        self._next_frame_id = self._in_a_row = 0

    @property
    def trouble(self) -> str | None:  # type: ignore[override]
        """Of the camera, or what its pictures show; or that triggers in a row had none."""
        silent = f"no picture for the last {self._in_a_row} triggers" if self._in_a_row >= TROUBLE_AFTER else None
        return self._camera.trouble or self._pictures.fault or silent

    def frames(self, stop: threading.Event) -> Frames:
        """One item a trigger, until the camera has ended or `stop` is set; triggers before that are answered too."""
        self._control.take_triggers(self.name, self._take)
        try:
            self._pictures.begin(stop)
            while not stop.is_set() and not self._pictures.has_ended:
                if waiting := self._triggers.next(POLL_S, stop):
                    yield self._answer(waiting)
            yield from self._last("stopped" if stop.is_set() else ENDED)
        finally:
            self._control.take_triggers(self.name, None)
        self._pictures.end()

    def _last(self, reason: str) -> Iterator[Frame | NoFrame]:
        """Nobody can ask any more; whoever has is answered."""
        self._control.take_triggers(self.name, None)
        self._triggers.settle_all(reason)
        while waiting := self._triggers.next(0.0):
            yield self._answer(waiting)

    def _take(self, asked: Asked) -> None:
        """Called by whoever triggers; never waits, and never asks which master part was announced."""
        masters = self._control.master_parts
        may_be_judged = self._control.is_armed or (masters is not None and masters.expects_any)
        self._triggers.add(asked, self._camera.trouble if may_be_judged else self._paused)

    @property
    def _paused(self) -> str:
        return f"paused: {self._control.paused_because}"

    def _answer(self, waiting: Waiting) -> Frame | NoFrame:
        self._next_frame_id += 1
        trigger, number = waiting.asked.trigger, self._next_frame_id - 1
        picture, due = waiting.picture, waiting.due
        self._in_a_row = 0 if picture else self._in_a_row + waiting.is_silence
        if picture is None:
            provenance = Provenance(self.name, number, trigger.at, trigger=trigger)
            return NoFrame(provenance, waiting.reason or "no picture", due=due)
        p = picture.provenance
        provenance = Provenance(self.name, number, p.captured_at, p.path, device=p.device, trigger=trigger)
        if isinstance(picture, NoFrame):
            return NoFrame(provenance, picture.reason, due=due)
        if not self._control.inspects(self.name, picture.grabbed_at_s, trigger.trigger_id):
            return NoFrame(provenance, self._paused, due=due)
        return Frame(picture.frame_bgr, provenance, grabbed_at_s=picture.grabbed_at_s, due=due)


def _pictures(
    camera: Camera, settings: TriggerSettings, triggers: WaitingTriggers, notify: Notify, watch: FaultWatch | None
) -> TriggerPictures:
    if not camera.is_live:
        return PicturesInTurn(camera, triggers, watch)
    if settings.fire:
        return FiredPictures(camera, triggers, notify, watch, grace_s=max(settings.deadline_s, 2.0))
    return LivePictures(camera, triggers, notify, watch)
