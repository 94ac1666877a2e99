"""The results database: every inspection a row, the loop never held, nothing committed ever lost."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

import pydantic
import pytest
from edge_processes import wait_for
from output_records import FRAME_BGR, an_inspection, query, stored, write

from edge.errors import OutputError
from edge.notify import is_worth_telling
from edge.outputs import database_writer
from edge.outputs.database import BUSY_TIMEOUT_S, Database, Entry, prepare
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from edge.result import Inspection, Provenance

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "results.db"


def open_sink(path: Path, notify: Callable[[str], None] = pytest.fail, **settings: float) -> DatabaseSink:
    return DatabaseSink(DatabaseSettings.model_validate({"file": path, **settings}), notify)


# --- rows


def test_every_inspection_is_a_row_with_its_record_and_columns(path: Path) -> None:
    inspections = [an_inspection(number, verdict) for number, verdict in enumerate(("good", "defect", "no_verdict"))]
    with open_sink(path) as sink:
        for inspection in inspections:
            sink.write(inspection, None)
    columns = "result_id, captured_at, source, verdict, defect_class, anomaly_score, record"
    rows = query(path, f"SELECT {columns} FROM results ORDER BY number")
    assert [json.loads(row[-1]) for row in rows] == [inspection.to_record() for inspection in inspections]
    assert [row[-1] for row in rows] == [inspection.to_json() for inspection in inspections]
    names = columns.split(", ")[:-1]
    assert [dict(zip(names, row, strict=False)) for row in rows] == [
        {name: inspection.to_record()[name] for name in names} for inspection in inspections
    ]


@pytest.mark.parametrize("column", ["result_id", "captured_at", "source", "verdict", "defect_class", "anomaly_score"])
def test_every_column_is_found_by_an_index(column: str, path: Path) -> None:
    open_sink(path).close()
    (plan,) = query(path, f"EXPLAIN QUERY PLAN SELECT * FROM results WHERE {column} = ?", 1)
    assert "USING INDEX" in plan[-1]


def test_a_row_can_be_read_while_the_sink_is_open_soon_after_it_was_written(path: Path) -> None:
    with open_sink(path) as sink:
        for number in range(3):
            started_s = perf_counter()
            write(sink, 1, number)
            wait_for(lambda number=number: len(stored(path)) == number + 1, timeout_s=20)
            assert perf_counter() - started_s < 2.0


def test_the_database_is_in_wal_mode_and_whole(path: Path) -> None:
    with open_sink(path) as sink:
        write(sink, 700)  # more than a transaction takes
    assert query(path, "PRAGMA journal_mode") == ["wal"]
    assert query(path, "PRAGMA integrity_check") == ["ok"]
    assert len(stored(path)) == 700


def test_a_second_run_appends_and_a_file_inspected_again_is_another_row(path: Path) -> None:
    again = Inspection(Provenance("folder", 0, "2026-11-23T20:00:00.000Z", "a.png"), "0" * 16, "good", 0.5, 1.0)
    for _ in range(2):
        with open_sink(path) as sink:
            sink.write(again, None)
    assert stored(path) == [again.result_id] * 2
    assert query(path, "SELECT number FROM results ORDER BY number") == [1, 2]


def test_close_twice_does_no_harm(path: Path) -> None:
    sink = open_sink(path)
    sink.close()
    sink.close()


# --- a disk that is slow, full or refuses


def test_a_slow_disk_does_not_hold_the_loop_and_a_full_queue_is_counted_and_told(path: Path) -> None:
    notices: list[str] = []
    with open_sink(path, notices.append, queue_records=20) as sink:
        write(sink, 1)
        wait_for(lambda: stored(path), timeout_s=20)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # to the writer it looks like a disk that does not come back
            slowest_s = 0.0
            for number in range(1, 101):
                started_s = perf_counter()
                sink.write(an_inspection(number), FRAME_BGR)
                slowest_s = max(slowest_s, perf_counter() - started_s)
            other.execute("ROLLBACK")
        assert slowest_s < 1.0  # the lock would hold it for five seconds
        assert 0 < sink.lost <= 80
    assert len(stored(path)) == 101 - sink.lost
    told = [int(found[1]) for text in notices if (found := re.search(r"queue is full.* so far: (\d+)", text))]
    assert told == [1, 10]
    assert notices[-1].endswith(f"{sink.lost} records were not stored")


def test_a_lock_that_outlasts_our_patience_is_told_once_and_nothing_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.outputs.database.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(database_writer, "RETRY_S", 0.05)
    notices: list[str] = []
    with open_sink(path, notices.append) as sink:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ids = write(sink, 5)
            wait_for(lambda: notices, timeout_s=20)
            ids += write(sink, 5, 5)
            other.execute("ROLLBACK")
        wait_for(lambda: len(notices) == 2, timeout_s=20)
    assert stored(path) == ids
    assert "database is locked; records wait in memory" in notices[0]
    assert "records are stored again; not stored so far: 0" in notices[1]


FULL_DISK = """
import resource, sys, time
from pathlib import Path
sys.path[:0] = ["tests"]
from edge_processes import wait_for
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from output_records import stored, write
path, notices = Path(sys.argv[1]), []
def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
with DatabaseSink(DatabaseSettings(file=path), notices.append) as sink:
    limit(400_000)
    ids, slowest_s = [], 0.0
    for number in range(600):
        started_s = time.perf_counter()
        ids += write(sink, 1, number)
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
        time.sleep(0.002)
    wait_for(lambda: notices, timeout_s=30)
    kept = stored(path)
    if sys.argv[2] == "freed":
        limit(resource.RLIM_INFINITY)
        wait_for(lambda: len(notices) == 2, timeout_s=30)
