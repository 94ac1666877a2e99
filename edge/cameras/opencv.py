"""V4L2 and USB cameras, network streams and video files through OpenCV. The only file that uses cv2.VideoCapture."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np

from edge.cameras.address import EXPECTED, printable
from edge.cameras.device import DeviceRefusal, DeviceSettings
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.cameras.picture_folder import changed_at
from edge.errors import CameraError
from edge.result import Provenance

# FFmpeg and OpenCV print to stderr, addresses included; what matters we say ourselves. FFmpeg reads this at first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# A frame count in a file's header is often an estimate; only a clear shortage means that frames are missing.
FRAME_COUNT_TOLERANCE = 0.02
V4L2_MANUAL, V4L2_EXPOSURE_US = 1, 100.0  # value of auto_exposure; exposure_absolute counts 100 us
EXPOSURE_WITHIN = 0.01


def open_device(device: int | str, settings: DeviceSettings) -> cv2.VideoCapture:
    """A camera number or device file; DeviceRefusal when it does not take its settings."""
    capture = cv2.VideoCapture(device)
    if capture.isOpened():
        try:
            apply(settings, capture)
        except DeviceRefusal:
            capture.release()
            raise
    return capture


def open_url(url: str, timeout_s: float) -> cv2.VideoCapture:
    """A network stream; opening and reading give up after `timeout_s`, or somewhat later."""
    timeout_ms = round(timeout_s * 1e3)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)


def apply(settings: DeviceSettings, capture: cv2.VideoCapture) -> None:
    """Write what V4L2 knows a unit for, and read it back; DeviceRefusal with both values when it is otherwise.

    pixel_format: four characters, such as MJPG or YUYV; before the size, because that depends on it.
    """
    if settings.pixel_format is not None:
        code = cv2.VideoWriter.fourcc(*settings.pixel_format.ljust(4)[:4])
        capture.set(cv2.CAP_PROP_FOURCC, code)
        got = int(capture.get(cv2.CAP_PROP_FOURCC))
        _compare("pixel_format", settings.pixel_format, got.to_bytes(4, "little", signed=False).decode("latin-1"))
    if settings.roi_xywh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.roi_xywh[2])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.roi_xywh[3])
        size = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        _compare("roi_xywh", settings.roi_xywh, [0, 0, *size])
    if settings.exposure_us is not None:
        if (backend := capture.getBackendName()) != "V4L2":
            raise DeviceRefusal(f"exposure_us: {backend}, which reads this camera, has no such unit; leave it out")
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, V4L2_MANUAL)
        capture.set(cv2.CAP_PROP_EXPOSURE, round(settings.exposure_us / V4L2_EXPOSURE_US))
        exposure_us = capture.get(cv2.CAP_PROP_EXPOSURE) * V4L2_EXPOSURE_US
        within_us = max(V4L2_EXPOSURE_US / 2, EXPOSURE_WITHIN * settings.exposure_us)
        if abs(exposure_us - settings.exposure_us) > within_us:
            _compare("exposure_us", settings.exposure_us, exposure_us)


def _compare(key: str, asked: object, got: object) -> None:
    if got != asked:
        raise DeviceRefusal(f"{key}: {asked} asked for, the camera reads back {got}")


class VideoFile(Camera):
    """Every frame of a video file; frames that its header announces and nobody can read are one NoFrame at the end."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path
        # The absolute path, so that a file called `a:b.mp4` is not taken for a protocol.
        self._capture = cv2.VideoCapture(str(path.resolve()))

    def frames(self, stop: threading.Event) -> Frames:
        """Frames in order; CameraError when there is not even one."""
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        frame_id = 0
        while not stop.is_set():
            grabbed, frame_bgr = self._capture.read()
            if not grabbed:
                break
            yield Frame(np.asarray(frame_bgr, dtype=np.uint8), self._provenance(frame_id))
            frame_id += 1
        else:
            return
        if frame_id == 0:
            raise CameraError(f"{self.name}: not a video that OpenCV can decode; expected {EXPECTED}")
        if announced - frame_id > 1 + FRAME_COUNT_TOLERANCE * announced:
            reason = f"the file announces {announced:.0f} frames, {frame_id} could be read; it is cut off or broken"
            yield NoFrame(self._provenance(frame_id), reason)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _provenance(self, frame_id: int) -> Provenance:
        return Provenance(self.name, frame_id, changed_at(self._path), printable(self._path.name))
