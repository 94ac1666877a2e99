"""One connection to a live source: a thread grabs, keeps the newest frames and counts what it dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from edge.cameras.device import LONGEST_GAP, Capture, DeviceCapture, DeviceRefusal
from edge.cameras.frames import Frame
from edge.errors import CameraError
from edge.pictures import FrameBgr
from edge.result import Device, Provenance, utc_now

POLL_S = 0.1  # how soon a stop is noticed while nothing arrives
LONGEST_CLOSING_S = 0.05  # whoever triggers does not wait for a driver that takes its time to close


class Grabber(threading.Thread):
    """Opens the source, keeps what it sends and ends at the first failure, which `failure` then tells.

    keep: frames that may wait. Of 1, a newer frame replaces the older; of more, all are handed over in order, and those
    that find no room are counted. well: called, by this thread, when the source first gives a sign of life.
    A read that blocks cannot be interrupted from Python; such a grabber is abandoned, and ends when the call returns.
    """

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture | DeviceCapture],
        first_frame_id: int,
        keep: int = 1,
        well: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="oddkind-grabber", daemon=True)
        self.failure: str | None = None
        self.refusal: DeviceRefusal | None = None
        self.was_well = False
        self._source, self._open_capture, self._keep, self._well = name, open_capture, keep, well
        self._next_id = first_frame_id
        self._dropped = self._lost = 0  # since the last frame that waits; those lost are among those dropped
        self._waiting: deque[Frame] = deque()  # at most `keep`
        self._alive_at_s = monotonic()
        self._abandoned = False
        self._changed = threading.Condition()
        self._capture: Capture | DeviceCapture | None = None
        self._in_use = threading.Lock()  # nobody fires a device that is being closed

    def run(self) -> None:
        """Grab until a failure or `abandon`; whatever goes wrong ends up in `failure`."""
        reason = "it cannot be opened"
        try:
            self._capture = capture = self._open_capture()
            while not self._abandoned:
                grabbed, frame_bgr = capture.read()  # isOpened() stays True on a dead stream: only this counts
                if not grabbed:
                    break
                if frame_bgr is not None:
                    reason = "it stopped sending"
                    self._put(frame_bgr, capture)
                elif isinstance(capture, DeviceCapture) and capture.waits:
                    reason = "it does not answer any more"
                    self._is_well()
        except CameraError as exc:
            self.refusal, reason = exc if isinstance(exc, DeviceRefusal) else None, str(exc)
        except Exception as exc:  # a thread that dies without a word would leave the loop waiting
            reason = f"{reason} ({type(exc).__name__})"
        finally:
            self._close(reason)

    def next(self, patience_s: float, stop: threading.Event) -> Frame | None:
        """Wait for a frame not handed over yet; None after a failure, `stop`, or no sign of life for `patience_s`.

        After a stop a queue is handed over to its end: each frame in it is a part. Of 1 the newest is nobody's.
        """
        begun_s = monotonic()
        with self._changed:
            while not self._waiting and self.failure is None and not stop.is_set():
                if monotonic() > max(begun_s, self._alive_at_s) + patience_s:
                    break
                self._changed.wait(POLL_S)
            self._abandoned = self._abandoned or stop.is_set()  # what comes after a stop is no part any more
            return self._waiting.popleft() if self._waiting and (self._keep > 1 or not stop.is_set()) else None

    def take_skipped(self) -> tuple[int, int]:
        """Frames dropped since the last one handed over, with no later one to say so; and how many of them were lost.

        For the end of a connection, with nothing waiting.
        """
        with self._changed:
            skipped, self._dropped, self._lost = (self._dropped, self._lost), 0, 0
            return skipped

    def fire(self) -> bool:
        """Trigger the device by software; False when it is not open, cannot, or is being closed."""
        if not self._in_use.acquire(timeout=LONGEST_CLOSING_S):
            return False
        try:
            if not isinstance(self._capture, DeviceCapture) or self._abandoned:
                return False
            self._capture.fire()
            return True
        except Exception:  # a device that is just being unplugged may raise anything
            return False
        finally:
            self._in_use.release()

    def abandon(self) -> None:
        """Nobody listens any more."""
        self._abandoned = True

    def _put(self, frame_bgr: FrameBgr, capture: Capture | DeviceCapture) -> None:
        device: Device | None = None
        lost = 0
        if isinstance(capture, DeviceCapture):
            device, lost = capture.device, capture.lost_frames
            lost = lost if lost <= LONGEST_GAP else 1  # the numbering jumped: nobody knows how many, or whether any
        self._is_well()
        with self._changed:
            self._next_id += lost
            self._dropped, self._lost = self._dropped + lost, self._lost + lost
            provenance = Provenance(self._source, self._next_id, utc_now(), device=device)
            self._next_id += 1
            if self._keep == 1 and self._waiting:
                older = self._waiting.pop()
                self._dropped, self._lost = self._dropped + 1 + older.dropped_before, self._lost + older.lost_before
            if len(self._waiting) >= self._keep:
                self._dropped += 1
                return
            self._waiting.append(Frame(frame_bgr, provenance, self._dropped, lost_before=self._lost))
            self._dropped = self._lost = 0
            self._changed.notify()

    def _is_well(self) -> None:
        self._alive_at_s = monotonic()
        if not self.was_well and not self._abandoned:
            self.was_well = True
            self._well()

    def _close(self, reason: str) -> None:
        with self._in_use:
            capture, self._capture = self._capture, None
            if capture is not None:
                capture.release()
        with self._changed:
            self.failure = reason
            self._changed.notify()
