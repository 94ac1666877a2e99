"""Live sources: a grabber thread keeps the newest frame, counts what it dropped, and is replaced when it fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Protocol

from edge.cameras.address import redacted
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.errors import CameraError
from edge.pictures import FrameBgr
from edge.result import Provenance, utc_now

LOST_AFTER_S = 5.0
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 10.0
POLL_S = 0.1  # how soon a stop is noticed while nothing arrives
MAX_BLOCKED_GRABBERS = 4


class Capture(Protocol):
    """What a grabber needs of an open device; cv2.VideoCapture has it."""

    def read(self) -> tuple[bool, Any]:
        """Whether a frame came, and the frame (H, W, 3) uint8 BGR."""

    def release(self) -> None:
        """Close the device."""


class LiveCamera(Camera):
    """A camera or stream that sends at its own pace: the newest frame wins, dropped ones are counted.

    open_capture: opens a new capture; it may block, and may answer with one that is not open.
    lost_after_s: without a frame for so long (twice that while it opens) the camera is lost: one NoFrame, then
    it is opened again and again, with a growing and jittered pause. wait_for_camera: so it is from the start;
    otherwise a camera that gives no first frame is a CameraError.
    """

    is_live = True

    def __init__(
        self,
        source: str,
        open_capture: Callable[[], Capture],
        lost_after_s: float = LOST_AFTER_S,
        wait_for_camera: bool = False,
    ) -> None:
        self.name = redacted(source)
        self._open_capture, self._lost_after_s = open_capture, lost_after_s
        self._wait_for_camera = wait_for_camera
        self._next_frame_id = 0
        self._grabbers: list[_Grabber] = []  # the last one and those that still block

    def frames(self, stop: threading.Event) -> Frames:
        """Newest frames until `stop`; frame_id goes on over reconnects, and its gaps are the dropped frames."""
        announced, failures = False, 0
        while not stop.is_set():
            first_id = self._next_frame_id
            reason = yield from self._frames_of_one_connection(stop, reconnect=announced)
            if reason is None:
                return
            if self._next_frame_id > first_id:
                announced, failures = False, 0
            if first_id == self._next_frame_id == 0 and not announced and not self._wait_for_camera:
                raise CameraError(f"source {self.name}: {reason}; check the address and that the camera is on")
            self.trouble = f"camera lost: {reason}"
            if not announced:
                yield NoFrame(Provenance(self.name, self._take_id(), utc_now()), self.trouble, lost=True)
                announced = True
            self._pause(failures, stop)
            failures += 1

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

    def _frames_of_one_connection(self, stop: threading.Event, reconnect: bool) -> Generator[Frame, None, str | None]:
        """Frames until the connection fails; returns the reason, or None when `stop` was set."""
        grabber = _Grabber(self.name, self._open_capture, self._next_frame_id)
        self._grabbers.append(grabber)
        grabber.start()
        patience_s = 2 * self._lost_after_s
        try:
            while frame := grabber.newest(patience_s, stop):
                self.reconnects += reconnect
                self._next_frame_id = frame.provenance.frame_id + 1
                reconnect, patience_s, self.trouble = False, self._lost_after_s, None
                yield frame
        finally:
            grabber.abandon()
        return None if stop.is_set() else grabber.failure or f"no frame for {patience_s:g} s"

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


class _Grabber(threading.Thread):
    """One connection to a live source: opens it, keeps the newest frame, ends at the first failure.

    A read that blocks cannot be interrupted from Python; such a grabber is abandoned, and ends when the call returns.
    """

    def __init__(self, name: str, open_capture: Callable[[], Capture], first_frame_id: int) -> None:
        super().__init__(name="oddkind-grabber", daemon=True)
        self.failure: str | None = None
        self._source, self._open_capture = name, open_capture
        self._next_id = first_frame_id
        self._dropped = 0
        self._newest: Frame | None = None
        self._abandoned = False
        self._changed = threading.Condition()

    def run(self) -> None:
        """Grab until a failure or `abandon`; whatever goes wrong ends up in `failure`."""
        capture, reason = None, "it cannot be opened"
        try:
            capture = self._open_capture()
            while not self._abandoned:
                grabbed, frame_bgr = capture.read()  # isOpened() stays True on a dead stream: only this counts
                if not grabbed:
                    break
                reason = "it stopped sending"
                self._put(frame_bgr)
        except Exception as exc:  # a thread that dies without a word would leave the loop waiting
            reason = f"{reason} ({type(exc).__name__})"
        finally:
            if capture is not None:
                capture.release()
            with self._changed:
                self.failure = reason
                self._changed.notify()

    def newest(self, patience_s: float, stop: threading.Event) -> Frame | None:
        """Wait for a frame that was not handed over yet; None after a failure, `patience_s` or `stop`."""
        deadline_s = monotonic() + patience_s
        with self._changed:
            while self._newest is None and self.failure is None and not stop.is_set() and monotonic() < deadline_s:
                self._changed.wait(POLL_S)
            frame, self._newest, self._dropped = self._newest, None, 0
        return None if stop.is_set() else frame

    def abandon(self) -> None:
        """Nobody listens any more."""
        self._abandoned = True

    def _put(self, frame_bgr: FrameBgr) -> None:
        with self._changed:
            self._dropped += self._newest is not None
            self._newest = Frame(frame_bgr, Provenance(self._source, self._next_id, utc_now()), self._dropped)
            self._next_id += 1
            self._changed.notify()


def back_off_s(failures: int) -> float:
    """Pause before the next attempt after `failures` failed ones: 0.5 s, doubled up to 10 s, +-20 % of jitter."""
    pause_s = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(failures, 16))
    return pause_s * random.uniform(0.8, 1.2)
