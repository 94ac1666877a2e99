"""The station as a Modbus/TCP server that a PLC polls: triggers in, verdicts out. See docs/modbus.md."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Annotated, Literal, Self

import pydantic

from edge.errors import ControlError, UsageError
from edge.notify import Notify, one_line, unfailing
from edge.outputs.modbus_handshake import Handshake
from edge.outputs.modbus_map import (
    COMMAND_BITS,
    HOLDING_COUNT,
    OTHER_CLASS,
    PART_ID_REGISTERS,
    PartId,
    WordOrder,
    bits_of,
    part_id_of,
)
from edge.outputs.modbus_page import FailSafe, Latest, PageStyle, input_words
from edge.outputs.modbus_result import BY, shown_at
from edge.outputs.modbus_signals import Around, Commands, Limits, Trouble
from edge.outputs.sinks import HeatMap, Output, Sink
from edge.pictures import FrameBgr
from edge.result import UNKNOWN, Inspection
from edge.station.control import Control, Status

ClassCode = Annotated[int, pydantic.Field(ge=1, le=OTHER_CLASS - 1)]
ANSWER_WITHIN_S = 10.0
ResultsOf = Literal["plc", "all"]


class ModbusOutput(Output):
    """Where to listen, whom to answer and how values are shown.

    allow: addresses or networks that may connect; needed beyond loopback, because Modbus asks nobody who he is.
    camera: the one that a trigger is for; None: each that takes triggers. results_of: the PLC's own triggers, or
    those of others too. class_codes: what `class_code` shows.
    word_order: of values in two registers. part_id: what the PLC writes there. fail_safe: the verdict without one.
    stall_after_s: without a round of the loop. answer_within_s: for the record of a trigger. plc_timeout_s: without a
    write of the PLC, after which the station pauses; None: never.
    """

    host: str = pydantic.Field(default="127.0.0.1", min_length=1, pattern=r"^[^\s/@\[\]]+$")
    port: int = pydantic.Field(default=5020, ge=1, le=65535)
    allow: list[str] = pydantic.Field(default=[], max_length=100)
    camera: str | None = pydantic.Field(default=None, min_length=1)
    results_of: ResultsOf = "plc"
    class_codes: dict[str, ClassCode] = pydantic.Field(default={}, max_length=1000)
    word_order: WordOrder = "big"
    part_id: PartId = "text"
    fail_safe: FailSafe = "reject"
    stall_after_s: float = pydantic.Field(default=1.0, ge=0.3, le=3600)
    answer_within_s: float = pydantic.Field(default=ANSWER_WITHIN_S, ge=0.1, le=3600)
    plc_timeout_s: float | None = pydantic.Field(default=None, ge=0.2, le=3600)

    @pydantic.field_validator("allow")
    @classmethod
    def _check_networks(cls, allow: list[str]) -> list[str]:
        for each in allow:
            try:
                ip_network(each)
            except ValueError as exc:
                expected = "addresses or networks such as 192.168.0.10 or 192.168.0.0/24"
                raise ValueError(f"{exc}; expected {expected}") from exc
        return allow

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if UNKNOWN in self.class_codes:
            raise ValueError(f"class_codes: '{UNKNOWN}' always has the code 65535")
        if not self.allow and not _is_loopback(self.host):
            raise ValueError(
                f"Modbus asks nobody for a password: with the host {self.host} say which clients may connect, such as "
                "allow: [192.168.0.10]"
            )
        return self

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, listening. UsageError without pymodbus, OutputError when the port cannot be had."""
        if self.camera is not None and self.camera not in cameras:
            raise UsageError(f"modbus: no camera is called {self.camera!r}; there are: {', '.join(cameras)}")
        return ModbusSink(self, cameras, notify, control)

    def in_words(self) -> str:
        """Address, and who is answered."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = f", for {', '.join(self.allow)} alone" if self.allow else ""
        watched = f", paused when the PLC is silent for {self.plc_timeout_s:g} s" if self.plc_timeout_s else ""
        return f"Modbus/TCP at {host}:{self.port}{who}, without a verdict: {self.fail_safe}{watched}"


class ModbusSink(Sink):
    """Stands between the loop's thread, which writes records, and the server's, which reads and writes registers.

    One lock over everything: neither thread holds it for longer than some hundredths of a millisecond.
    """

    def __init__(self, settings: ModbusOutput, cameras: Sequence[str], notify: Notify, control: Control) -> None:
        check_installed()
        from edge.outputs.modbus_server import ModbusServer  # few stations have a PLC, and it brings asyncio with it

        self._settings, self._cameras, self._control = settings, list(cameras), control
        self._notify = unfailing(notify)
        s = settings
        self._handshake = Handshake(Limits(s.stall_after_s, s.answer_within_s, s.plc_timeout_s), s.results_of == "all")
        self._style = PageStyle(s.class_codes, s.word_order, s.fail_safe)
        self._lock = threading.Lock()
        self._holdings = [0] * HOLDING_COUNT
        self._latest = Latest()
        self._has_fault = False
        self._without_code: set[str] = set()
        networks = [ip_network(each) for each in s.allow]
        self._server = ModbusServer(s.host, s.port, networks, self, self._notify)

    # --- the loop's thread

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """One record, of whatever trigger or of none; of the one camera, where the station names one."""
        camera = inspection.provenance.source
        number = self._cameras.index(camera) + 1 if camera in self._cameras else 0
        with self._lock:
            now_s = monotonic()
            result = shown_at(now_s, inspection)
            self._latest = self._latest.after(result, number, now_s)
            if self._settings.camera in (None, camera):
                self._handshake.record(camera, result, now_s)
        self._tell(result.defect_class)

    def came_round(self, status: Status) -> None:
        """The only thing that keeps the heartbeat going."""
        with self._lock:
            self._has_fault = status.state == "fault"
            self._handshake.came_round(monotonic())

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    # --- the server's thread

    def inputs(self) -> list[int]:
        """Every input register at this moment."""
        with self._lock:
            now_s = monotonic()
            shown, latest = self._handshake.shown(self._around(), now_s), self._latest
        return input_words(shown, latest, self._style, now_s)

    def holdings(self) -> list[int]:
        """What the PLC has written."""
        with self._lock:
            return list(self._holdings)

    def write_holdings(self, holdings: list[int]) -> None:
        """The PLC has written; its commands are obeyed before it is answered."""
        with self._lock:  # a record of the trigger must not come before the trigger is known
            self._holdings = holdings
            commands = Commands(**bits_of(holdings[0], COMMAND_BITS))
            for wish in self._handshake.command(commands, self._around(), monotonic()):
                {"trigger": self._trigger, "pause": self._pause, "arm": self._arm}[wish]()
        self._tell()

    def tick(self) -> None:
        """Whatever time alone brings about."""
        with self._lock:
            wishes = self._handshake.tick(monotonic())
        if wishes:
            self._control.pause(BY, f"the PLC has been silent for {self._settings.plc_timeout_s:g} s")
        self._tell()

    # --- wishes of the PLC

    def _trigger(self) -> None:
        words = self._holdings[1 : 1 + PART_ID_REGISTERS]
        part_id = part_id_of(words, self._settings.part_id, self._settings.word_order)
        cameras = self._triggered()
        try:
            trigger = self._control.trigger(BY, self._settings.camera, part_id)
        except ControlError as exc:
            self._handshake.missed(one_line(exc))
            return
        self._handshake.accepted(trigger.trigger_id, cameras, part_id, monotonic())

    def _pause(self) -> None:
        self._control.pause(BY, "set offline by the PLC")

    def _arm(self) -> None:
        try:
            self._control.arm(BY)
        except ControlError as exc:
            self._handshake.fail(Trouble.NOT_ARMED, one_line(exc))

    # --- around

    def _triggered(self) -> list[str]:
        """Cameras that a trigger of ours is for, those that have ended too: each has a say in the verdict."""
        names, one = self._control.triggered_cameras, self._settings.camera
        return [name for name in names if one in (None, name)]

    def _around(self) -> Around:
        cameras, takers = self._triggered(), self._control.takes_triggers
        silent = tuple(name for name in cameras if name not in takers)
        return Around(self._control.is_armed, silent != tuple(cameras), self._has_fault, silent)

    def _tell(self, defect_class: str | None = None) -> None:
        """What a person should hear of, outside the lock."""
        with self._lock:
            news = self._handshake.take_news()
        for trouble, why in news:
            self._notify(f"modbus: {_TOLD[trouble].format(self._settings, why=why)}")
        if defect_class not in (None, UNKNOWN, *self._settings.class_codes, *self._without_code):
            self._without_code.add(str(defect_class))
            self._notify(f"modbus: class {defect_class!r} has no code in class_codes; the PLC reads {OTHER_CLASS}")


_TOLD = {
    Trouble.STALLED: "no round of the loop for {0.stall_after_s:g} s; the PLC sees a fault, and parts under way get no "
    "verdict (where one inspection takes so long, set stall_after_s higher)",
    Trouble.PLC_SILENT: "the PLC has been silent for {0.plc_timeout_s:g} s; the station is paused",
    Trouble.MISSED: "the PLC triggered while the station was not ready ({why}); that part gets no verdict (told once "
    "until the PLC clears errors)",
    Trouble.OVERRUN: "a part found no room: triggers came too fast, or results were not acknowledged (told once until "
    "the PLC clears errors)",
    Trouble.UNANSWERED: "a trigger had no record of {why} after {0.answer_within_s:g} s; the PLC gets no_verdict",
    Trouble.NOT_ARMED: "the PLC set the station online; {why}",
}


def check_installed() -> None:
    """UsageError without pymodbus."""
    from importlib.util import find_spec

    if find_spec("pymodbus") is None:
        raise UsageError("modbus needs pymodbus, which is not installed; pip install 'oddkind[modbus]'")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
