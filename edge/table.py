"""Results as tables, written row by row beside `results.jsonl`: CSV for spreadsheets, Parquet for everything larger."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, BinaryIO, Protocol

Record = dict[str, Any]
OpenWriter = Callable[[str], AbstractContextManager[BinaryIO]]

TABLE_FILE = "results.csv"
PARQUET_FILE = "results.parquet"

TABLE_COLUMNS = (
    "path",
    "verdict",
    "anomaly_score",
    "image_threshold",
    "defect_class",
    "relation_score",
    "box_xyxy",
    "error",
)
# Of a station, where a record may be of any camera and of any moment.
STATION_COLUMNS = (
    "captured_at",
    "source",
    "frame_id",
    *TABLE_COLUMNS,
    "age_ms",
    "trigger_id",
    "part_id",
    "master_part",
    "result_id",
)


class Table(Protocol):
    """Takes every record of a result."""

    def add(self, record: Record) -> None:
        """Append one row."""


class CsvTable:
    """`results.csv`: one line a row; region columns are those of the strongest region."""

    def __init__(self, stream: BinaryIO) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=False)
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(TABLE_COLUMNS)

    def add(self, record: Record) -> None:
        """Append one line."""
        self._rows.writerow(table_row(record))

    def close(self) -> None:
        """Write what is buffered; the stream stays open, it belongs to who opened it."""
        self._text.detach()


@contextmanager
def open_tables(open_writer: OpenWriter, wants_parquet: bool) -> Iterator[list[Table]]:
    """The tables of a result, each of which appears whole or not at all. open_writer: file name -> stream."""
    with ExitStack() as stack:
        csv_table = CsvTable(stack.enter_context(open_writer(TABLE_FILE)))
        stack.callback(csv_table.close)
        tables: list[Table] = [csv_table]
        if wants_parquet:
            from edge.parquet_table import ParquetTable

            parquet = ParquetTable(stack.enter_context(open_writer(PARQUET_FILE)))
            stack.callback(parquet.close)
            tables.append(parquet)
        yield tables


def table_row(record: Record, columns: Sequence[str] = TABLE_COLUMNS) -> list[str]:
    """The cells of one line; region columns are those of the strongest region."""
    strongest = record["regions"][0] if record["regions"] else {}
    trigger, master_part = record.get("trigger") or {}, record.get("master_part") or {}
    cells = {
        **record,
        "relation_score": strongest.get("relation_score"),
        "box_xyxy": " ".join(str(edge) for edge in strongest.get("box_xyxy", ())),
        "trigger_id": trigger.get("trigger_id"),
        "part_id": trigger.get("part_id"),
        "master_part": master_part.get("name"),
    }
    return [_cell(cells[column]) for column in columns]


def csv_line(cells: Sequence[str]) -> bytes:
    """One line for a file that is appended to: no cell breaks it, so that every record is one line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(cell.splitlines()) for cell in cells])
    return text.getvalue().encode()


def _cell(value: object) -> str:
    """Text a spreadsheet shows and never runs: a formula can hide in a file name."""
    text = "" if value is None else str(value)
    is_formula = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{text}" if is_formula else text
