"""Records as JSON lines in files that an integrator leaves alone for months: a new file by size or by day.

The file that is written always has the name that was asked for. When it is full it is renamed, whole, to
`results.000042.20261126T235958Z.jsonl`: a number that grows, and the time (UTC) of its last record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import pydantic
from filelock import FileLock, Timeout

from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.sinks import HeatMap, JsonLinesSink, Output, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control
from edge.station.parts import as_path

STDOUT = Path("-")
BYTES_IN_MB = 1_000_000


def _file_or_stdout(value: object, info: pydantic.ValidationInfo) -> object:
    return STDOUT if value == "-" else as_path(value, info)


class RecordsOutput(Output):
    """One JSON record a line. file: `-` is standard output.

    max_mb: at so many megabytes (10^6 bytes) a new file is begun, after the record that reaches them; daily: with the
    first record of each day in UTC. keep: so many finished files stay, the newest; without it all do.
    """

    file: Annotated[Path, pydantic.BeforeValidator(_file_or_stdout)]
    daily: bool = False
    max_mb: float | None = pydantic.Field(default=None, ge=0.001, le=1_000_000)
    keep: int | None = pydantic.Field(default=None, ge=1, le=1_000_000)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> RecordsOutput:
        if self.keep and not self.rotates:
            raise ValueError("keep without max_mb or daily: say when a new file begins")
        if self.rotates and self.file == STDOUT:
            raise ValueError("max_mb, daily and keep are for files, and file is standard output ('-')")
        return self

    @property
    def rotates(self) -> bool:
        """Whether there will be more than one file."""
        return self.daily or self.max_mb is not None

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """A plain file or stdout, or one that rotates."""
        if self.rotates:
            return RotatingRecords(self.file, self.max_mb, self.daily, self.keep, notify)
        return JsonLinesSink(None if self.file == STDOUT else self.file)

    def in_words(self) -> str:
        """File, rotation and what stays."""
        if self.file == STDOUT:
            return "records to standard output"
        when = ["every day"] * self.daily + ([f"at {self.max_mb:g} MB"] if self.max_mb else [])
        begins = f"; a new file {' and '.join(when)}" if when else ""
        stay = f", {self.keep} finished ones stay" if self.keep else ", all finished ones stay" if when else ""
        return f"records to {self.file}{begins}{stay}"


class RotatingRecords(Sink):
    """JSON lines into `path`, which is renamed and begun again; no record is split over two files or left out.

    A file that cannot be renamed costs the rotation, not the records: they go on into it, `notify` hears of it once.
    Only files that a rotation of `path` has named are ever removed. OutputError when another process writes there.
    """

    def __init__(
        self,
        path: Path,
        max_mb: float | None,
        daily: bool,
        keep: int | None,
        notify: Notify,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._daily, self._keep, self._notify, self._now = path, daily, keep, notify, now
        self._max_bytes = round(max_mb * BYTES_IN_MB) if max_mb else None
        self._complaint = ""
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._lock_or_refuse()
        try:
            self._records = JsonLinesSink(path)
        except OutputError:
            self._lock.release()
            raise
        self._last_write = datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Append one line, in a new file when the old one is full; OutputError when it cannot be written."""
        now = self._now()
        if not self._path.exists():  # moved away by somebody who keeps it elsewhere
            self._records.close()
            self._records = JsonLinesSink(self._path)
        elif self._is_full(now.date()):
            self._rotate()
        self._records.write(inspection, frame_bgr)
        self._last_write = now

    def close(self) -> None:
        """Close the file and let others write."""
        self._records.close()
        self._lock.release()

    def finished(self) -> list[Path]:
        """Files that are full, oldest first: by number, because a clock may have been set back."""
        pattern = re.compile(
            rf"{re.escape(self._path.stem)}\.(\d{{6,}})\.\d{{8}}T\d{{6}}Z{re.escape(self._path.suffix)}"
        )
        names = {path: pattern.fullmatch(path.name) for path in self._path.parent.iterdir()}
        numbers = {path: int(match[1]) for path, match in names.items() if match}
        return sorted(numbers, key=lambda path: (numbers[path], path.name))

    def _lock_or_refuse(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as exc:
            raise OutputError(f"{self._path}: another run writes here; give each a file of its own") from exc
        except OSError as exc:
            raise OutputError(
                f"{self._path}: cannot take records ({exc.strerror or exc}); choose another file"
            ) from exc

    def _is_full(self, today: date) -> bool:
        size = self._path.stat().st_size
        too_large = self._max_bytes is not None and size >= self._max_bytes
        return size > 0 and (too_large or (self._daily and self._last_write.date() != today))

    def _rotate(self) -> None:
        try:
            earlier = self.finished()
            number = int(earlier[-1].name[len(self._path.stem) + 1 :].partition(".")[0]) + 1 if earlier else 1
            moment = self._last_write.strftime("%Y%m%dT%H%M%SZ")
            full = self._path.with_name(f"{self._path.stem}.{number:06d}.{moment}{self._path.suffix}")
            self._begin_anew(full)
            self._remove_oldest([*earlier, full])
        except (OSError, OutputError) as exc:
            self._notify_once(f"{self._path}: the file of records is not rotated as asked ({exc})")

    def _begin_anew(self, full: Path) -> None:
        """Rename, then open; when there is no new file the old one gets its name back and is written on."""
        self._path.rename(full)
        try:
            fresh = JsonLinesSink(self._path)
        except OutputError:
            full.rename(self._path)
            raise
        self._records.close()
        self._records = fresh

    def _remove_oldest(self, files: list[Path]) -> None:
        for path in files[: -self._keep] if self._keep else []:
            path.unlink(missing_ok=True)

    def _notify_once(self, text: str) -> None:
        if text != self._complaint:
            self._notify(text)
        self._complaint = text
