"""A sink that keeps every record, checked against the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np

from edge.outputs.sinks import Sink
from edge.result import Inspection, record_schema

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


class CallingSink(Sink):
    """Keeps records and calls `then(number of records)` after each, as another process might do something then."""

    def __init__(self, then: Callable[[int], Any] = lambda count: None) -> None:
        self.then = then
        self.records: list[dict[str, Any]] = []

    def write(self, inspection: Inspection, frame_bgr: np.ndarray | None, heat_map: np.ndarray | None = None) -> None:
        record = json.loads(inspection.to_json())
        jsonschema.validate(record, record_schema(), format_checker=FORMATS)
        self.records.append(record)
        self.then(len(self.records))

    def of(self, key: str) -> list[Any]:
        return [record[key] for record in self.records]
