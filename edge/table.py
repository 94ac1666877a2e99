"""Results as tables, written row by row beside `results.jsonl`: CSV for spreadsheets, Parquet for everything larger."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
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


def table_row(record: Record) -> list[str]:
    """One line of `results.csv`."""
    strongest = record["regions"][0] if record["regions"] else {}
    box = " ".join(str(edge) for edge in strongest.get("box_xyxy", ()))
    cells = {**record, "relation_score": strongest.get("relation_score"), "box_xyxy": box}
    return [_cell(cells[column]) for column in TABLE_COLUMNS]


def _cell(value: object) -> str:
    """Text a spreadsheet shows and never runs: a formula can hide in a file name."""
    text = "" if value is None else str(value)
    is_formula = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{text}" if is_formula else text
