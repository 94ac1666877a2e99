"""Files of lines that an integrator leaves alone for months: a new one by size or by day.

The file that is written always has the name that was asked for. When it is full it is renamed, whole, to
`results.000042.20261126T235958Z.jsonl`: a number that grows, and the time (UTC) of its last line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.line_file import LineFile


@dataclass(frozen=True)
class Rotation:
    """When a new file begins, and how many finished ones stay; None: never, and all."""

    max_bytes: int | None = None
    daily: bool = False
    keep: int | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there will be more than one file."""
        return self.daily or self.max_bytes is not None


class RotatingFile:
    """Lines into `path`, which is renamed and begun again; no line is split over two files or left out.

    A file that cannot be renamed costs the rotation, not the lines: they go on into it, `notify` hears of it once. Only
    files that a rotation of `path` has named are ever removed. Opened with the first line, or by `open`, and after
    every failure anew: OSError when the disk refuses, OutputError when another process rotates here or the file begins
    with another header.
    """

    def __init__(
        self,
        path: Path,
        rotation: Rotation,
        notify: Notify,
        header: bytes = b"",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path, self._rotation, self._notify, self._header, self._now = path, rotation, notify, header, now
        self._complaint = ""
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._file: LineFile | None = None
        self._last_write: datetime | None = None

    def open(self) -> LineFile:
        """The file that is written."""
        if self._file and self._file.is_in_place:
            return self._file
        self._let_go()  # moved away by somebody who keeps it elsewhere
        if self._rotation.is_wanted:
            self._lock_or_refuse()
        file = LineFile(self.path, self._header)
        if file.first_line() not in (b"", self._header):
            file.close()
            raise OutputError(f"{self.path}: begins with other columns; move it away or choose another file")
        self._file = file
        self._last_write = self._last_write or datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        return file

    def append(self, line: bytes) -> None:
        """Write one line, in a new file when the old one is full."""
        now = self._now()
        try:
            file = self.open()
            if self._is_full(file, now.date()):
                file = self._rotate(file)
            file.append(line)
        except OSError:
            self._let_go()
            raise
        self._last_write = now

    def close(self) -> None:
        """Close the file and let others write."""
        self._let_go()
        self._lock.release()

    def finished(self) -> list[Path]:
        """Files that are full, oldest first: by number, because a clock may have been set back."""
        pattern = re.compile(rf"{re.escape(self.path.stem)}\.(\d{{6,}})\.\d{{8}}T\d{{6}}Z{re.escape(self.path.suffix)}")
        names = {path: pattern.fullmatch(path.name) for path in self.path.parent.iterdir()}
        numbers = {path: int(match[1]) for path, match in names.items() if match}
        return sorted(numbers, key=lambda path: (numbers[path], path.name))

    def _let_go(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _lock_or_refuse(self) -> None:
        if self._lock.is_locked:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as exc:
            raise OutputError(f"{self.path}: another run writes here; give each a file of its own") from exc

    def _is_full(self, file: LineFile, today: date) -> bool:
        size, limit = file.size_bytes, self._rotation.max_bytes
        is_of_earlier_day = self._rotation.daily and self._last_write is not None and self._last_write.date() != today
        return size > 0 and ((limit is not None and size >= limit) or is_of_earlier_day)

    def _rotate(self, file: LineFile) -> LineFile:
        """The new file, or the old one when there can be none."""
        try:
            earlier = self.finished()
            number = int(earlier[-1].name[len(self.path.stem) + 1 :].partition(".")[0]) + 1 if earlier else 1
            moment = (self._last_write or self._now()).strftime("%Y%m%dT%H%M%SZ")
            full = self.path.with_name(f"{self.path.stem}.{number:06d}.{moment}{self.path.suffix}")
            file = self._file = self._begin_anew(file, full)
            self._remove_oldest([*earlier, full])
        except OSError as exc:
            self._notify_once(f"{self.path}: a full file is not put aside as asked ({exc})")
        return file

    def _begin_anew(self, file: LineFile, full: Path) -> LineFile:
        """Rename, then open; when there is no new file the old one gets its name back and is written on."""
        self.path.rename(full)
        try:
            fresh = LineFile(self.path, self._header)
        except OSError:
            full.rename(self.path)
            raise
        file.close()
        return fresh

    def _remove_oldest(self, files: list[Path]) -> None:
        for path in files[: -self._rotation.keep] if self._rotation.keep else []:
            path.unlink(missing_ok=True)

    def _notify_once(self, text: str) -> None:
        if text != self._complaint:
            self._notify(text)
        self._complaint = text
