"""Children of a process, found in /proc: tests kill them as a full memory would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def workers_of(pid: int) -> list[int]:
    """Processes that multiprocessing started for `pid`."""
    return [child for child in children_of(pid) if b"spawn_main" in _read(Path(f"/proc/{child}/cmdline"))]


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and parent_of(int(p.name)) == pid]


def parent_of(pid: int) -> int | None:
    """The parent of a living process, None of one that has ended."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return int(fields[1]) if fields and fields[0] not in (b"Z", b"X") else None


def kill(pid: int) -> None:
    """At once, with no chance to tidy up."""
    os.kill(pid, signal.SIGKILL)


def wait_for(what: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Until `what` is true; a test that waits for nothing fails."""
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
