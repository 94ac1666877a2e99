"""A folder of pictures that are all there: each once, in order, then it ends."""

from __future__ import annotations

import threading
from pathlib import Path

from edge.cameras.address import printable
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.errors import PictureError
from edge.pictures import read_picture
from edge.result import Provenance, iso_utc, utc_now


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
            provenance = Provenance(self.name, frame_id, changed_at(path), shown)
            try:
                frame_bgr = read_picture(path)
            except PictureError as exc:
                yield NoFrame(provenance, printable(str(exc)))
                continue
            yield Frame(frame_bgr, provenance)


def changed_at(path: Path) -> str:
    """When the file was written last, ISO 8601 UTC."""
    try:
        return iso_utc(path.stat().st_mtime)
    except OSError:  # gone since it was listed: reading it will say so
        return utc_now()
