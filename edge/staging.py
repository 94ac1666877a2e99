"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge.errors import UsageError


@contextmanager
def staged_folder(out: Path, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`; rename it to `out` on success, remove it on any error.

    An existing `out` is refused, unless `overwrite` is asked for and it is empty or holds `marker`
    (so that a mistyped path never deletes somebody's pictures).
    """
    refuse_taken(out, marker, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        yield staging
        staging.chmod(0o755)
        for path in staging.iterdir():
            _fsync(path)
        _fsync(staging)
        _swap(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def refuse_taken(out: Path, marker: str, overwrite: bool) -> None:
    """UsageError if `out` exists and may not be replaced."""
    blocking = next((folder for folder in out.parents if folder.exists() and not folder.is_dir()), None)
    if blocking:
        raise UsageError(f"{blocking} is a file, a folder is needed; choose another --out")
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file, a folder is needed; choose another --out")
    if any(out.iterdir()) and not (overwrite and (out / marker).is_file()):
        hint = "choose another --out, or add --overwrite" if (out / marker).is_file() else "choose another --out"
        raise UsageError(f"{out} exists and is not empty; {hint}")


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Replace `path` so that a reader, or a power cut, sees the old content or the new, never a part."""
    with atomic_writer(path) as stream:
        stream.write(content)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content replaces `path` when the body ends, and is dropped when it raises."""
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)  # noqa: PTH101
        Path(aside).replace(path)
        _fsync(path.parent)
    finally:
        Path(aside).unlink(missing_ok=True)


def _swap(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    out.rename(old)
    staging.rename(out)
    shutil.rmtree(old)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
