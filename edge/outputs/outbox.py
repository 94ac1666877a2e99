"""Store and forward: letters leave the outbox in order, each until its receiver has it, however long that takes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from edge.cameras.live import back_off_s
from edge.errors import OutputError
from edge.notify import Notify, is_worth_telling, one_line
from edge.outputs.database import Database, Letter
from edge.pictures import FrameBgr
from edge.result import Inspection
from edge.station.control import Control
from edge.station.parts import StationPart

IDLE_S = 0.5  # how soon a connection that was lost while nothing waited is made again
LINGER_S = 2.0  # how long a run that ends goes on delivering
TOLD_AFTER_FAILURES = 2  # a single hiccup is not worth a line


class Unreachable(OutputError):
    """The receiver cannot take anything now. retry_after_s: the shortest pause it asked for."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Receiver(ABC):
    """Where letters go; used by one thread. name: in the outbox. address: safe to show. at_once: letters a call."""

    name: str
    address: str
    at_once: int = 1

    def open(self) -> None:  # noqa: B027  # some have no connection to keep
        """Connect if that is needed and not done yet; Unreachable when it fails. Called again and again."""

    @abstractmethod
    def deliver(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, str | None]]:
        """Deliver in order; give each letter once it is settled: None, or why the receiver will never take it.

        Unreachable: that letter and those after it are still to be delivered.
        """

    def thumbnail(self, inspection: Inspection, frame_bgr: FrameBgr) -> bytes | None:
        """JPEG to go with a record, if any; called on the loop's thread."""
        return None

    def close(self) -> None:  # noqa: B027  # some have nothing open
        """Say good-bye; safe to call twice."""


class ReceiverOutput(StationPart):
    """A receiver as a station describes it; the model stands beside its receiver."""

    def open(self, control: Control) -> Receiver:
        """The receiver, not connected yet. control: for one that takes wishes too.

        UsageError when a file or package it needs is not there.
        """
        raise NotImplementedError

    def in_words(self) -> str:
        """Where records are sent, for a person, in one line, without secrets."""
        raise NotImplementedError


class Courier(threading.Thread):
    """Carries the letters of one receiver; nothing that goes wrong ends it before `close`."""

    def __init__(self, path: Path, receiver: Receiver, notify: Notify) -> None:
        super().__init__(name=f"oddkind-{receiver.name}", daemon=True)
        self.refused = 0
        self._path, self._receiver, self._notify = path, receiver, notify
        self._database = Database(path, durable=False)  # a mark lost with the power means one delivery more
        self._unmarked: dict[str, str | None] = {}  # settled, but a full disk kept the mark from being set
        self._failures = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._linger_until_s = 0.0

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def close(self) -> None:
        """Deliver for LINGER_S at most, then let go; letters that are left go out with the next run."""
        self._linger_until_s = monotonic() + LINGER_S
        self._closing.set()
        self._wake.set()
        self.join(LINGER_S + 1.0)  # one that hangs in a call ends with the process

    def run(self) -> None:
        """Deliver until closed."""
        while not self._closing.is_set() or monotonic() < self._linger_until_s:
            self._wake.clear()
            try:
                has_delivered = self._round()
            except Exception as exc:  # the network and the other side are not ours: wait, and try again
                if self._closing.is_set():
                    break
                self._failed(exc)
                continue
            self._succeeded()
            if not has_delivered and self._closing.is_set():
                break
            if not has_delivered:
                self._wake.wait(IDLE_S)
        with suppress(Exception):  # good manners, no more
            self._receiver.close()
        self._database.close()

    def _round(self) -> bool:
        """Deliver some letters; whether there were any."""
        self._mark()
        self._receiver.open()
        letters = self._database.waiting(self._receiver.name, self._receiver.at_once)
        for letter, refusal in self._receiver.deliver(letters) if letters else ():
            self._unmarked[letter.result_id] = refusal
            self._mark()
            if refusal is not None:
                self._tell_refusal(letter, refusal)
        return bool(letters)

    def _mark(self) -> None:
        """What is not marked would be delivered again, so nothing is delivered before this works."""
        while self._unmarked:
            result_id, refusal = next(iter(self._unmarked.items()))
            self._database.settle(self._receiver.name, result_id, refusal)
            del self._unmarked[result_id]

    def _failed(self, exc: Exception) -> None:
        self._failures += 1
        if self._failures == TOLD_AFTER_FAILURES:
            why = str(exc) if isinstance(exc, OutputError) else one_line(exc)
            self._notify(f"{self._title}: {why}; records wait in {self._path} and are sent later")
        least_s = exc.retry_after_s if isinstance(exc, Unreachable) else 0.0
        self._closing.wait(max(back_off_s(self._failures - 1), least_s))

    def _succeeded(self) -> None:
        if self._failures >= TOLD_AFTER_FAILURES:
            self._notify(f"{self._title}: takes records again, {self._waiting()} wait")
        self._failures = 0

    def _tell_refusal(self, letter: Letter, refusal: str) -> None:
        self.refused += 1
        if is_worth_telling(self.refused):
            what = f"record {letter.result_id} was refused ({refusal}) and is set aside"
            self._notify(f"{self._title}: {what}; set aside so far: {self.refused}")

    def _waiting(self) -> str:
        try:
            return str(self._database.count_waiting(self._receiver.name))
        except OutputError:
            return "some"

    @property
    def _title(self) -> str:
        return f"{self._receiver.name} {self._receiver.address}"
