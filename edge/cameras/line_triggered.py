"""A camera whose own input line triggers it: every picture that it sends is a part, and none is skipped silently."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

from edge.cameras.device import LONGEST_GAP
from edge.cameras.frames import Camera, Due, Frame, Frames, NoFrame, WrappedCamera
from edge.cameras.live import skipped_reasons
from edge.cameras.triggered import TriggerSettings
from edge.notify import Notify
from edge.result import Provenance
from edge.station.control import Control


class LineTriggeredCamera(WrappedCamera):
    """`camera` sends one picture a part, each handed over in order.

    A picture that had no place in the queue is an overrun, one that the camera numbered and nobody received is lost:
    each has a `NoFrame` of its own, before the picture that came after it. Pictures that wait when the station is told
    to stop have one too.
    """

    is_triggered = True

    def __init__(self, camera: Camera, settings: TriggerSettings, control: Control, notify: Notify) -> None:
        super().__init__(camera)
        self._settings, self._control, self._notify = settings, control, notify
        self._next_frame_id = 0
        self._device_id: int | None = None

    def frames(self, stop: threading.Event) -> Frames:
        """One item a part, until the camera has ended or `stop` is set."""
        is_lost = False
        for item in self._camera.frames(stop):
            if isinstance(item, Frame):
                if is_lost:
                    self._notify(f"{self.name}: the camera is back")
                is_lost, reconnected = False, is_lost
                yield from self._skipped(item, reconnected)
                yield self._part(item, stop)
            elif item.lost:
                is_lost = True
                self._notify(f"{self.name}: {item.reason}; trying to reconnect")
            else:
                yield self._nothing(item.provenance, item.reason, monotonic())  # none came after it

    def _skipped(self, frame: Frame, reconnected: bool) -> Iterator[NoFrame]:
        """Parts that were seen and cannot be judged. After a reconnect the camera may number from anywhere."""
        device = frame.provenance.device
        number = device.frame_id if device else None
        gap = number - self._device_id - 1 if number is not None and self._device_id is not None else 0
        self._device_id = number
        overruns = frame.dropped_before - frame.lost_before
        unseen = 0 if reconnected else gap - overruns
        if unseen > LONGEST_GAP:
            self._notify(
                f"{self.name}: the camera's numbering jumped by {gap + 1} to {number}; how many pictures are lost is "
                "not known, and one record says so"
            )
            unseen = 1
        lost = max(frame.lost_before, unseen)
        for reason in skipped_reasons(lost + overruns, lost, self._settings.queue):
            yield self._nothing(frame.provenance, reason, frame.grabbed_at_s)

    def _part(self, frame: Frame, stop: threading.Event) -> Frame | NoFrame:
        if stop.is_set():
            return self._nothing(frame.provenance, "stopped", frame.grabbed_at_s)
        if not self._control.inspects(self.name, frame.grabbed_at_s):
            return self._nothing(frame.provenance, f"paused: {self._control.status.reason}", frame.grabbed_at_s)
        numbered, due = self._numbered(frame.provenance), self._due(frame.grabbed_at_s)
        return Frame(frame.frame_bgr, numbered, grabbed_at_s=frame.grabbed_at_s, due=due)

    def _nothing(self, provenance: Provenance, reason: str, asked_at_s: float) -> NoFrame:
        """asked_at_s: for a picture that is not there the best known is when the one after it was grabbed."""
        numbered = replace(self._numbered(provenance), device=None)
        return NoFrame(numbered, reason, due=self._due(asked_at_s))

    def _due(self, asked_at_s: float) -> Due:
        return Due(asked_at_s, asked_at_s + self._settings.deadline_s)

    def _numbered(self, provenance: Provenance) -> Provenance:
        """With a trigger and a number of its own."""
        self._next_frame_id += 1
        asked = self._control.next_trigger("camera")
        return replace(provenance, frame_id=self._next_frame_id - 1, trigger=asked.trigger)
