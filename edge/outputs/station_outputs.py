"""Every output a station can have.

To add one: its model, an `Output`, goes into the file of its sink, and a field for it goes here. One that is sent
records, rather than written, is a `ReceiverOutput`: what it cannot take waits in the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pydantic

from edge.notify import Notify
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from edge.outputs.evidence import EvidenceOutput
from edge.outputs.gpio_reject import RejectOutput
from edge.outputs.http_output import HttpOutput
from edge.outputs.modbus import ModbusOutput
from edge.outputs.mqtt import MqttSettings
from edge.outputs.opcua import OpcuaOutput
from edge.outputs.outbox import ReceiverOutput
from edge.outputs.record_files import CsvOutput, RecordsOutput
from edge.outputs.sinks import AnnotatedOutput, Output, Sink
from edge.outputs.webhook import WebhookSettings
from edge.station.control import Control
from edge.station.parts import StationPart

FIRST = (RejectOutput, ModbusOutput, OpcuaOutput)  # a part waits for these; those that write files take their time
SHOWS_ONLY = {"http"}  # keeps no record: a station with nothing else would inspect for nobody


class Outputs(StationPart):
    """Where records and pictures go; at least one that keeps them. In this order, see `FIRST` for what goes before."""

    records: RecordsOutput | None = None
    annotated: AnnotatedOutput | None = None
    database: DatabaseSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None
    http: HttpOutput | None = None
    modbus: ModbusOutput | None = None
    csv: CsvOutput | None = None
    evidence: EvidenceOutput | None = None
    opcua: OpcuaOutput | None = None
    reject: RejectOutput | None = None

    @pydantic.model_validator(mode="after")
    def _is_not_empty(self) -> Outputs:
        keeping = [name for name in type(self).model_fields if name not in SHOWS_ONLY]
        if all(getattr(self, name) is None for name in keeping):
            raise ValueError(f"nothing would be written; expected at least one of {', '.join(keeping)}")
        if self.receivers and not self.database:
            raise ValueError("mqtt and webhook need a database, where records wait until they are delivered")
        return self

    @property
    def given(self) -> list[Output | ReceiverOutput]:
        """Those that the station has."""
        outputs = [getattr(self, name) for name in type(self).model_fields]
        return [output for output in outputs if output is not None]

    @property
    def receivers(self) -> list[ReceiverOutput]:
        """Those that are sent what the database holds."""
        return [output for output in self.given if isinstance(output, ReceiverOutput)]

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Iterator[Sink]:
        """Sinks, each opened when it is asked for, so that the caller can close those before it."""
        for output in sorted(self.given, key=_turn):
            if isinstance(output, DatabaseSettings):
                yield DatabaseSink(output, notify, [receiver.open(control) for receiver in self.receivers])
            elif isinstance(output, Output):
                yield output.open(cameras, notify, control)


def _turn(output: Output | ReceiverOutput) -> int:
    """The place among those that are written first, or after them."""
    return FIRST.index(type(output)) if type(output) in FIRST else len(FIRST)
