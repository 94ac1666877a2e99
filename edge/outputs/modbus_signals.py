"""What passes between a PLC, its handshake and the station: commands, surroundings and what is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Literal

from edge.outputs.modbus_result import PlcResult

Wish = Literal["trigger", "pause", "arm"]


class Trouble(IntEnum):
    """The error code: what went wrong last since the PLC cleared it."""

    NONE = 0
    STALLED = 1
    PLC_SILENT = 2
    MISSED = 3
    OVERRUN = 4
    UNANSWERED = 5
    NOT_ARMED = 6


@dataclass(frozen=True)
class Commands:
    """The bits that a PLC writes."""

    trigger_enable: bool = False
    trigger: bool = False
    results_ack: bool = False
    set_offline: bool = False
    set_online: bool = False
    clear_error: bool = False
    plc_heartbeat: bool = False

    def risen(self, before: Commands) -> set[str]:
        """Names of bits that are set and were not."""
        names = [each.name for each in fields(self)]
        return {name for name in names if getattr(self, name) and not getattr(before, name)}


@dataclass(frozen=True)
class Around:
    """How the station is at this moment. has_fault: a camera gives nothing that could be judged.

    silent_cameras: triggers are for them, and they take none: not open yet, or ended.
    """

    is_armed: bool = True
    takes_triggers: bool = True
    has_fault: bool = False
    silent_cameras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """stall_after_s: without a round of the loop. answer_within_s: for a record. plc_timeout_s: None, never."""

    stall_after_s: float = 1.0
    answer_within_s: float = 10.0
    plc_timeout_s: float | None = None


@dataclass(frozen=True)
class Shown:
    """What a PLC sees at one moment. trigger_id: the last one taken. result: None unless it is valid."""

    online: bool
    trigger_ready: bool
    trigger_ack: bool
    missed_acquisition: bool
    system_busy: bool
    results_overrun: bool
    heartbeat: bool
    fault: bool
    trigger_id: int | None
    result: PlcResult | None
    results_waiting: int
    trouble: Trouble
    rounds: int
    missed: int
    overruns: int
    voided: int

    @property
    def results_valid(self) -> bool:
        """Whether there is a result."""
        return self.result is not None
