"""Lines that a disk refuses wait in memory and are written, in order, when it takes them again."""

from __future__ import annotations

from collections import deque
from time import monotonic

from edge.errors import OutputError
from edge.notify import Notify, Trouble, is_worth_telling
from edge.outputs.line_file import may_pass
from edge.outputs.rotating_file import RotatingFile

RETRY_S = 1.0  # pause before a disk that refused is tried again
CATCH_UP = 50  # lines at a time: what waited must not hold the camera loop


class PatientFile:
    """Appends to `file`. At most `queue_lines` wait; then the oldest are lost, counted in `lost` and told.

    queue_lines 0: nothing waits, OutputError. Used by one thread, which also calls `try_again` now and then. At the
    start OutputError for a place that can never take a line.
    """

    def __init__(self, file: RotatingFile, queue_lines: int, notify: Notify) -> None:
        self._file, self._most, self._notify = file, queue_lines, notify
        self._waiting: deque[bytes] = deque()
        self._retry_at_s, self.lost, self._lost_before = 0.0, 0, 0
        self._trouble = Trouble(notify)
        try:
            file.open()
        except OutputError:
            file.close()
            raise
        except OSError as exc:
            if not queue_lines or not may_pass(exc):
                file.close()
                reason = exc.strerror or exc
                raise OutputError(f"{file.path}: cannot take records ({reason}); choose another file") from exc
            self._is_refused(exc)

    def append(self, line: bytes) -> None:
        """Write one line, or let it wait."""
        self._waiting.append(line)
        self.try_again()
        if len(self._waiting) > self._most > 0:
            self._waiting.popleft()
            self.lost += 1
            if is_worth_telling(self.lost):
                self._notify(f"{self._file.path}: {self._most} records wait; older ones lost so far: {self.lost}")

    def try_again(self) -> None:
        """Write what waits, unless the disk has just refused."""
        if self._waiting and monotonic() >= self._retry_at_s:
            self._write(CATCH_UP)

    def close(self) -> None:
        """Write what waits, if the disk takes it, and tell of what was lost."""
        try:
            self._write(len(self._waiting))
        finally:
            self._file.close()
        if self._waiting or self.lost:
            self._notify(f"{self._file.path}: records that were not written: {self.lost + len(self._waiting)}")

    def _write(self, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            try:
                self._file.append(self._waiting[0])
            except (OSError, OutputError) as exc:
                self._is_refused(exc)
                return
            self._waiting.popleft()
        if not self._waiting:
            lost = self.lost - self._lost_before
            self._trouble.over(f"{self._file.path}: records are written again; lost meanwhile: {lost}")
            self._lost_before = self.lost

    def _is_refused(self, exc: OSError | OutputError) -> None:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        if not self._most:
            self._waiting.clear()
            hint = "free some space, then run again: records are appended"
            raise OutputError(f"{self._file.path}: a record cannot be written ({reason}); {hint}") from exc
        self._retry_at_s = monotonic() + RETRY_S
        waits = f"up to {self._most} wait in memory until they can be"
        self._trouble.met(f"{self._file.path}: records cannot be written ({reason}); {waits}")
