"""Every inspection into the results database, and from there to its receivers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import filelock
import pydantic

from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.database import Entry, prepare
from edge.outputs.database_writer import DatabaseWriter
from edge.outputs.outbox import Courier, Receiver
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control
from edge.station.parts import StationPath


class DatabaseSettings(Output):
    """file: SQLite, created when absent. queue_records: wait in memory for a slow disk. batch_s: between commits."""

    file: StationPath
    queue_records: int = pydantic.Field(default=1000, ge=1, le=100_000)
    batch_s: float = pydantic.Field(default=0.2, ge=0.01, le=0.5)

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, without receivers: `Outputs` knows those."""
        return DatabaseSink(self, notify)

    def in_words(self) -> str:
        """The file."""
        return f"database {self.file}"


class DatabaseSink(Sink):
    """Stores records and, for each receiver, a letter in the same transaction; couriers take the letters away.

    OutputError when the file cannot be used or another run uses it. After that nothing raises and nothing waits.
    """

    def __init__(self, settings: DatabaseSettings, notify: Notify, receivers: Sequence[Receiver] = ()) -> None:
        path, self._receivers = settings.file, receivers

        def notify_safely(text: str) -> None:
            with suppress(Exception):  # a closed stderr must not end a thread
                notify(text)

        with ExitStack() as opened:
            opened.callback(_lock(path).release)
            prepare(path)
            couriers = [Courier(path, receiver, notify_safely) for receiver in receivers]

            def wake_couriers() -> None:
                for courier in couriers:
                    courier.wake()

            self._writer = DatabaseWriter(path, settings.queue_records, settings.batch_s, notify_safely, wake_couriers)
            for courier in couriers:
                courier.start()
                opened.callback(courier.close)
            self._writer.start()
            opened.callback(self._writer.close)  # first, so that what it stores last can still be delivered
            self._opened = opened.pop_all()

    @property
    def lost(self) -> int:
        """Records that were not stored."""
        return self._writer.lost

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Queue one inspection."""
        letters = {receiver.name: _thumbnail(receiver, inspection, frame_bgr) for receiver in self._receivers}
        self._writer.put(Entry(inspection, letters))

    def close(self) -> None:
        """Store what is queued and deliver for a moment; letters that are left go out with the next run."""
        self._opened.close()


def _lock(path: Path) -> filelock.BaseFileLock:
    """Two runs would deliver everything twice. The lock ends with the process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{path}.lock")
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise OutputError(f"{path}: another oddkind run writes to it; give each run a database of its own") from exc
    except OSError as exc:
        raise OutputError(f"{path}: cannot be created ({exc.strerror or exc}); choose another file") from exc
    return lock


def _thumbnail(receiver: Receiver, inspection: Inspection, frame_bgr: FrameBgr | None) -> bytes | None:
    if frame_bgr is None:
        return None
    try:
        return receiver.thumbnail(inspection, frame_bgr)
    except Exception:  # a frame too strange to shrink costs its thumbnail
        return None
