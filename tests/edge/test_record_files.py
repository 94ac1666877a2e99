"""Rotation of records: no record split, left out or written twice, and nothing removed that nobody gave away."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydantic
import pytest

from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.line_file import LineFile
from edge.outputs.record_files import RecordsOutput
from edge.outputs.rotating_file import RotatingFile, Rotation
from edge.outputs.sinks import json_line
from edge.result import Inspection, Provenance, no_verdict
from edge.station.control import Control

KB = 1000


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 23, 59, 58, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def inspection(number: int) -> Inspection:
    return no_verdict(Provenance("press", number, "2026-11-26T23:59:58.000Z"), "0" * 16, 1.0, "a reason")


@contextmanager
def opened(
    path: Path, notify: Notify = pytest.fail, now: Callable[[], datetime] | None = None, **rotation: Any
) -> Iterator[RotatingFile]:
    clock = {"now": now} if now else {}
    with closing(RotatingFile(path, Rotation(**rotation), notify, **clock)) as file:
        file.open()
        yield file


def write(file: RotatingFile, *numbers: int) -> None:
    for number in numbers:
        file.append(json_line(inspection(number)))


def ids(*paths: Path) -> list[int]:
    """Frame ids of whole records, in order; a torn line raises."""
    return [json.loads(line)["frame_id"] for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "line.3.jsonl"


def test_by_size_every_record_is_in_one_file_in_order(path: Path) -> None:
    with opened(path, max_bytes=KB) as sink:
        write(sink, *range(50))
        files = sink.finished()
    assert len(files) > 10
    assert ids(*files, path) == list(range(50))
    sizes = [file.stat().st_size for file in files]
    assert min(sizes) >= 1000
    assert max(sizes) < 2000  # the record that reaches the size is the last
    assert [file.name.split(".")[2] for file in files] == [f"{n:06d}" for n in range(1, len(files) + 1)]


def test_by_day_a_file_is_named_by_its_last_record(path: Path) -> None:
    clock = Clock()
    with opened(path, daily=True, now=clock) as sink:
        write(sink, 0, 1)
        clock.now += timedelta(seconds=3)
        write(sink, 2)
        files = sink.finished()
    assert [file.name for file in files] == ["line.3.000001.20261126T235958Z.jsonl"]
    assert (ids(*files), ids(path)) == ([0, 1], [2])


def test_yesterdays_file_is_finished_by_the_next_run(path: Path) -> None:
    with opened(path, daily=True) as sink:
        write(sink, 0)
    os.utime(path, (time.time() - 86_400,) * 2)
    with opened(path, daily=True) as sink:
        assert sink.finished() == []
        write(sink, 1)
        assert ids(*sink.finished(), path) == [0, 1]
        assert ids(path) == [1]


def test_keep_removes_the_oldest_finished_files_and_nothing_else(path: Path) -> None:
    path.parent.mkdir()
    others = ["line.3.jsonl.bak", "line.3.000001.jsonl", "line.4.000001.20261126T235958Z.jsonl", "line.3.csv", "notes"]
    for name in others:
        (path.parent / name).write_text("mine")
    with opened(path, max_bytes=KB, keep=3) as sink:
        write(sink, *range(40))
        files = sink.finished()
    assert len(files) == 3
    kept = ids(*files, path)
    assert kept == list(range(kept[0], 40))
    assert {(path.parent / name).read_text() for name in others} == {"mine"}


def test_without_keep_nothing_is_removed_over_many_runs(path: Path) -> None:
    for run in range(6):
        with opened(path, max_bytes=KB) as sink:
            write(sink, *range(run * 10, run * 10 + 10))
    assert ids(*sink.finished(), path) == list(range(60))


def test_a_clock_that_was_set_back_confuses_neither_order_nor_keep(path: Path) -> None:
    clock = Clock()
    with opened(path, max_bytes=KB, keep=2, now=clock) as sink:
        write(sink, *range(20))
        clock.now = datetime(1970, 1, 1, tzinfo=UTC)
        write(sink, *range(20, 40))
        kept = ids(*sink.finished(), path)
    assert kept == list(range(kept[0], 40))
    assert "19700101T000000Z" in sink.finished()[-1].name


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    with opened(path, max_bytes=1_000_000) as sink:
        write(sink, 0)
        path.rename(path.with_name("archive.jsonl"))
        write(sink, 1)
    assert (ids(path.with_name("archive.jsonl")), ids(path)) == ([0], [1])


def test_a_rotation_that_fails_costs_no_record_and_is_told_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    with opened(path, max_bytes=KB, notify=notices.append) as sink:
        write(sink, 0, 1)

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "rename", refuse)
        write(sink, *range(2, 20))
        assert ids(path) == list(range(20))
        monkeypatch.undo()
        write(sink, 20)
        assert ids(*sink.finished(), path) == list(range(21))
    assert len(notices) == 1
    assert "is not put aside as asked" in notices[0]


def test_where_no_new_file_can_be_opened_the_old_one_gets_its_name_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    with opened(path, max_bytes=KB, notify=notices.append) as sink:
        write(sink, 0, 1)

        def refuse(*_: object) -> LineFile:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("edge.outputs.rotating_file.LineFile", refuse)
        write(sink, *range(2, 10))
        assert (ids(path), sink.finished()) == (list(range(10)), [])
    assert len(notices) == 1


def test_two_runs_do_not_write_into_one_file(path: Path) -> None:
    with (
        opened(path, daily=True),
        pytest.raises(OutputError, match="another run writes here"),
        opened(path, daily=True),
    ):
        pass
    with opened(path, daily=True) as sink:  # the first one has let go
        write(sink, 0)


def test_a_place_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.jsonl", tmp_path):
        with pytest.raises(OutputError, match="cannot take records"):
            RecordsOutput(file=path, daily=True).open([], pytest.fail, Control())
    with opened(tmp_path / "a.jsonl", daily=True) as sink:  # nothing is locked by what failed
        write(sink, 0)


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from test_record_files import opened, write
with opened(Path(sys.argv[1]), max_bytes=1000) as file:
    for number in range(int(sys.argv[2]), 10**9):
        write(file, number)
        print(number, flush=True)
"""


