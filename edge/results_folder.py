"""The folder `oddkind score` writes: rows appended one by one, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edge.errors import BundleError, OutputError, UsageError
from edge.outputs.sinks import JsonLinesSink, Sink
from edge.staging import atomic_writer, write_bytes_atomically
from edge.table import PARQUET_FILE, TABLE_FILE, Table, open_tables

RECORDS_FILE = "results.jsonl"
REPORT_FILE = "report.html"
HEATMAPS_FOLDER = "heatmaps"
RUN_FILE = "run.json"
KIND = "oddkind-score"

Record = dict[str, Any]


@dataclass(frozen=True)
class RunFacts:
    """What the rows depend on; rows made with other facts do not belong into the same result."""

    bundle_id: str
    folder: str
    classes_sha256: str | None
    backend: str
    precision: str
    always_type: bool


class ResultsFolder:
    """An open result: rows in `results.jsonl`, the table, the report, and heat-maps. `opened` is the door."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_path = folder / RECORDS_FILE
        self._run: Record = {}

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, facts: RunFacts, overwrite: bool = False, since_last: bool = False
    ) -> Iterator[ResultsFolder]:
        """Start a result at `folder`, or go on with one that was made with the same facts, holding its lock.

        since_last: other classes, or another bundle, may go on too; old rows stay as they were judged.
        UsageError when the folder holds something else, or another process is writing to it.
        """
        _refuse_foreign(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock", timeout=0):
                results = cls(folder)
                results._begin(facts, overwrite, since_last)
                yield results
        except Timeout as exc:
            raise UsageError(f"{folder}: another oddkind score is writing to it; choose another --out") from exc
        except OSError as exc:
            raise OutputError(f"{exc.filename or folder}: cannot be written ({exc.strerror or exc})") from exc

    def records(self) -> Iterator[Record]:
        """Every row, in the order it was written; OutputError for a line that is not a record."""
        if not self.records_path.exists():
            return
        with self.records_path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield self._parsed(line, number)

    @contextmanager
    def appending(self) -> Iterator[Sink]:
        """A sink for new rows; each one is a whole line on disk before the next begins."""
        with JsonLinesSink(self.records_path) as sink:
            yield sink

    def forget(self, paths: Collection[str]) -> None:
        """Remove the rows of these pictures, all at once or not at all."""
        if not paths:
            return
        kept = (_line(record) for record in self.records() if record["path"] not in paths)
        write_bytes_atomically(self.records_path, b"".join(kept))
        for path in paths:
            self.heatmap_path(path).unlink(missing_ok=True)

    @contextmanager
    def tables(self, wants_parquet: bool = False) -> Iterator[list[Table]]:
        """`results.csv` and, if wanted, `results.parquet`: tables that take every record, whole at the end or not."""
        with open_tables(lambda name: atomic_writer(self.folder / name), wants_parquet) as tables:
            yield tables

    def note_run(self, timing: Record) -> None:
        """Keep how fast this run was, in `run.json`."""
        self._write_run({**self._run, "last_run": timing})

    @property
    def last_run(self) -> Record | None:
        """Timing of the last run that scored something, None when none did."""
        return self._run.get("last_run")

    def heatmap_path(self, record_path: str) -> Path:
        """Where the heat-map of a picture belongs: the same tree below `heatmaps`."""
        *parents, name = (_short(part) for part in record_path.split("/"))
        return self.folder.joinpath(HEATMAPS_FOLDER, *parents, f"{name}.heatmap.jpg")

    def _begin(self, facts: RunFacts, overwrite: bool, since_last: bool) -> None:
        self._run = read_run(self.folder / RUN_FILE) or {}
        earlier = self._run.get("facts")
        if overwrite:
            self._clear()
        elif earlier is not None:
            _refuse_other(self.folder, earlier, facts, ("folder",) if since_last else tuple(asdict(facts)))
        self._cut_torn_line()
        if overwrite or earlier is None:
            self._write_run({"facts": asdict(facts)})
        elif earlier != asdict(facts):
            past = [*self._run.get("earlier_facts", []), {**earlier, "until_byte": self._size()}]
            self._write_run({**self._run, "facts": asdict(facts), "earlier_facts": past})

    def _write_run(self, run: Record) -> None:
        self._run = {"kind": KIND, **run}
        write_bytes_atomically(self.folder / RUN_FILE, (json.dumps(self._run, indent=2) + "\n").encode())

    def _size(self) -> int:
        return self.records_path.stat().st_size if self.records_path.exists() else 0

    def _clear(self) -> None:
        """Remove what `score` writes and nothing else; `run.json` stays, it says whose folder this is."""
        for name in (RECORDS_FILE, TABLE_FILE, PARQUET_FILE, REPORT_FILE):
            (self.folder / name).unlink(missing_ok=True)
        if (self.folder / HEATMAPS_FOLDER).is_dir():
            shutil.rmtree(self.folder / HEATMAPS_FOLDER)

    def _cut_torn_line(self) -> None:
        """A run killed in the middle of a row left a part of it; that picture is scored again."""
        if not self.records_path.exists():
            return
        with self.records_path.open("rb+") as stream:
            end = stream.seek(0, os.SEEK_END)
            whole = _end_of_last_line(stream, end)
            if whole < end:
                stream.truncate(whole)

    def _parsed(self, line: bytes, number: int) -> Record:
        try:
            record: Record = json.loads(line)
            if not isinstance(record["path"], str) or not isinstance(record["verdict"], str):
                raise ValueError("no path or verdict")
        except (ValueError, KeyError, TypeError) as exc:
            raise OutputError(
                f"{self.records_path}: line {number} is not a record ({exc}); remove the line, or add --overwrite"
            ) from exc
        return record


def read_run_facts(run_path: Path) -> Record | None:
    """Facts of the run that wrote `run_path`, or None when there is none or it is not ours."""
    run = read_run(run_path)
    return run["facts"] if run else None


def read_run(run_path: Path) -> Record | None:
    """All that `run.json` says, or None when there is none or it is not ours."""
    try:
        return parse_run(run_path.read_bytes())
    except OSError:
        return None


def parse_run(content: bytes) -> Record | None:
    """Content of a `run.json`, or None when it is not ours."""
    try:
        document: Record = json.loads(content)
        return document if document["kind"] == KIND and isinstance(document["facts"], dict) else None
    except (ValueError, KeyError, TypeError):
        return None


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file's content, None when there is no file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BundleError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, a folder is needed; choose another --out")
    if not folder.exists() or read_run_facts(folder / RUN_FILE) is not None:
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder} exists and holds no result of oddkind score; choose another --out")


def _refuse_other(folder: Path, earlier: Record, facts: RunFacts, names: Collection[str]) -> None:
    changed = changed_fact(earlier, facts, names)
    if changed:
        raise UsageError(f"{folder} holds results with another {changed}; choose another --out, or add --overwrite")


def changed_fact(earlier: Record, facts: RunFacts, names: Collection[str]) -> str | None:
    """The first of the facts called `names` that differs, with both values, or None."""
    for name, value in asdict(facts).items():
        if name in names and earlier.get(name) != value:
            return f"{name} ({_named(earlier.get(name))}, now {_named(value)})"
    return None


def _named(value: object) -> str:
    return "none" if value is None else str(value)


def _end_of_last_line(stream: io.BufferedRandom, end: int) -> int:
    """Position after the last line break before `end`, 0 when there is none."""
    block = 1 << 16
    while end > 0:
        start = max(0, end - block)
        stream.seek(start)
        at = stream.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _line(record: Record) -> bytes:
    return (json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _short(part: str) -> str:
    """A file name may have 255 bytes; a longer one keeps its beginning and gets a digest."""
    encoded = part.encode()
    return part if len(encoded) <= 200 else f"{part[:40]}~{hashlib.sha256(encoded).hexdigest()[:16]}"