print(len(kept), stored(path) == ids, ids[:len(kept)] == kept, slowest_s < 1.0, sink.lost)
print(*notices, sep="\\n")
"""


@pytest.mark.parametrize("end", ["freed", "full to the end"])
def test_a_full_disk_is_told_once_and_keeps_what_it_took(end: str, path: Path) -> None:
    """Files of this process cannot grow over a limit, which SQLite meets as it would meet a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), end], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    facts, first, *others = done.stdout.splitlines()
    kept, is_all_stored, is_a_beginning, was_quick, lost = facts.split()
    assert 0 < int(kept) < 600
    assert (is_a_beginning, was_quick, lost) == ("True", "True", "0")
    assert "records wait in memory until they can be stored" in first
    assert is_all_stored == str(end == "freed")
    assert len(others) == 1
    assert ("records are stored again" if end == "freed" else "records were not stored") in others[0]
    assert query(path, "PRAGMA integrity_check") == ["ok"]


def test_a_database_that_was_moved_away_is_told_and_takes_what_waited_when_it_is_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_writer, "RETRY_S", 0.05)
    notices: list[str] = []
    with open_sink(path, notices.append) as sink:
        away = path.rename(path.with_name("away.db"))
        ids = write(sink, 3)
        wait_for(lambda: notices, timeout_s=20)
        away.rename(path)
        wait_for(lambda: len(notices) == 2, timeout_s=20)
    assert "was deleted or replaced while in use" in notices[0]
    assert stored(path) == ids


def test_a_voice_that_fails_costs_no_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.outputs.database.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(database_writer, "RETRY_S", 0.05)
    complaints: list[str] = []

    def broken(text: str) -> None:
        complaints.append(text)
        raise BrokenPipeError

    with open_sink(path, broken) as sink:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ids = write(sink, 2)
            wait_for(lambda: complaints, timeout_s=20)
            other.execute("ROLLBACK")
        wait_for(lambda: stored(path) == ids, timeout_s=20)


def test_a_record_that_no_database_can_hold_keeps_no_other_out(path: Path) -> None:
    notices: list[str] = []
    with open_sink(path, notices.append) as sink:
        ids = write(sink, 3)
        sink.write(an_inspection(3, source="half a character \udc80"), None)
        ids += write(sink, 3, 4)
    assert sorted(stored(path)) == sorted(ids)
    assert sink.lost == 1
    assert "a record cannot be stored (UnicodeEncodeError" in notices[0]


def test_the_loop_pays_less_than_a_millisecond_a_record(path: Path) -> None:
    inspections = [an_inspection(number, "defect") for number in range(300)]
    with open_sink(path) as sink:
        started_s = perf_counter()
        for inspection in inspections:
            sink.write(inspection, FRAME_BGR)
        assert (perf_counter() - started_s) / len(inspections) < 1e-3


