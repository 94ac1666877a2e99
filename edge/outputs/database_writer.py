"""The thread that stores records, so that a slow or full disk never holds the camera loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from edge.errors import OutputError
from edge.notify import Notify, is_worth_telling, one_line
from edge.outputs.database import Database, Entry

MAX_BATCH = 500  # records a transaction
POLL_S = 0.1  # how soon the end is noticed while nothing arrives
RETRY_S = 1.0  # pause before a disk that refused is tried again
CLOSE_S = 8.0  # how long the end of a run waits for the disk


class DatabaseWriter(threading.Thread):
    """Commits what is queued: at once after a pause, otherwise `batch_s` after the commit before.

    A disk that refuses is tried again while the queue fills. `lost` counts records that were not stored, `notify`
    hears of them; on_stored is called after each commit.
    """

    def __init__(
        self, path: Path, queue_records: int, batch_s: float, notify: Notify, on_stored: Callable[[], None]
    ) -> None:
        super().__init__(name="oddkind-database", daemon=True)
        self.lost = 0
        self._path, self._batch_s, self._notify, self._on_stored = path, batch_s, notify, on_stored
        self._database = Database(path, durable=True)
        self._queue: queue.Queue[Entry] = queue.Queue(queue_records)
        self._batch: list[Entry] = []  # taken from the queue, not stored yet
        self._counting, self._closing = threading.Lock(), threading.Event()
        self._is_failing = False

    def put(self, entry: Entry) -> None:
        """Queue one record; never waits, never raises."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._lose("the disk is too slow and the queue is full")

    def close(self) -> None:
        """Store what is queued, for CLOSE_S at most, and tell of what could not be."""
        self._closing.set()
        self.join(CLOSE_S)
        lost = self.lost + self._queue.qsize() + len(self._batch)
        if lost:
            self._notify(f"{self._path}: {lost} records were not stored")

    def run(self) -> None:
        """Store until closed and nothing is queued, or the disk refuses at the end."""
        stored_at_s = 0.0
        while True:
            self._closing.wait(max(0.0, stored_at_s + self._batch_s - monotonic()))
            is_closing = self._closing.is_set()
            self._batch = self._batch or self._take(0.0 if is_closing else POLL_S)
            if self._batch:
                is_stored = self._store()
                stored_at_s = monotonic()
                if not is_stored and is_closing:
                    break
            elif is_closing:
                break
        self._database.close()

    def _take(self, wait_s: float) -> list[Entry]:
        """What is queued, after waiting for a first one."""
        batch: list[Entry] = []
        try:
            batch.append(self._queue.get(wait_s > 0, wait_s))
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _store(self) -> bool:
        """Store the batch; whether the disk took it."""
        try:
            self._database.add(self._batch)
        except OutputError as exc:
            if not self._is_failing:
                self._notify(f"{exc}; records wait in memory until they can be stored")
            self._is_failing = True
            self._closing.wait(RETRY_S)
            return False
        except Exception:  # a record that no database can hold must not keep the others out
            self._store_one_by_one()
        if self._is_failing:
            self._notify(f"{self._path}: records are stored again; not stored so far: {self.lost}")
        self._is_failing, self._batch = False, []
        self._on_stored()
        return True

    def _store_one_by_one(self) -> None:
        for entry in self._batch:
            try:
                self._database.add([entry])
            except Exception as exc:
                self._lose(f"a record cannot be stored ({one_line(exc)})")

    def _lose(self, why: str) -> None:
        with self._counting:  # the loop's thread and this one
            self.lost += 1
            lost = self.lost
        if is_worth_telling(lost):
            self._notify(f"{self._path}: {why}; records not stored so far: {lost}")
