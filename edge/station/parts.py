"""What every part of a station file is made of, and how its paths are meant. Sinks and cameras build on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic


class StationPart(pydantic.BaseModel):
    """Base of every part: frozen, unknown keys are errors, text is never taken for a number, errors show no values."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def as_path(value: Any, info: pydantic.ValidationInfo) -> Any:
    """Text -> path. Relative ones start at `folder` of the validation context: the folder of the station file."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("expected a path")
    if value.startswith("~"):
        raise ValueError("expected a path without '~': a service may have another home; write the folder out")
    folder = (info.context or {}).get("folder")
    return Path(folder / value) if folder else Path(value)


StationPath = Annotated[Path, pydantic.BeforeValidator(as_path)]
