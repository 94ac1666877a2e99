"""Opening a source of frames. The only file that uses cv2.VideoCapture.

Files end: every frame is handed over, in order. Cameras are lost and come back, see `live_camera.py`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np

from edge.cameras.address import EXPECTED, URL_SCHEMES, is_device, printable, redacted, url_scheme
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.cameras.live import LOST_AFTER_S, LiveCamera
from edge.errors import CameraError, PictureError
from edge.pictures import PICTURE_SUFFIXES, iter_picture_paths, read_picture
from edge.result import Provenance, iso_utc, utc_now

# FFmpeg and OpenCV print to stderr, addresses included; what matters we say ourselves. FFmpeg reads this at first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# A frame count in a file's header is often an estimate; only a clear shortage means that frames are missing.
FRAME_COUNT_TOLERANCE = 0.02


def open_camera(source: str, lost_after_s: float = LOST_AFTER_S, wait_for_camera: bool = False) -> Camera:
    """The camera that `source` names; CameraError says what a source may be.

    lost_after_s, wait_for_camera: for live sources, see `LiveCamera`.
    """
    if source.isdecimal() or is_device(source):
        device = int(source) if source.isdecimal() else source
        return LiveCamera(source, lambda: cv2.VideoCapture(device), lost_after_s, wait_for_camera)
    scheme = url_scheme(source)
    if scheme in URL_SCHEMES:
        return LiveCamera(source, lambda: _open_url(source, lost_after_s), lost_after_s, wait_for_camera)
    if scheme is not None:
        raise CameraError(f"source {redacted(source)}: {scheme}:// is not supported; expected {EXPECTED}")
    return _open_file(source)


class PictureFolder(Camera):
    """Picture files, sorted by path; a broken one is a NoFrame and the next one follows."""

    def __init__(self, name: str, root: Path, paths: list[Path]) -> None:
        self.name, self._root, self._paths = name, root, paths

    def frames(self, stop: threading.Event) -> Frames:
        """One Frame or NoFrame for each file."""
        for frame_id, path in enumerate(self._paths):
            if stop.is_set():
                return
            shown = printable(path.relative_to(self._root).as_posix())
            provenance = Provenance(self.name, frame_id, _changed_at(path), shown)
            try:
                frame_bgr = read_picture(path)
            except PictureError as exc:
                yield NoFrame(provenance, printable(str(exc)))
                continue
            yield Frame(frame_bgr, provenance)


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
        return Provenance(self.name, frame_id, _changed_at(self._path), printable(self._path.name))


def _open_file(source: str) -> Camera:
    path, name = Path(source), printable(source)
    if source and path.is_dir():
        paths = list(iter_picture_paths(path))
        if not paths:
            raise CameraError(f"{name}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        return PictureFolder(name, path, paths)
    if not source or not path.is_file():
        raise CameraError(f"source {name!r}: no such file or folder; expected {EXPECTED}")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return PictureFolder(name, path.parent, [path])
    return VideoFile(name, path)


def _open_url(url: str, timeout_s: float) -> cv2.VideoCapture:
    timeout_ms = round(timeout_s * 1e3)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)


def _changed_at(path: Path) -> str:
    try:
        return iso_utc(path.stat().st_mtime)
    except OSError:  # gone since it was listed: reading it will say so
        return utc_now()
