"""What a station is: cameras, bundle, runtime and outputs, as its YAML file says or as the flags of `run` do.

Every key of a station file is a field here, in `edge.cameras.faults` or in the model of an output, see
`edge.outputs.station_outputs`.
"""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from edge.cameras.address import EXPECTED, is_live, redacted
from edge.cameras.faults import FaultLimits
from edge.cameras.live import LOST_AFTER_S
from edge.cameras.triggered import TriggerSettings
from edge.manifest import BackendChoice, Precision
from edge.outputs.station_outputs import Outputs
from edge.station.master_parts import MasterPartSettings
from edge.station.parts import StationPart, StationPath, as_path

LONGEST_LOST_AFTER_S = 86_400.0
Name = Annotated[str, pydantic.Field(pattern=r"^[\w][\w .:-]{0,59}$")]


def _as_source(value: Any, info: pydantic.ValidationInfo) -> Any:
    """A camera number may be written as a number; a file or folder is meant as every other path is."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value == "":
        raise ValueError(f"expected {EXPECTED}")
    return value if not isinstance(value, str) or is_live(value) else str(as_path(value, info))


class CameraEntry(StationPart):
    """One camera. name: what records and messages call it, by default its address without the password.

    trigger: one verdict for each part that is announced; without it every picture is judged.
    """

    source: Annotated[str, pydantic.BeforeValidator(_as_source)]
    name: Name | None = None
    lost_after_s: float = pydantic.Field(default=LOST_AFTER_S, ge=0.1, le=LONGEST_LOST_AFTER_S)
    wait_for_camera: bool = False
    faults: FaultLimits = FaultLimits()
    trigger: TriggerSettings | None = None

    @property
    def is_live(self) -> bool:
        """Whether it sends at its own pace."""
        return is_live(self.source)

    @property
    def shown(self) -> str:
        """Its name, or its address as it may be shown."""
        return self.name or redacted(self.source)


class Runtime(StationPart):
    """What the graphs run on. None: what the bundle was calibrated with. threads: 0 means every core."""

    backend: BackendChoice | None = None
    precision: Precision | None = None
    threads: int = pydantic.Field(default=1, ge=0, le=1024)


class Station(StationPart):
    """One station. max_frames: records of all cameras together, after which it stops; None: never.

    always_type: name the strangest region of good frames too.
    """

    name: Name | None = None
    bundle: StationPath
    classes: StationPath | None = None
    runtime: Runtime = Runtime()
    cameras: list[CameraEntry] = pydantic.Field(min_length=1)
    master_parts: MasterPartSettings | None = None
    always_type: bool = False
    max_frames: int | None = pydantic.Field(default=None, ge=1)
    outputs: Outputs
