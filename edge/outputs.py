"""Every output a station can have.

To add one: its model, an `Output`, goes into the file of its sink, and a field for it goes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pydantic

from edge.notify import Notify
from edge.record_files import RecordsOutput
from edge.sinks import AnnotatedOutput, Output, Sink
from edge.station_parts import StationPart


class Outputs(StationPart):
    """Where records and pictures go; at least one. They are opened, and written, in this order."""

    records: RecordsOutput | None = None
    annotated: AnnotatedOutput | None = None

    @pydantic.model_validator(mode="after")
    def _is_not_empty(self) -> Outputs:
        if not self.given:
            raise ValueError(f"nothing would be written; expected at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def given(self) -> list[Output]:
        """Those that the station has."""
        outputs = [getattr(self, name) for name in type(self).model_fields]
        return [output for output in outputs if output is not None]

    def open(self, cameras: Sequence[str], notify: Notify) -> Iterator[Sink]:
        """Sinks, each opened when it is asked for, so that the caller can close those before it."""
        for output in self.given:
            yield output.open(cameras, notify)
