"""What an OPC UA client finds: names, types and where each name comes from, as in the table of docs/opcua.md.

Names and state numbers are those of OPC 40100-1 (Machine Vision, 1.00) where it has one for what we say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from edge.result import Inspection

MACHINE_VISION_URI = "http://opcfoundation.org/UA/MachineVision"
OWN_URI = "urn:oddkind"
Owner = Literal["UA", "MachineVision", "oddkind"]
# Type of an object, of a method, or the data type of a variable.
OBJECT, FOLDER, STATE, METHOD = "Object", "Folder", "State", "Method"

STATE_NUMBERS = {"Preoperational": 1, "Halted": 2, "Error": 3, "Operational": 4}
AUTOMATIC_STATE_NUMBERS = {"Initialized": 5, "Ready": 6, "SingleExecution": 7, "ContinuousExecution": 8}
COMPLETED, FAILED = 1, 4  # values of ResultState

SYSTEM = "VisionSystem"
MACHINE = f"{SYSTEM}.VisionStateMachine"
AUTOMATIC = f"{MACHINE}.AutomaticModeStateMachine"
RESULTS = f"{SYSTEM}.ResultManagement.Results"
AUTOMATIC_METHODS = ("StartSingleJob", "StartContinuous", "Stop")
# (name, type) of what goes into a method, and of what comes out; those that are not here have neither.
JOB_INPUTS = (*((name, "String") for name in ("MeasId", "PartId", "RecipeId", "ProductId")), ("Parameters", "String[]"))
ERROR = ("Error", "Int32")
ARGUMENTS: dict[str, tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]] = {
    "SelectModeAutomatic": ((), (ERROR,)),
    "StartContinuous": ((), (ERROR,)),
    "StartSingleJob": (JOB_INPUTS, (("JobId", "String"), ERROR)),
}


@dataclass(frozen=True)
class Place:
    """One node. above: path of the node it is under. owner: whose namespace its BrowseName is of."""

    above: str
    name: str
    type: str
    owner: Owner = "MachineVision"

    @property
    def path(self) -> str:
        """Names joined by '.', which is the NodeId too."""
        return f"{self.above}.{self.name}" if self.above else self.name


def _machine(above: str, name: str, states: dict[str, int], methods: tuple[str, ...]) -> tuple[Place, ...]:
    here = f"{above}.{name}"
    return (
        Place(above, name, OBJECT),
        Place(here, "CurrentState", "LocalizedText", "UA"),
        Place(f"{here}.CurrentState", "Id", "NodeId", "UA"),
        Place(f"{here}.CurrentState", "Number", "UInt32", "UA"),
        Place(here, "LastTransition", "LocalizedText", "UA"),
        Place(f"{here}.LastTransition", "TransitionTime", "DateTime", "UA"),
        *(Place(here, state, STATE) for state in states),
        *(Place(here, method, METHOD) for method in methods),
    )


FIXED = (
    Place("", SYSTEM, OBJECT),
    Place(SYSTEM, "Reason", "String", "oddkind"),
    Place(SYSTEM, "Heartbeat", "UInt32", "oddkind"),
    Place(SYSTEM, "LastRefusal", "String", "oddkind"),
    Place(SYSTEM, "LostResults", "UInt32", "oddkind"),
    *_machine(SYSTEM, "VisionStateMachine", STATE_NUMBERS, ("Halt", "Reset", "SelectModeAutomatic")),
    *_machine(MACHINE, "AutomaticModeStateMachine", AUTOMATIC_STATE_NUMBERS, AUTOMATIC_METHODS),
    Place(SYSTEM, "ResultManagement", OBJECT),
    Place(f"{SYSTEM}.ResultManagement", "Results", FOLDER),
)
# Under RESULTS and the name of a camera: its latest result. What begins as Bad is so until there is one.
RESULT_VALUES: tuple[tuple[str, str, Owner], ...] = (
    ("ResultId", "String", "MachineVision"),
    ("IsPartial", "Boolean", "MachineVision"),
    ("ResultState", "Int32", "MachineVision"),
    ("MeasId", "String", "MachineVision"),
    ("PartId", "String", "MachineVision"),
    ("ExternalRecipeId", "String", "MachineVision"),
    ("InternalRecipeId", "String", "MachineVision"),
    ("ProductId", "String", "MachineVision"),
    ("JobId", "String", "MachineVision"),
    ("CreationTime", "DateTime", "MachineVision"),
    ("ProcessingTimes", "Double", "MachineVision"),
    ("ResultContent", "String[]", "MachineVision"),
    ("Verdict", "String", "oddkind"),
    ("IsGood", "Boolean", "oddkind"),
    ("DefectClass", "String", "oddkind"),
    ("AnomalyScore", "Double", "oddkind"),
    ("ImageThreshold", "Double", "oddkind"),
    ("AgeMs", "Double", "oddkind"),
)
COUNTERS = {"good": "GoodCount", "defect": "DefectCount", "no_verdict": "NoVerdictCount"}
EVENT_TYPE = "ResultReadyEventType"


def camera_places(camera: str) -> tuple[Place, ...]:
    """The nodes of one camera."""
    here = f"{RESULTS}.{camera}"
    return (
        Place(RESULTS, camera, OBJECT, "oddkind"),
        *(Place(here, name, kind, owner) for name, kind, owner in RESULT_VALUES),
        *(Place(here, name, "UInt32", "oddkind") for name in COUNTERS.values()),
    )


def result_values(inspection: Inspection, job_id: str, meas_id: str) -> dict[str, Any]:
    """Values of RESULT_VALUES for one inspection; None where it has none, such as the score without a verdict."""
    trigger = inspection.provenance.trigger
    return {
        "ResultId": inspection.result_id,
        "IsPartial": False,
        "ResultState": FAILED if inspection.verdict == "no_verdict" else COMPLETED,
        "MeasId": meas_id,
        "PartId": (trigger and trigger.part_id) or "",
        "ExternalRecipeId": "",
        "InternalRecipeId": inspection.bundle_id,
        "ProductId": "",
        "JobId": job_id,
        "CreationTime": datetime.fromisoformat(inspection.provenance.captured_at),
        "ProcessingTimes": sum(inspection.latency_ms.values()),
        "ResultContent": [inspection.to_json()],
        "Verdict": inspection.verdict,
        "IsGood": inspection.verdict == "good",
        "DefectClass": inspection.defect_class or "",
        "AnomalyScore": inspection.anomaly_score,
        "ImageThreshold": inspection.image_threshold,
        "AgeMs": inspection.age_ms,
    }
