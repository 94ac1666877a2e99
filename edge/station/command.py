"""A wish that comes as JSON, from a broker or a client: `{"command": "trigger", "part_id": "A-17"}`."""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic

from edge.errors import ControlError
from edge.station.control import Control
from edge.station.parts import StationPart

MOST_BYTES = 10_000


class Command(StationPart):
    """What is asked for. camera, part_id: of a trigger. reason: of a pause. name: of a master part that is shown."""

    command: Literal["trigger", "arm", "pause", "master"]
    camera: str | None = None
    part_id: str | None = pydantic.Field(default=None, max_length=200)
    reason: str | None = pydantic.Field(default=None, max_length=200)
    name: str | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        allowed = {"trigger": {"camera", "part_id"}, "pause": {"reason"}, "master": {"name"}}.get(self.command, set())
        surplus = self.model_fields_set - allowed - {"command"}
        if surplus:
            raise ValueError(f"{self.command} has no {', '.join(sorted(surplus))}")
        if self.command == "master" and not self.name:
            raise ValueError("master needs the name of a master part")
        return self

    @classmethod
    def of_json(cls, content: bytes) -> Command:
        """ControlError, in one line, when it is none."""
        if len(content) > MOST_BYTES:
            raise ControlError(f"a command of {len(content)} bytes; expected {MOST_BYTES} at most")
        try:
            return cls.model_validate_json(content)
        except pydantic.ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = str(first.get("ctx", {}).get("error", first["msg"]))
            raise ControlError(f"not a command: {f'{where}: ' if where else ''}{what}") from exc


def obey(control: Control, command: Command, by: str) -> dict[str, Any]:
    """Do it; `state`, `reason` and, of a trigger, `trigger_id` afterwards. ControlError when it cannot be done."""
    answer: dict[str, Any] = {}
    if command.command == "trigger":
        answer["trigger_id"] = control.trigger(by, command.camera, command.part_id).trigger_id
    elif command.command == "arm":
        control.arm(by)
    elif command.command == "pause":
        control.pause(by, command.reason)
    else:
        control.show_master_part(str(command.name), by)
    status = control.status
    return {**answer, "state": status.state, "reason": status.reason}
