"""Lines of a chip that is not there: what `edge.gpio` asks of a real one, kept or played."""

from __future__ import annotations

import queue
from time import monotonic

from edge.gpio import Edge, EdgeName, Level, Pull


class FakeOutput:
    """Keeps what it was set to, and when; raises OSError while it is broken."""

    def __init__(self) -> None:
        self.sets: list[tuple[float, bool]] = []
        self.opened: list[tuple[str, str, Level]] = []
        self.is_broken, self.is_open = False, False

    def open(self, chip: str, line: str, active: Level, is_active: bool) -> FakeOutput:
        """In place of `edge.gpio.open_output`."""
        self._refuse_when_broken()
        self.opened.append((chip, line, active))
        self.is_open = True
        self.sets.append((monotonic(), is_active))
        return self

    def set(self, is_active: bool) -> None:
        """As a line."""
        assert self.is_open
        self._refuse_when_broken()
        self.sets.append((monotonic(), is_active))

    def close(self) -> None:
        """As a line."""
        self.is_open = False

    @property
    def levels(self) -> list[bool]:
        """What it was set to, one after another."""
        return [is_active for _, is_active in self.sets]

    @property
    def pulses(self) -> list[tuple[float, float]]:
        """Begin and end of every time it was active and is no more."""
        found, since_s = [], None
        for at_s, is_active in self.sets:
            if is_active and since_s is None:
                since_s = at_s
            elif not is_active and since_s is not None:
                found.append((since_s, at_s))
                since_s = None
        return found

    def _refuse_when_broken(self) -> None:
        if self.is_broken:
            raise OSError(19, "No such device")


class FakeInput:
    """Plays edges; raises OSError while it is broken."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, EdgeName, float, Pull]] = []
        self.edges: queue.Queue[Edge] = queue.Queue()
        self.is_broken = False

    def open(self, chip: str, line: str, edge: EdgeName, debounce_ms: float, pull: Pull) -> FakeInput:
        """In place of `edge.gpio.open_input`."""
        if self.is_broken:
            raise OSError(19, "No such device")
        self.opened.append((chip, line, edge, debounce_ms, pull))
        return self

    def wait(self, timeout_s: float) -> list[Edge]:
        """As a line."""
        if self.is_broken:
            raise OSError(19, "No such device")
        try:
            return [self.edges.get(timeout=timeout_s)]
        except queue.Empty:
            return []

    def close(self) -> None:
        """As a line."""
