"""Opening a source of frames: what its text means, and which file knows that kind.

Files end: every frame is handed over, in order. Cameras are lost and come back, see `edge.cameras.live`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.cameras import basler, genicam, opencv
from edge.cameras.address import EXPECTED, URL_SCHEMES, is_device, maker, maker_id, printable, redacted, url_scheme
from edge.cameras.device import Capture, DeviceCapture, DeviceSettings, same_format
from edge.cameras.frames import Camera
from edge.cameras.live import LOST_AFTER_S, LiveCamera
from edge.cameras.picture_folder import PictureFolder
from edge.cameras.watched_folder import WatchedFolder
from edge.errors import CameraError, UsageError
from edge.pictures import PICTURE_SUFFIXES, iter_picture_paths


def open_camera(
    source: str,
    lost_after_s: float = LOST_AFTER_S,
    wait_for_camera: bool = False,
    device: DeviceSettings | None = None,
    trigger_source: str | None = None,
    keep: int = 1,
) -> Camera:
    """The camera that `source` names; CameraError says what a source may be.

    lost_after_s, wait_for_camera, keep: for live sources, see `LiveCamera`. device: settings of those that have any.
    trigger_source: `software` or a line such as Line1, for `genicam:` and `basler:`; None: free running.
    """
    device = device or DeviceSettings()
    if trigger_source is not None and maker(source) is None:
        raise UsageError(f"source {redacted(source)}: only genicam: and basler: cameras can be triggered themselves")
    open_capture = _live_capture(source, lost_after_s, device, trigger_source)
    if open_capture is None:
        return _open_file(source)
    return LiveCamera(source, open_capture, lost_after_s, wait_for_camera, keep)


def watch_folder(
    source: str, lost_after_s: float = LOST_AFTER_S, wait_for_camera: bool = False, with_existing: bool = False
) -> Camera:
    """A camera that gives every new picture in a folder, see `WatchedFolder`."""
    return WatchedFolder(Path(source), lost_after_s, wait_for_camera, with_existing)


def _live_capture(
    source: str, lost_after_s: float, device: DeviceSettings, trigger_source: str | None
) -> Callable[[], Capture | DeviceCapture] | None:
    """What opens a live source; None when it is a file or folder."""
    if maker(source) == "genicam":
        genicam.require()
        genicam.producer_file(device.producer)
        return same_format(lambda: genicam.GenicamCapture(maker_id(source), device, trigger_source))
    if maker(source) == "basler":
        basler.require()
        return same_format(lambda: basler.BaslerCapture(maker_id(source), device, trigger_source))
    if source.isdecimal() or is_device(source):
        return lambda: opencv.open_device(int(source) if source.isdecimal() else source, device)
    scheme = url_scheme(source)
    if scheme in URL_SCHEMES:
        return lambda: opencv.open_url(source, lost_after_s)
    if scheme is not None:
        raise CameraError(f"source {redacted(source)}: {scheme}:// is not supported; expected {EXPECTED}")
    return None


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
    return opencv.VideoFile(name, path)
