"""A folder that another program writes pictures into: each new one, once, when it is whole.

It is listed again and again, which works on every file system, on network drives too, where notifications do not.
"""

from __future__ import annotations

import heapq
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, thread_time

from edge.cameras.address import printable
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.cameras.known_files import KnownFiles, Version
from edge.errors import CameraError, PictureError
from edge.pictures import PICTURE_SUFFIXES, read_picture
from edge.result import Provenance, iso_utc, utc_now

LOOK_EVERY_S = 0.2
LOOK_SHARE = 0.1  # of a core at most is spent on listing a folder that holds very many files
LONGEST_PAUSE_S = 5.0
CHANGES_S = 2.0  # a folder's time is coarse: so long after it changed the folder is listed all the same
LIST_EVERY_S = 5.0  # some file systems keep no such time
SETTLED_S = 0.3  # a file that has not changed for so long is read
BROKEN_AFTER_S = 3.0  # and one that is no picture after so long without a change never will be
HOLDS_UP_S = 5.0  # so long a file that is not whole yet keeps those behind it waiting
MAX_WAITING = 1000

Item = Frame | NoFrame


@dataclass
class _NewFile:
    """version: when it was last looked at; it has not changed since `settled_at_s`."""

    version: Version
    seen_at_s: float
    settled_at_s: float


class WatchedFolder(Camera):
    """New picture files of one folder, not of folders in it, in the order in which they appeared.

    with_existing: those that are there at the start too. lost_after_s: so long the folder may be gone.
    wait_for_camera: it may be so at the start; otherwise that is a CameraError. Hidden files and those without a
    picture's suffix are left alone, so a writer may use such a name until the file is whole. A file written over under
    the same name is no new one, unless it was seen to be away in between.
    """

    is_sporadic = True

    def __init__(
        self, folder: Path, lost_after_s: float, wait_for_camera: bool = False, with_existing: bool = False
    ) -> None:
        self.name = printable(folder)
        self._folder, self._lost_after_s, self._wait_for_camera = folder, lost_after_s, wait_for_camera
        self._skips_all = not with_existing
        self._known = KnownFiles()
        self._waiting: dict[str, _NewFile] = {}  # in order of appearance
        self._place: tuple[int, int] | None = None  # device and inode of the folder, when it was there
        self._gone_since_s: float | None = None
        self._folder_ns = 0
        self._changed_s = self._listed_s = float("-inf")
        self._has_more = False
        self._next_frame_id = self._vanished = 0

    def frames(self, stop: threading.Event) -> Frames:
        """A Frame for each new picture, a NoFrame for one that stays broken and for a folder that is gone."""
        if not self._wait_for_camera and not self._folder.is_dir():
            raise CameraError(f"{self.name}: no such folder to watch; make it, or set wait_for_camera: true")
        while not stop.is_set():
            begun_s = thread_time()
            try:
                self._look()
                pause_s = min(max(LOOK_EVERY_S, (thread_time() - begun_s) / LOOK_SHARE), LONGEST_PAUSE_S)
                yield from self._whole_ones(stop)
            except OSError as exc:
                pause_s = LOOK_EVERY_S
                yield from self._gone(exc.strerror or type(exc).__name__)
            stop.wait(pause_s)

    def _look(self) -> None:
        """Find new files, the oldest first; OSError when the folder is gone."""
        found = self._folder.stat()
        place = found.st_dev, found.st_ino
        if self._gone_since_s is not None or self._place not in (None, place):
            self._known.all_away()  # a network drive that comes back brings no new pictures
            self._changed_s = monotonic()
        if self._may_have_changed(found.st_mtime_ns):
            fresh = self._fresh()
            if self._skips_all:
                for name in fresh:
                    self._skip(name)
            else:
                self._enlist(fresh)
        self.reconnects += self.trouble is not None
        self._place, self._gone_since_s, self.trouble, self._skips_all = place, None, None, False

    def _may_have_changed(self, folder_ns: int) -> bool:
        """Whether to list the folder: its own time says when a file came or went."""
        now_s = monotonic()
        if folder_ns != self._folder_ns:
            self._folder_ns, self._changed_s = folder_ns, now_s
        is_due = now_s - self._changed_s < CHANGES_S or now_s - self._listed_s > LIST_EVERY_S
        self._listed_s = now_s if is_due else self._listed_s
        return is_due or self._has_more

    def _fresh(self) -> Iterator[str]:
        """Names of pictures not seen before."""
        with os.scandir(self._folder) as entries:
            for name in self._known.fresh((entry.name for entry in entries), self._version):
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES:  # noqa: PTH122
                    yield name

    def _version(self, name: str) -> Version | None:
        """None for what is no regular file, or gone."""
        try:
            found = (self._folder / name).stat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Version(found.st_size, found.st_mtime_ns, max(found.st_mtime_ns, found.st_ctime_ns))

    def _skip(self, name: str) -> None:
        if version := self._version(name):
            self._known.add(name, version)

    def _enlist(self, fresh: Iterator[str]) -> None:
        """Those that appeared first; what finds no room is found again."""
        stamped = ((version.appeared_ns, name, version) for name in fresh if (version := self._version(name)))
        now_s = monotonic()
        first = heapq.nsmallest(room := MAX_WAITING - len(self._waiting), stamped)
        for _, name, version in first:
            self._known.add(name, version)
            self._waiting.setdefault(name, _NewFile(version, now_s, now_s))
        self._has_more = len(first) == room

    def _whole_ones(self, stop: threading.Event) -> Iterator[Item]:
        """What can be read by now. OSError when the folder is gone; those that wait go on waiting."""
        for name, new in list(self._waiting.items()):
            if stop.is_set():
                return
            item = self._item(name, new)
            if item is not None:
                self._waiting.pop(name, None)
                self._known.add(name, new.version)
                yield item
            elif name in self._waiting and monotonic() - new.seen_at_s < HOLDS_UP_S:
                return

    def _item(self, name: str, new: _NewFile) -> Item | None:
        """The picture, or why there is none; None while it may still be written, or when it has vanished."""
        version, now_s = self._version(name), monotonic()
        if version is None:
            self._folder.stat()  # whether it is the folder that is gone
            del self._waiting[name]
            self._vanished += 1
            return None
        if version != new.version:
            new.version, new.settled_at_s = version, now_s
        if now_s - new.settled_at_s < SETTLED_S:
            return None
        try:
            frame_bgr = read_picture(self._folder / name)
        except PictureError as exc:
            if now_s - new.settled_at_s < BROKEN_AFTER_S:
                return None
            return NoFrame(self._provenance(name, version), printable(str(exc)))
        vanished, self._vanished = self._vanished, 0
        return Frame(frame_bgr, self._provenance(name, version), vanished)

    def _gone(self, why: str) -> Iterator[NoFrame]:
        """The folder is not there: after a while that is told, once."""
        now_s = monotonic()
        self._gone_since_s = now_s if self._gone_since_s is None else self._gone_since_s
        if self.trouble is None and now_s - self._gone_since_s >= self._lost_after_s:
            self.trouble = f"camera lost: the folder is gone ({why})"
            yield NoFrame(Provenance(self.name, self._take_id(), utc_now()), self.trouble, lost=True)

    def _provenance(self, name: str, version: Version) -> Provenance:
        return Provenance(self.name, self._take_id(), iso_utc(version.changed_ns / 1e9), printable(name))

    def _take_id(self) -> int:
        self._next_frame_id += 1
        return self._next_frame_id - 1
