"""Rejects to an ejector: a pulse on a GPIO line when the part is there, and a safe level while nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Literal

import pydantic

from edge.errors import UsageError
from edge.gpio import Chip, Level, LineId, OutputLine, open_output
from edge.notify import Notify
from edge.outputs.gpio_pulses import Hold, Pulses
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr
from edge.result import Inspection, Verdict
from edge.station.control import Control, Status
from edge.station.parts import StationPart

Blind = Literal["stalled", "paused", "fault"]
OpenLine = Callable[[str, str, Level, bool], OutputLine]


class RejectLine(StationPart):
    """One line. camera: whose rejects, None: of all. active: the level that rejects; the other one is idle.

    delay_ms: from the grab, or the trigger, to the pulse; 0: at once. verdicts: that reject.
    """

    chip: Chip = "gpiochip0"
    line: LineId
    camera: str | None = None
    active: Level = "high"
    delay_ms: float = pydantic.Field(default=0.0, ge=0, le=600_000)
    delay_from: Literal["grab", "trigger"] = "grab"
    pulse_ms: float = pydantic.Field(default=50.0, ge=1, le=60_000)
    verdicts: list[Verdict] = pydantic.Field(default=["defect", "no_verdict"], min_length=1)

    @property
    def shown(self) -> str:
        """As messages call it."""
        return f"reject line {self.chip} {self.line}"


class RejectOutput(Output):
    """Lines, and when they are held at reject: while the loop stalls or has not begun, while paused, during a fault."""

    lines: list[RejectLine] = pydantic.Field(min_length=1)
    hold_when: list[Blind] = pydantic.Field(default=["stalled", "paused", "fault"])
    stall_after_s: float = pydantic.Field(default=2.0, ge=0.5, le=3600)

    @pydantic.model_validator(mode="after")
    def _has_no_twins(self) -> RejectOutput:
        places = [(line.chip.removeprefix("/dev/"), line.line) for line in self.lines]
        for chip, line in places:
            if places.count((chip, line)) > 1:
                raise ValueError(f"{chip} line {line} is given twice; a line belongs to one camera, or to all")
        return self

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink; every line is held, or idle, from now on. UsageError without gpiod, OutputError for a line."""
        return RejectSink(self, cameras, notify)

    def in_words(self) -> str:
        """Lines, delays and what holds them."""
        held = f"held while {' or '.join(self.hold_when)}" if self.hold_when else "never held"
        return f"{'; '.join(_in_words(line) for line in self.lines)}; {held}"


class RejectSink(Sink):
    """Asks for a pulse, on the loop's thread; the threads of the lines do the rest."""

    def __init__(
        self, settings: RejectOutput, cameras: Sequence[str], notify: Notify, open_line: OpenLine = open_output
    ) -> None:
        self._settings = settings
        self._status: Status | None = None
        self._round_at_s = 0.0
        self._lines: list[tuple[RejectLine, Pulses]] = []
        for line in settings.lines:
            if line.camera is not None and line.camera not in cameras:
                raise UsageError(f"reject: no camera is called {line.camera}; there are: {', '.join(cameras)}")
        try:
            for line in settings.lines:
                self._lines.append((line, self._pulses(line, open_line, notify)))
        except BaseException:
            self.close()
            raise

    @property
    def late(self) -> int:
        """Pulses that were due before they were asked for."""
        return sum(pulses.late for _, pulses in self._lines)

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Some hundredths of a millisecond."""
        for line, pulses in self._lines:
            if line.camera in (None, inspection.provenance.source) and inspection.verdict in line.verdicts:
                pulses.ask(_start_s(line, inspection))

    def came_round(self, status: Status) -> None:
        """The loop looks."""
        self._status, self._round_at_s = status, monotonic()

    def close(self) -> None:
        """Leave the lines as a loop that stalls would."""
        for _, pulses in self._lines:
            pulses.close()

    def _pulses(self, line: RejectLine, open_line: OpenLine, notify: Notify) -> Pulses:
        def opened(is_active: bool) -> OutputLine:
            return open_line(line.chip, line.line, line.active, is_active)

        leaves_active = "stalled" in self._settings.hold_when
        return Pulses(line.shown, opened, line.pulse_ms / 1e3, lambda: self._hold(line), leaves_active, notify)

    def _hold(self, line: RejectLine) -> Hold:
        """Asked by the thread of the line."""
        blind, news = self._blind(line)
        return Hold(blind in self._settings.hold_when, news)

    def _blind(self, line: RejectLine) -> tuple[Blind | None, str | None]:
        """What keeps us from seeing parts, and words for it if nobody else would tell."""
        status = self._status
        if status is None:
            return "stalled", None
        if monotonic() - self._round_at_s > self._settings.stall_after_s:
            return "stalled", f"the loop that inspects has not come round for {self._settings.stall_after_s:g} s"
        if status.state == "paused":
            return "paused", None
        is_troubled = any(trouble for name, trouble in status.cameras.items() if line.camera in (None, name))
        return ("fault" if is_troubled else None), None


def _start_s(line: RejectLine, inspection: Inspection) -> float | None:
    """When the pulse is to begin; None: now. Without a picture the trigger counts, without a trigger this moment."""
    if line.delay_ms == 0:
        return None
    ages_ms = {"grab": inspection.age_ms, "trigger": inspection.trigger_ms}
    other = "grab" if line.delay_from == "trigger" else "trigger"
    age_ms = ages_ms[line.delay_from] if ages_ms[line.delay_from] is not None else ages_ms[other]
    return monotonic() + (line.delay_ms - (age_ms or 0.0)) / 1e3


def _in_words(line: RejectLine) -> str:
    when = f"{line.delay_ms:g} ms after the {line.delay_from}" if line.delay_ms else "at once"
    what = f"{' and '.join(line.verdicts)}{f' of {line.camera}' if line.camera else ''}"
    return f"{line.pulse_ms:g} ms {line.active} on {line.chip} line {line.line} {when}, for {what}"
