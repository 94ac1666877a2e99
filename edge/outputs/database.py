"""The results database: every inspection a row, and the outbox. The only file that uses sqlite3.

WAL: readers such as the sqlite3 shell never hold the writer up, and a process that is killed leaves whole transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import OutputError
from edge.result import Inspection, utc_now

APPLICATION_ID = 0x6F64646B  # "oddk", so that nobody else's database is written to
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0
MAX_WAITING_THUMBNAILS = 1000  # of a long outage; the records of the others are sent without

SCHEMA = f"""
CREATE TABLE results (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    result_id TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    source TEXT NOT NULL,
    verdict TEXT NOT NULL,
    defect_class TEXT,
    anomaly_score REAL,
    record TEXT NOT NULL
);
CREATE INDEX results_result_id ON results (result_id);
CREATE INDEX results_captured_at ON results (captured_at);
CREATE INDEX results_source ON results (source, captured_at);
CREATE INDEX results_verdict ON results (verdict, captured_at);
CREATE INDEX results_defect_class ON results (defect_class, captured_at) WHERE defect_class IS NOT NULL;
CREATE INDEX results_anomaly_score ON results (anomaly_score);
CREATE TABLE outbox (
    receiver TEXT NOT NULL,
    result_id TEXT NOT NULL,
    number INTEGER NOT NULL REFERENCES results,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'refused')),
    reason TEXT,
    settled_at TEXT,
    thumbnail BLOB,
    PRIMARY KEY (receiver, result_id)
) WITHOUT ROWID;
CREATE INDEX outbox_waiting ON outbox (receiver, number) WHERE state = 'waiting';
CREATE INDEX outbox_refused ON outbox (receiver, number) WHERE state = 'refused';
CREATE INDEX outbox_thumbnails ON outbox (number) WHERE thumbnail IS NOT NULL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
ADD_RESULT = """
INSERT INTO results (result_id, captured_at, source, verdict, defect_class, anomaly_score, record)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
# A file that is inspected again has its result_id again: another row, but nothing to deliver.
ADD_LETTER = f"""
INSERT OR IGNORE INTO outbox (receiver, result_id, number, thumbnail) VALUES (?, ?, ?,
    CASE WHEN (SELECT count(*) FROM outbox WHERE thumbnail IS NOT NULL) < {MAX_WAITING_THUMBNAILS} THEN ? END)
"""
WAITING = """
SELECT number, outbox.result_id, record, thumbnail FROM outbox JOIN results USING (number)
WHERE receiver = ? AND state = 'waiting' ORDER BY number LIMIT ?
"""
SETTLE = """
UPDATE outbox SET state = ?, reason = ?, settled_at = ?, thumbnail = NULL WHERE receiver = ? AND result_id = ?
"""


@dataclass(frozen=True)
class Entry:
    """One inspection to store. letters: receiver -> JPEG of a thumbnail, or None when it gets the record alone."""

    inspection: Inspection
    letters: dict[str, bytes | None]


@dataclass(frozen=True)
class Letter:
    """One record that waits for a receiver. thumbnail: JPEG."""

    number: int
    result_id: str
    record: str
    thumbnail: bytes | None


class Database:
    """One connection, used by one thread at a time; every failure is an OutputError.

    durable: a commit is on the disk when it returns, power cut or not; otherwise only a kill cannot undo it.
    """

    def __init__(self, path: Path, durable: bool) -> None:
        self._path = path
        with self._mapped():
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._inode = _inode(path)

    def add(self, entries: Sequence[Entry]) -> None:
        """Store all of them, or none."""
        if _inode(self._path) != self._inode:  # SQLite would go on writing into a file that has no name
            raise OutputError(f"{self._path}: was deleted or replaced while in use; put it back or start again")
        with self._mapped(), self._transaction() as cursor:
            for entry in entries:
                inspection = entry.inspection
                number = cursor.execute(ADD_RESULT, _columns(inspection)).lastrowid
                for receiver, thumbnail in entry.letters.items():
                    cursor.execute(ADD_LETTER, (receiver, inspection.result_id, number, thumbnail))

    def waiting(self, receiver: str, limit: int) -> list[Letter]:
        """The oldest letters that are not settled, in order."""
        with self._mapped():
            return [Letter(*row) for row in self._connection.execute(WAITING, (receiver, limit))]

    def count_waiting(self, receiver: str) -> int:
        """How many letters are not settled."""
        sql = "SELECT count(*) FROM outbox WHERE receiver = ? AND state = 'waiting'"
        with self._mapped():
            return int(self._connection.execute(sql, (receiver,)).fetchone()[0])

    def settle(self, receiver: str, result_id: str, refusal: str | None) -> None:
        """The receiver has it (`refusal` None), or will never take it and said why."""
        state = "delivered" if refusal is None else "refused"
        with self._mapped():
            self._connection.execute(SETTLE, (state, refusal, utc_now(), receiver, result_id))

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        with suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """IMMEDIATE: a transaction that began as a reader could not wait for its turn to write."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.cursor()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise OutputError(f"{self._path}: {exc}") from exc


def prepare(path: Path) -> None:
    """Create the database or check that it is one of ours; OutputError says what is wrong with it."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            _create_or_check(connection, path)
    except sqlite3.Error as exc:
        raise OutputError(f"{path}: cannot be used as a results database ({exc}); choose another file") from exc


def _create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if is_empty:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise OutputError(f"{path}: a database of something else; choose another file")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise OutputError(f"{path}: has table layout {version}, expected {SCHEMA_VERSION}; choose another file")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _columns(inspection: Inspection) -> tuple[object, ...]:
    """As ADD_RESULT wants them; the score as in the record, so that both say the same."""
    record = inspection.to_record()
    names = ("result_id", "captured_at", "source", "verdict", "defect_class", "anomaly_score")
    return *(record[name] for name in names), inspection.to_json()
