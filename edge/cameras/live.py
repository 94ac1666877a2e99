"""Live sources: they are lost and come back. What one connection gives: `edge.cameras.grabber`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Iterator
from time import monotonic

from edge.cameras.address import redacted
from edge.cameras.device import Capture, DeviceCapture
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.cameras.grabber import Grabber
from edge.errors import CameraError
from edge.result import Provenance, utc_now

LOST_AFTER_S = 5.0
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 10.0
MAX_BLOCKED_GRABBERS = 4


class LiveCamera(Camera):
    """A camera or stream that sends at its own pace: the newest frame wins, dropped ones are counted.

    open_capture: opens a new capture; it may block, and may answer with one that is not open.
    lost_after_s: without a sign of life for so long (twice that while it opens) the camera is lost: one NoFrame, then
    it is opened again and again, with a growing and jittered pause. wait_for_camera: so it is from the start; otherwise
    a camera that gives no first frame is a CameraError, and one that is there and refuses its settings always is.
    keep: frames that may wait for the consumer; more than one: nothing is replaced, every frame comes in order, after a
    stop too, and those skipped last before a loss or a stop are a NoFrame each.
    """

    is_live = True

    def __init__(
        self,
        source: str,
        open_capture: Callable[[], Capture | DeviceCapture],
        lost_after_s: float = LOST_AFTER_S,
        wait_for_camera: bool = False,
        keep: int = 1,
    ) -> None:
        self.name = redacted(source)
        self._open_capture, self._lost_after_s = open_capture, lost_after_s
        self._wait_for_camera, self._keep = wait_for_camera, keep
        self._next_frame_id = 0
        self._was_lost = self._was_ever_well = False
        self._grabbers: list[Grabber] = []  # the last one and those that still block

    def frames(self, stop: threading.Event) -> Frames:
        """Newest frames until `stop`; frame_id goes on over reconnects, and its gaps are the dropped frames."""
        failures = 0
        while not stop.is_set():
            grabber = self._connect()
            reason = yield from self._frames_of(grabber, stop)
            yield from self._skipped(grabber)
            if reason is None:
                return
            failures = 0 if grabber.was_well else failures
            if not self._was_ever_well and (grabber.refusal or not self._wait_for_camera):
                hint = "" if grabber.refusal else "; check the address and that the camera is on"
                raise CameraError(f"source {self.name}: {reason}{hint}")
            self.trouble = f"camera lost: {reason}"
            if not self._was_lost:
                self._was_lost = True
                yield NoFrame(Provenance(self.name, self._take_id(), utc_now()), self.trouble, lost=True)
            self._pause(failures, stop)
            failures += 1

    def fire(self) -> bool:
        """Trigger the device by software, from any thread; False when it is not open or does not wait for that."""
        return bool(self._grabbers) and self._grabbers[-1].fire()

    def close(self) -> None:
        """Tell the grabber to stop and give it a moment to let go of the device."""
        for grabber in self._grabbers:
            grabber.abandon()
        deadline_s = monotonic() + self._lost_after_s
        for grabber in self._grabbers:
            grabber.join(max(0.0, deadline_s - monotonic()))

    @property
    def blocked(self) -> bool:
        """Whether a grabber still sits in a call that does not return."""
        return any(grabber.is_alive() for grabber in self._grabbers)

    def _connect(self) -> Grabber:
        grabber = Grabber(self.name, self._open_capture, self._next_frame_id, self._keep, self._is_well)
        self._grabbers.append(grabber)
        grabber.start()
        return grabber

    def _frames_of(self, grabber: Grabber, stop: threading.Event) -> Generator[Frame, None, str | None]:
        """Frames until the connection fails; returns the reason, or None when `stop` was set."""
        patience_s = 2 * self._lost_after_s
        try:
            while frame := grabber.next(patience_s, stop):
                self._next_frame_id = frame.provenance.frame_id + 1
                patience_s = self._lost_after_s
                yield frame
        finally:
            grabber.abandon()
        return None if stop.is_set() else grabber.failure or f"no frame for {patience_s:g} s"

    def _skipped(self, grabber: Grabber) -> Iterator[NoFrame]:
        """Frames that were dropped with none after them. Of one that may wait, the newest is always handed over."""
        dropped, lost = grabber.take_skipped()
        for reason in skipped_reasons(dropped, lost, self._keep):
            yield NoFrame(Provenance(self.name, self._take_id(), utc_now()), reason)

    def _is_well(self) -> None:
        """Called by a grabber's thread at its first sign of life."""
        self.reconnects += self._was_lost
        self._was_lost, self._was_ever_well, self.trouble = False, True, None

    def _pause(self, failures: int, stop: threading.Event) -> None:
        """Back off; longer while so many grabbers block that another would only pile up."""
        stop.wait(back_off_s(failures))
        while not stop.is_set():
            self._grabbers = [grabber for grabber in self._grabbers if grabber.is_alive()]
            if len(self._grabbers) < MAX_BLOCKED_GRABBERS:
                return
            stop.wait(LONGEST_BACK_OFF_S)

    def _take_id(self) -> int:
        self._next_frame_id += 1
        return self._next_frame_id - 1


def skipped_reasons(dropped: int, lost: int, keep: int) -> list[str]:
    """Why each of `dropped` frames, `lost` of them in transport, is not handed over; keep: how many may wait."""
    never, full = "camera lost: its picture never arrived", f"overrun: {keep} pictures were waiting already"
    return [never] * lost + [full] * (dropped - lost)


def back_off_s(failures: int) -> float:
    """Pause before the next attempt after `failures` failed ones: 0.5 s, doubled up to 10 s, +-20 % of jitter."""
    pause_s = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(failures, 16))
    return pause_s * random.uniform(0.8, 1.2)
