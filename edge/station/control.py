"""What people and machines may ask of a running station, and what it says of itself; from any thread.

Whoever takes wishes (the page, MQTT, a PLC, a sensor) calls `arm`, `pause` or `trigger`; the loop that inspects obeys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Literal

from edge.errors import ControlError
from edge.result import Trigger, iso_utc, utc_now

if TYPE_CHECKING:
    from edge.setting import InspectorSetting
    from edge.station.master_parts import MasterParts

LONGEST_PART_ID = 200  # characters
StateName = Literal["armed", "paused", "fault"]


@dataclass(frozen=True)
class Status:
    """How the station is. `fault`: it would inspect, but a camera gives nothing that could be judged.

    reason: why it is not armed, None when it is. cameras: what is wrong with each, None when nothing is. reconnects:
    how often each came back. sporadic: cameras whose parts come when they come, so that silence is no fault.
    """

    state: StateName
    reason: str | None = None
    cameras: Mapping[str, str | None] = field(default_factory=dict)
    reconnects: Mapping[str, int] = field(default_factory=dict)
    sporadic: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Asked:
    """A trigger and when it came, on the clock of `time.monotonic`."""

    trigger: Trigger
    at_s: float


TakeTrigger = Callable[[Asked], None]


class Control:
    """The wishes in force. It begins armed, unless `pause` is called before the loop begins.

    setting: with which the loop's inspector was loaded, for those that need one of their own; None where nobody knows.
    station: what the station is called. master_parts: those that must be shown before it may be armed.
    triggered_cameras: those that triggers are for; one that takes none, see `takes_triggers`, has not opened or has
    ended.
    sporadic: as in `Status`; the loop says so.
    """

    def __init__(self, setting: InspectorSetting | None = None, station: str | None = None) -> None:
        self.setting, self.station = setting, station
        self.master_parts: MasterParts | None = None
        self.triggered_cameras: tuple[str, ...] = ()  # from the station file; others are added as they take triggers
        self.sporadic: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._paused_by: str | None = None
        self._paused_because: str | None = None
        self._cameras: dict[str, str | None] = {}
        self._reconnects: dict[str, int] = {}
        self._takers: dict[str, TakeTrigger] = {}
        self._triggers = 0

    def arm(self, by: str) -> None:
        """Inspect from the next frame on. ControlError when something must be done first. by: who asks."""
        with self.master_parts.arming() if self.master_parts else nullcontext(), self._lock:
            self._paused_by = self._paused_because = None

    def pause(self, by: str, reason: str | None = None, only_if: Container[str | None] | None = None) -> None:
        """Inspect nothing until `arm`. A trigger gets its record all the same, without a verdict.

        only_if: do nothing unless one of these has paused it; None among them stands for an armed station.
        """
        with self._lock:
            if only_if is None or self._paused_by in only_if:
                self._paused_by, self._paused_because = by, reason or f"paused by {by}"

    def trigger(
        self, by: str, camera: str | None = None, part_id: str | None = None, at_s: float | None = None
    ) -> Trigger:
        """Ask for one verdict of each triggered camera, or of the one named. ControlError when there is none.

        at_s: when the part was seen, on the clock of `time.monotonic`, where that was before now.
        """
        if part_id is not None and len(part_id) > LONGEST_PART_ID:
            raise ControlError(f"a part id of {len(part_id)} characters; expected {LONGEST_PART_ID} at most")
        with self._lock:
            now_s = monotonic()
            at_s = now_s if at_s is None else min(at_s, now_s)
            at = iso_utc(time() - (now_s - at_s))
            takers = self._takers if camera is None else {k: v for k, v in self._takers.items() if k == camera}
            if not takers:
                raise ControlError(self._no_taker(camera))
            self._triggers += 1
            asked = Asked(Trigger(self._triggers, at, by, part_id), at_s)
            for take in takers.values():  # under the lock, so that two triggers cannot overtake each other
                take(asked)
        return asked.trigger

    def show_master_part(self, name: str, by: str) -> None:
        """The next picture shows this master part. ControlError when the station has none of that name."""
        if self.master_parts is None:
            raise ControlError("this station has no master parts; list them under 'master_parts' in the station file")
        self.master_parts.show(name, by)

    def take_triggers(self, camera: str, take: TakeTrigger | None) -> None:
        """`take` gets every trigger of this camera, in order; it must not wait. None: no more triggers for it."""
        with self._lock:
            if take:
                self._takers[camera] = take
                self.triggered_cameras = tuple(dict.fromkeys([*self.triggered_cameras, camera]))
            else:
                self._takers.pop(camera, None)

    def next_trigger(self, by: str) -> Asked:
        """A trigger that nobody asked us for: the device was triggered by its own input line."""
        at_s, at = monotonic(), utc_now()
        with self._lock:
            self._triggers += 1
            return Asked(Trigger(self._triggers, at, by), at_s)

    @property
    def takes_triggers(self) -> list[str]:
        """Names of the cameras that wait for triggers."""
        with self._lock:
            return list(self._takers)

    def set_trouble(self, camera: str, trouble: str | None, reconnects: int = 0) -> None:
        """What is wrong with a camera, None when nothing is; and how often it came back so far."""
        with self._lock:
            self._cameras[camera], self._reconnects[camera] = trouble, reconnects

    @property
    def is_armed(self) -> bool:
        """Whether frames are to be inspected; a camera's trouble does not change that."""
        return self._paused_by is None

    @property
    def paused_because(self) -> str | None:
        """Why it is paused; None while it is armed."""
        return self._paused_because

    @property
    def paused_by(self) -> str | None:
        """Who paused it; None while it is armed."""
        return self._paused_by

    def inspects(self, camera: str, grabbed_at_s: float | None = None, trigger_id: int | None = None) -> bool:
        """Whether a picture of this camera is to be judged: the station is armed, or it shows a master part.

        grabbed_at_s: when the picture was taken, on the clock of `time.monotonic`. trigger_id: of a trigger that came
        through `trigger`. Never called from a `TakeTrigger`: a master part may be announced just then, and holds both.
        """
        if self.is_armed or self.master_parts is None:
            return self.is_armed
        return self.master_parts.is_awaited(camera, grabbed_at_s, trigger_id)

    @property
    def status(self) -> Status:
        """State, reason and cameras at this moment."""
        with self._lock:
            paused, cameras, reconnects = self._paused_because, dict(self._cameras), dict(self._reconnects)
        if paused is not None:
            return Status("paused", paused, cameras, reconnects, self.sporadic)
        troubled = "; ".join(f"{name}: {trouble}" for name, trouble in cameras.items() if trouble)
        return Status("fault" if troubled else "armed", troubled or None, cameras, reconnects, self.sporadic)

    def _no_taker(self, camera: str | None) -> str:
        if not self._takers:
            return "no camera of this station waits for triggers; give one a 'trigger' in the station file"
        return f"no triggered camera is called {camera!r}; there are: {', '.join(self._takers)}"
