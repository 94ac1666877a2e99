"""Armed, paused and fault in the states of OPC 40100-1, and its methods as wishes of the control; no OPC UA in here."""

from __future__ import annotations

import uuid

from edge.errors import ControlError
from edge.result import Inspection, Trigger
from edge.station.control import Control

BY = "opcua"
MOST_JOBS = 1000  # measurement numbers kept until their record comes


class VisionStates:
    """Used by one thread. Halted and Ready, while paused, are what a client asked for; all else is the control's."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._run = uuid.uuid4().hex[:12]  # triggers begin at 1 in every run; ids of jobs must not
        self._paused_as: tuple[str, str | None] | None = None
        self._meas_ids: dict[int, str] = {}
        self._open_jobs: set[int] = set()

    def current(self, comes_round: bool, has_come_round: bool) -> tuple[str, str | None]:
        """State, and state of the automatic mode where there is one."""
        if not has_come_round:
            return "Preoperational", None
        if not comes_round:
            return "Error", None
        status = self._control.status
        if status.state == "paused":
            return self._paused_as or ("Preoperational", None)
        self._paused_as = None
        if status.state == "fault":
            return "Error", None
        if not self._control.takes_triggers:
            return "Operational", "ContinuousExecution"
        return "Operational", "SingleExecution" if self._open_jobs else "Ready"

    def halt(self) -> None:
        """Inspect nothing until `reset` and `select_mode_automatic`."""
        self._control.pause(BY, "halted by an OPC UA client")
        self._paused_as = ("Halted", None)

    def reset(self) -> None:
        """Inspect nothing until `select_mode_automatic`; always possible."""
        self._control.pause(BY, "reset by an OPC UA client")
        self._paused_as = None

    def select_mode_automatic(self) -> None:
        """Arm. ControlError while halted, or when something must be done first."""
        if not self._control.is_armed and self._paused_as == ("Halted", None):
            raise ControlError("the station is halted; call Reset first")
        self._control.arm(BY)

    def start_continuous(self) -> None:
        """Arm a station that inspects whatever its cameras give. ControlError for one that waits for triggers."""
        self._refuse_without_pace("call StartSingleJob for each part")
        self.select_mode_automatic()

    def stop(self) -> None:
        """End what `start_continuous` began."""
        self._refuse_without_pace("a job ends by itself, Halt and Reset pause the station")
        if not self._control.is_armed:
            raise ControlError("nothing is executed that could be stopped")
        self._control.pause(BY, "stopped by an OPC UA client")
        self._paused_as = ("Operational", "Ready")

    def start_single_job(self, meas_id: str, part_id: str, camera: str | None) -> str:
        """Trigger; the id of the job. A paused station is asked in vain, so it refuses."""
        if not self._control.is_armed:
            raise ControlError(f"the station is paused ({self._control.status.reason}); call SelectModeAutomatic first")
        trigger = self._control.trigger(BY, camera, part_id or None)
        self._meas_ids[trigger.trigger_id] = meas_id
        while len(self._meas_ids) > MOST_JOBS:
            del self._meas_ids[next(iter(self._meas_ids))]
        self._open_jobs.add(trigger.trigger_id)
        return self._job_id(trigger)

    def settle(self, inspection: Inspection) -> tuple[str, str]:
        """Job and measurement that a record belongs to; its job is no longer open."""
        trigger = inspection.provenance.trigger
        if trigger is None:
            return self._run, ""
        self._open_jobs.discard(trigger.trigger_id)
        return self._job_id(trigger), self._meas_ids.get(trigger.trigger_id, "")

    def _job_id(self, trigger: Trigger) -> str:
        return f"{self._run}-{trigger.trigger_id}"

    def _refuse_without_pace(self, instead: str) -> None:
        if self._control.takes_triggers:
            raise ControlError(f"this station waits for triggers: {instead}")