def test_kill_9_at_any_moment_loses_and_doubles_nothing(path: Path) -> None:
    here = Path(__file__).resolve()
    script = KILLED.format(root=str(here.parents[2]), tests=str(here.parent))
    first = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, str(path), str(first)], stdout=subprocess.PIPE)
        assert process.stdout
        told = [process.stdout.readline() for _ in range(60)]
        process.kill()
        told += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        first = int([line for line in told if line.endswith(b"\n")][-1]) + 1
        with opened(path, max_bytes=1_000_000) as sink:
            written = ids(*sink.finished(), path)
        assert written[:first] == list(range(first))
        assert len(written) - first <= 1  # written, and killed before it could say so
        first = len(written)


# --- the model


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"file": "a", "keep": 3}, "keep without max_mb or daily"),
        ({"file": "-", "daily": True}, "standard output"),
        ({"file": "a", "max_mb": 0.0}, "greater than or equal"),
        ({"file": "a", "keep": 0, "daily": True}, "greater than or equal"),
        ({"file": "-", "queue_records": 5}, "queue_records is for files"),
        ({"file": ""}, "expected a path"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        RecordsOutput.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"file": "-"}, "records to standard output"),
        ({"file": "a.jsonl"}, "records to a.jsonl"),
        ({"file": "a", "daily": True}, "records to a; a new file every day, all finished ones stay"),
        (
            {"file": "a", "daily": True, "max_mb": 0.5, "keep": 9},
            "records to a; a new file every day and at 0.5 MB, 9 finished ones stay",
        ),
    ],
)
def test_what_it_will_do_in_words(keys: dict[str, Any], says: str) -> None:
    assert RecordsOutput.model_validate(keys).in_words() == says
