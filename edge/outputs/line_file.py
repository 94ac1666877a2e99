"""A file of lines that others read while it grows: a line is in it whole, or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
LONGEST_TORN_BYTES = 1_000_000  # of a line that a power cut tore, so much is looked at


class LineFile:
    """Appends lines to `path`, unbuffered; folders are made. Every failure is an OSError.

    What a full disk leaves of a line is cut off again, and a torn line that an earlier run left (power cut) is closed
    with a line break, so that it spoils no other. header: the first line of a file that is empty.
    """

    def __init__(self, path: Path, header: bytes = b"") -> None:
        self._path, self._header = path, header
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = path.open("ab+", buffering=0)
        try:
            self._close_torn_line()
        except OSError:
            self.close()
            raise

    def append(self, line: bytes) -> None:
        """Write one line, which ends with a line break."""
        start = self._stream.seek(0, os.SEEK_END)
        try:
            write_all(self._stream, line if start else self._header + line)
        except OSError:
            with suppress(OSError):
                self._stream.truncate(start)
            raise

    @property
    def size_bytes(self) -> int:
        """How large the file is."""
        return os.fstat(self._stream.fileno()).st_size

    @property
    def is_in_place(self) -> bool:
        """Whether `path` still leads to this file: False when it was moved, deleted or replaced."""
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # who may not look can still write to what is open
            return True
        return os.path.samestat(there, os.fstat(self._stream.fileno()))

    def first_line(self) -> bytes:
        """The first line with its break, as far as the header is long; nothing of an empty file."""
        self._stream.seek(0)
        return self._stream.read(len(self._header))

    def close(self) -> None:
        """Safe to call twice."""
        with suppress(OSError):  # a network disk may say only now what it thinks
            self._stream.close()

    def _close_torn_line(self) -> None:
        end = self._stream.seek(0, os.SEEK_END)
        if end < len(self._header) and self._header.startswith(self.first_line()):
            self._stream.truncate(0)  # the power went with the first line
            return
        if not end:
            return
        self._stream.seek(max(0, end - LONGEST_TORN_BYTES))
        torn = self._stream.read(LONGEST_TORN_BYTES).rpartition(b"\n")[2]
        if torn:  # of a table, also the cell that was being written
            is_cell_open = bool(self._header) and torn.count(b'"') % 2 == 1
            write_all(self._stream, b'"\n' if is_cell_open else b"\n")


def may_pass(exc: OSError) -> bool:
    """Whether a disk says so that was fine yesterday; all else at the start is a wrong path, for a person to mend."""
    return exc.errno in PASSING


def write_all(stream: BinaryIO, content: bytes) -> None:
    """A raw file may take only a part at a time, without an error, when the disk is nearly full."""
    left = memoryview(content)
    while left:
        left = left[stream.write(left) :]
