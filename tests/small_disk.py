"""A real file system of a few megabytes, to be filled up, made read-only and mended again; needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs. folder: where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave_bytes: int = 0) -> None:
        """Write until nothing goes in any more, then give some of it back."""
        with self._ballast.open("ab", buffering=0) as stream:
            try:
                while True:
                    stream.write(b"\0" * 4096)
            except OSError:
                pass
            stream.truncate(max(0, stream.tell() - leave_bytes))

    def free(self) -> None:
        """Take out what `fill` put in."""
        self._ballast.unlink()

    def make_read_only(self, is_read_only: bool) -> None:
        """As a kernel does with a disk that has errors; refused while a file is open for writing."""
        _run("mount", "-o", f"remount,{'ro' if is_read_only else 'rw'}", str(self.folder))


@contextmanager
def small_disk(folder: Path, size_mb: int = 3) -> Iterator[SmallDisk]:
    """Mounted at `folder`, taken away at the end."""
    if os.geteuid():
        pytest.skip("a small file system can be mounted by root alone")
    folder.mkdir()
    if _run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "oddkind-test", str(folder)):
        pytest.skip("no file system can be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "-l", str(folder))


def _run(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode
