"""Records in files: JSON lines for machines, CSV for spreadsheets; rotated alike, and patient with a full disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pydantic

from edge.notify import Notify
from edge.outputs.patient_file import PatientFile
from edge.outputs.rotating_file import RotatingFile, Rotation
from edge.outputs.sinks import HeatMap, JsonLinesSink, Output, Sink, json_line
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control, Status
from edge.station.parts import StationPath, as_path
from edge.table import STATION_COLUMNS, csv_line, table_row

STDOUT = Path("-")
BYTES_IN_MB = 1_000_000

Line = Callable[[Inspection], bytes]


def _file_or_stdout(value: object, info: pydantic.ValidationInfo) -> object:
    return STDOUT if value == "-" else as_path(value, info)


class LinesOutput(Output):
    """One record a line, appended to a file.

    max_mb: at so many megabytes (10^6 bytes) a new file is begun, after the record that reaches them; daily: with the
    first record of each day in UTC. keep: so many finished files stay, the newest; without it all do. queue_records:
    wait in memory while the disk refuses; 0: the run ends then.
    """

    file: StationPath
    daily: bool = False
    max_mb: float | None = pydantic.Field(default=None, ge=0.001, le=1_000_000)
    keep: int | None = pydantic.Field(default=None, ge=1, le=1_000_000)
    queue_records: int = pydantic.Field(default=1000, ge=0, le=100_000)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> LinesOutput:
        if self.keep and not self.rotation.is_wanted:
            raise ValueError("keep without max_mb or daily: say when a new file begins")
        return self

    @property
    def rotation(self) -> Rotation:
        """When a new file begins."""
        return Rotation(round(self.max_mb * BYTES_IN_MB) if self.max_mb else None, self.daily, self.keep)

    def described(self, what: str) -> str:
        """What goes where, rotation and what stays."""
        when = ["every day"] * self.daily + ([f"at {self.max_mb:g} MB"] if self.max_mb else [])
        begins = f"; a new file {' and '.join(when)}" if when else ""
        stay = f", {self.keep} finished ones stay" if self.keep else ", all finished ones stay" if when else ""
        return f"{what} to {self.file}{begins}{stay}"


class RecordsOutput(LinesOutput):
    """One JSON record a line. file: `-` is standard output."""

    file: Annotated[Path, pydantic.BeforeValidator(_file_or_stdout)]

    @pydantic.model_validator(mode="after")
    def _is_for_files(self) -> RecordsOutput:
        if self.rotation.is_wanted and self.file == STDOUT:
            raise ValueError("max_mb, daily and keep are for files, and file is standard output ('-')")
        if "queue_records" in self.model_fields_set and self.queue_records and self.file == STDOUT:
            raise ValueError("queue_records is for files, and file is standard output ('-')")
        return self

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """Standard output, or a file."""
        if self.file == STDOUT:
            return JsonLinesSink()
        return LinesSink(self, json_line, notify)

    def in_words(self) -> str:
        """File, rotation and what stays."""
        return "records to standard output" if self.file == STDOUT else self.described("records")


class CsvOutput(LinesOutput):
    """One row a record, under a line with the names of the columns."""

    @pydantic.field_validator("file")
    @classmethod
    def _is_a_file(cls, file: Path) -> Path:
        if file.name == "-":
            raise ValueError("expected a path; only outputs.records can go to standard output")
        return file

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """A file with a header."""
        return LinesSink(self, csv_row, notify, csv_line(STATION_COLUMNS))

    def in_words(self) -> str:
        """File, rotation and what stays."""
        return self.described("a table (CSV)")


class LinesSink(Sink):
    """Every inspection a line of a file; what cannot be written waits, see `PatientFile`."""

    def __init__(self, settings: LinesOutput, line: Line, notify: Notify, header: bytes = b"") -> None:
        self._line = line
        self._file = PatientFile(
            RotatingFile(settings.file, settings.rotation, notify, header), settings.queue_records, notify
        )

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Append one line; OutputError when it cannot be written and nothing may wait."""
        self._file.append(self._line(inspection))

    def came_round(self, status: Status) -> None:
        """Write what waits, with or without new records."""
        self._file.try_again()

    def close(self) -> None:
        """Write what waits, if it can be, and close the file."""
        self._file.close()


def csv_row(inspection: Inspection) -> bytes:
    """The record as a row of a station's table."""
    return csv_line(table_row(inspection.to_record(), STATION_COLUMNS))
