"""A sensor on a GPIO line asks for verdicts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import pydantic

from edge.gpio import Chip, Edge, EdgeName, InputLine, LineId, Pull, open_input
from edge.notify import Notify, one_line
from edge.station.parts import StationPart

WAIT_S = 0.1  # how soon the end is noticed
RETRY_S = 1.0
CLOSE_S = 2.0
OnEdge = Callable[[float], object]
OpenInput = Callable[[str, str, EdgeName, float, Pull], InputLine]


class GpioTrigger(StationPart):
    """Which edges of which line. debounce_ms: a level counts when it has stayed so long; 0: every edge counts.

    pull: the resistor inside the chip, for sensors that only open and close.
    """

    chip: Chip = "gpiochip0"
    line: LineId
    edge: EdgeName = "rising"
    debounce_ms: float = pydantic.Field(default=1.0, ge=0, le=10_000)
    pull: Pull = "as_is"


class EdgeWatch:
    """While it is entered, `on_edge` is called for every edge, in order, by a thread of its own; it must not wait.

    on_edge: gets the moment of the edge, on the clock of `time.monotonic`.

    Entering it is a CameraError when the line cannot be had, a UsageError without gpiod. A chip that goes later is
    told and tried again; edges that the kernel could not keep are told with their number.
    """

    def __init__(
        self,
        settings: GpioTrigger,
        on_edge: Callable[[float], object],
        notify: Notify,
        open_line: OpenInput = open_input,
    ) -> None:
        self.lost = 0  # edges
        self._settings, self._on_edge, self._notify, self._open_line = settings, on_edge, notify, open_line
        self._label = f"trigger line {settings.chip} {settings.line}"
        self._is_over = threading.Event()
        self._line: InputLine | None = None
        self._last_number = 0
        self._refusal: str | None = None
        self._thread = threading.Thread(target=self._watch, name="oddkind-gpio", daemon=True)

    def __enter__(self) -> EdgeWatch:
        self._line = self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(CLOSE_S)

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                if self._line is None:
                    self._line = self._open()
                    self._notify(f"{self._label}: the line is back")
                for edge in self._line.wait(WAIT_S):
                    self._take(edge)
            except Exception as exc:
                if self._line is not None:
                    self._notify(f"{self._label}: no triggers from it ({one_line(exc)}); trying again")
                self._let_go()
                self._is_over.wait(RETRY_S)
        self._let_go()

    def _take(self, edge: Edge) -> None:
        missed, self._last_number = edge.number - self._last_number - 1, edge.number
        if missed > 0:
            self.lost += missed
            self._notify(f"{self._label}: {missed} edges came faster than they could be read; lost: {self.lost}")
        try:
            self._on_edge(edge.at_s)
        except Exception as exc:
            if one_line(exc) != self._refusal:
                self._notify(f"{self._label}: an edge was no trigger ({one_line(exc)})")
            self._refusal = one_line(exc)
        else:
            self._refusal = None

    def _open(self) -> InputLine:
        s, self._last_number = self._settings, 0
        return self._open_line(s.chip, s.line, s.edge, s.debounce_ms, s.pull)

    def _let_go(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with suppress(Exception):
                line.close()
