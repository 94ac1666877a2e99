"""Lines of a GPIO chip, one to set and one to watch. The only file that uses gpiod.

`OutputLine` and `InputLine` are all that others see of it, and what tests put a fake in the place of.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol

import pydantic

from edge.errors import CameraError, OddkindError, OutputError, UsageError

Level = Literal["high", "low"]
EdgeName = Literal["rising", "falling", "both"]
Pull = Literal["as_is", "up", "down", "none"]
CONSUMER = "oddkind"
EVENT_BUFFER = 256  # edges that the kernel keeps for us
HINTS = {
    errno.ENOENT: "there is no such chip or line; 'gpiodetect' and 'gpioinfo' list them",
    errno.EACCES: "this user may not use it; add it to the group of the device, often gpio",
    errno.EBUSY: "another program holds it; 'gpioinfo' says which",
}


def _as_line(value: Any) -> Any:
    """The number of a line may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else value


Chip = Annotated[str, pydantic.Field(pattern=r"^(/dev/)?[\w.:-]+(/[\w.:-]+)*$", max_length=200)]
LineId = Annotated[str, pydantic.BeforeValidator(_as_line), pydantic.Field(min_length=1, max_length=60)]


@dataclass(frozen=True)
class Edge:
    """A change of an input. at_s: when, on the clock of `time.monotonic`. number: 1, 2, 3, ... of this line."""

    at_s: float
    number: int


class OutputLine(Protocol):
    """A line that we set."""

    def set(self, is_active: bool) -> None:
        """Set it, now; OSError when the chip has gone."""

    def close(self) -> None:
        """Give it back; what the pin then does is the driver's choice."""


class InputLine(Protocol):
    """A line whose edges we wait for."""

    def wait(self, timeout_s: float) -> list[Edge]:
        """Edges since the last call, in order; none after `timeout_s`. OSError when the chip has gone."""

    def close(self) -> None:
        """Give it back."""


def open_output(chip: str, line: str, active: Level, is_active: bool) -> OutputLine:
    """A line to set, at once active or not. active: the level that `active` means. OutputError when it cannot be."""
    gpiod = _gpiod()
    value = gpiod.line.Value.ACTIVE if is_active else gpiod.line.Value.INACTIVE
    direction = gpiod.line.Direction.OUTPUT
    settings = gpiod.LineSettings(direction=direction, active_low=active == "low", output_value=value)
    return _Output(_request(chip, line, settings, OutputError), line)


def open_input(chip: str, line: str, edge: EdgeName, debounce_ms: float, pull: Pull) -> InputLine:
    """A line to watch. CameraError when it cannot be."""
    gpiod = _gpiod()
    names = {"as_is": "AS_IS", "up": "PULL_UP", "down": "PULL_DOWN", "none": "DISABLED"}
    settings = gpiod.LineSettings(
        direction=gpiod.line.Direction.INPUT,
        edge_detection=gpiod.line.Edge[edge.upper()],
        bias=gpiod.line.Bias[names[pull]],
        debounce_period=timedelta(milliseconds=debounce_ms),
        event_clock=gpiod.line.Clock.MONOTONIC,
    )
    return _Input(_request(chip, line, settings, CameraError))


class _Output:
    def __init__(self, request: Any, line: str) -> None:
        self._request, self._line = request, _id(line)

    def set(self, is_active: bool) -> None:
        value = _gpiod().line.Value
        self._request.set_value(self._line, value.ACTIVE if is_active else value.INACTIVE)

    def close(self) -> None:
        self._request.release()


class _Input:
    def __init__(self, request: Any) -> None:
        self._request = request

    def wait(self, timeout_s: float) -> list[Edge]:
        if not self._request.wait_edge_events(timeout_s):
            return []
        return [Edge(event.timestamp_ns / 1e9, event.line_seqno) for event in self._request.read_edge_events()]

    def close(self) -> None:
        self._request.release()


def _request(chip: str, line: str, settings: Any, error: type[OddkindError]) -> Any:
    path = chip if chip.startswith("/") else f"/dev/{chip}"
    try:
        with _gpiod().Chip(path) as opened:
            return opened.request_lines({_id(line): settings}, CONSUMER, EVENT_BUFFER)
    except (OSError, ValueError) as exc:
        number = exc.errno if isinstance(exc, OSError) else errno.ENOENT  # ValueError: the number of no line
        why = HINTS.get(number or 0) or f"it cannot be used ({getattr(exc, 'strerror', None) or exc})"
        raise error(f"gpio {path}, line {line}: {why}") from exc


def _id(line: str) -> int | str:
    return int(line) if line.isdecimal() else line


def _gpiod() -> Any:
    try:
        import gpiod
        import gpiod.line
    except ImportError as exc:
        raise UsageError("GPIO needs gpiod, which is not installed; pip install 'oddkind[gpio]'") from exc
    return gpiod