def test_what_is_told_of_something_frequent() -> None:
    assert [count for count in range(1001) if is_worth_telling(count)] == [1, 10, 100, 1000]


# --- the outbox


def letters(path: Path, entries: Sequence[Entry]) -> Database:
    prepare(path)
    database = Database(path, durable=False)
    database.add(entries)
    return database


def test_letters_come_in_order_until_they_are_settled(tmp_path: Path) -> None:
    inspections = [an_inspection(number) for number in range(5)]
    database = letters(tmp_path / "r.db", [Entry(i, {"mqtt": b"jpeg", "webhook": None}) for i in inspections])
    ids = [inspection.result_id for inspection in inspections]
    assert [letter.result_id for letter in database.waiting("mqtt", 9)] == ids
    assert database.waiting("mqtt", 1)[0].thumbnail == b"jpeg"
    database.settle("mqtt", ids[0], None)
    database.settle("mqtt", ids[2], "too large")
    assert [letter.result_id for letter in database.waiting("mqtt", 2)] == [ids[1], ids[3]]
    assert database.count_waiting("mqtt") == 3
    assert database.count_waiting("webhook") == 5
    sql = "SELECT state, reason, thumbnail, settled_at IS NOT NULL FROM outbox WHERE receiver = 'mqtt' ORDER BY number"
    assert query(tmp_path / "r.db", sql)[:3] == [
        ("delivered", None, None, 1),
        ("waiting", None, b"jpeg", 0),
        ("refused", "too large", None, 1),
    ]


def test_a_result_id_that_was_there_is_no_letter_again(tmp_path: Path) -> None:
    entry = Entry(an_inspection(0), {"mqtt": None})
    database = letters(tmp_path / "r.db", [entry, entry])
    database.settle("mqtt", entry.inspection.result_id, None)
    database.add([entry])
    assert len(stored(tmp_path / "r.db")) == 3
    assert database.count_waiting("mqtt") == 0


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = letters(tmp_path / "r.db", [])
    with pytest.raises(UnicodeEncodeError):
        database.add([Entry(an_inspection(0), {}), Entry(an_inspection(1, source="\udc80"), {})])
    database.add([Entry(an_inspection(2), {})])
    assert len(stored(tmp_path / "r.db")) == 1


def test_thumbnails_of_a_long_outage_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    database = letters(path, [Entry(an_inspection(number), {"mqtt": b"x" * 2000}) for number in range(1010)])
    assert query(path, "SELECT count(*), count(thumbnail) FROM outbox") == [(1010, 1000)]
    assert database.count_waiting("mqtt") == 1010


# --- files that cannot be used


def test_two_runs_cannot_share_a_database(path: Path) -> None:
    with open_sink(path), pytest.raises(OutputError, match="another oddkind run writes to it"):
        open_sink(path)
    open_sink(path).close()


def test_a_file_that_is_no_database_of_ours_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database, and long enough to be taken for one")
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE customers (name TEXT)")
    prepare(tmp_path / "newer.db")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("PRAGMA user_version = 2")
    expected = {
        "text": "file is not a database",
        "foreign.db": "a database of something else",
        "newer.db": "has table layout 2, expected 1",
        "text/below.db": "cannot be created",
        ".": "unable to open database file|cannot be created",
    }
    for name, message in expected.items():
        with pytest.raises(OutputError, match=message) as caught:
            open_sink(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert query(tmp_path / "foreign.db", "SELECT name FROM sqlite_master") == ["customers"]
    open_sink(tmp_path / "good.db").close()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("batch_s", 2.0, "less than or equal to 0.5"),
        ("queue_records", 0, "greater than or equal to 1"),
        ("fle", "results.db", "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_named(setting: str, value: object, message: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        DatabaseSettings.model_validate({"file": "results.db", setting: value})
    (error,) = caught.value.errors()
    assert error["loc"] == (setting,)
    assert message in error["msg"]


def test_our_patience_with_a_lock_is_a_part_of_what_the_end_of_a_run_waits() -> None:
    assert BUSY_TIMEOUT_S < database_writer.CLOSE_S
