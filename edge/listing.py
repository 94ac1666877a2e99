"""What lies below a folder: every file with its size and time, in one order, wherever the folder is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from edge.errors import PictureError
from edge.pictures import FrameBgr, read_picture
from edge.result import iso_utc
from edge.results_folder import RUN_FILE, read_run_facts

LAST_TIMESTAMP_S = 253402300799.0  # the end of 9999: a file system holds times that a calendar does not


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. path: below its folder, `/` between, as the file system has it. changed_at: ISO 8601 UTC."""

    path: str
    size_bytes: int
    changed_at: str

    @property
    def name(self) -> str:
        """The path as it stands in records."""
        return printable(self.path)


@dataclass(frozen=True, slots=True)
class Child:
    """A file, or (entry None) a folder, directly in a folder."""

    name: str
    entry: Entry | None


class PictureFolder(Protocol):
    """Where pictures lie. source: its name in records."""

    @property
    def source(self) -> str:
        """Name of the folder in records, without a password."""

    def children(self, below: str) -> Iterable[Child]:
        """What is directly in the sub-folder `below` ("" for the folder itself), in any order."""

    def holds_results(self, below: str) -> bool:
        """Whether `oddkind score` wrote this sub-folder, which has a `run.json`."""

    def read(self, entry: Entry) -> FrameBgr:
        """The picture; PictureError, without a path in its text, when it is none."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine; root: absolute."""

    root: Path

    @property
    def source(self) -> str:
        """Its path."""
        return printable(self.root)

    def children(self, below: str) -> Iterator[Child]:
        """Files, and folders that are not links; what is neither (a socket, a dead link) is left out."""
        with os.scandir(self.root / below) as found:
            for item in found:
                path = f"{below}/{item.name}" if below else item.name
                if item.is_file():
                    status = item.stat()
                    yield Child(item.name, Entry(path, status.st_size, changed_at(status.st_mtime)))
                elif item.is_dir(follow_symlinks=False):
                    yield Child(item.name, None)

    def holds_results(self, below: str) -> bool:
        """Whether its `run.json` is ours."""
        return read_run_facts(self.root / below / RUN_FILE) is not None

    def read(self, entry: Entry) -> FrameBgr:
        """The picture."""
        path = self.root / entry.path
        try:
            return read_picture(path)
        except PictureError as exc:  # the record has the path already, and it may not be UTF-8
            reason = os.fsencode(str(exc).removeprefix(f"{path}: ")).decode(errors="backslashreplace")
            raise PictureError(reason) from exc


def iter_entries(folder: PictureFolder, skip: Callable[[str], bool] = lambda below: False) -> Iterator[Entry]:
    """Every file below `folder`, sorted by the parts of its path.

    Hidden files and folders are left out, so are results of `oddkind score`, and sub-folders that `skip` names.
    One sub-folder at a time is in memory.
    """
    yield from _iter_below(folder, "", skip)


def _iter_below(folder: PictureFolder, below: str, skip: Callable[[str], bool]) -> Iterator[Entry]:
    if skip(below):
        return
    children = sorted((c for c in folder.children(below) if not c.name.startswith(".")), key=lambda c: c.name)
    if any(child.name == RUN_FILE for child in children) and folder.holds_results(below):
        return
    for child in children:
        if child.entry is not None:
            yield child.entry
        else:
            yield from _iter_below(folder, f"{below}/{child.name}" if below else child.name, skip)


def changed_at(timestamp_s: float) -> str:
    """Time of a file's last change as records have it, so that scoring it again gives the same row."""
    return iso_utc(min(max(timestamp_s, 0.0), LAST_TIMESTAMP_S))


def printable(path: PurePath | str) -> str:
    """The path as text that UTF-8 can hold: names that are not UTF-8, or hold a backslash, are escaped."""
    encoded = os.fsencode(path.as_posix() if isinstance(path, PurePath) else path)
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        text = ""
    if text and "\\" not in text:
        return text
    return encoded.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
