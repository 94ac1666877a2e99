"""A PLC as an integrator would program one: a pymodbus client that scans, with the addresses of docs/modbus.md.

Each scan reads every input register in one request and writes the command word when it changed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from types import TracebackType

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

TRIGGER_ENABLE, TRIGGER, RESULTS_ACK, SET_OFFLINE, SET_ONLINE, CLEAR_ERROR, HEARTBEAT = (1 << bit for bit in range(7))
GOOD, DEFECT, NO_VERDICT = 1, 2, 3


class PlcTimeout(Exception):
    """A step of the handshake took too long."""


@dataclass(frozen=True)
class Inputs:
    """One scan's picture of the station."""

    registers: Sequence[int]

    def bit(self, number: int) -> bool:
        return bool(self.registers[0] >> number & 1)

    def float32(self, address: int) -> float:
        return float(struct.unpack(">f", struct.pack(">HH", *self.registers[address : address + 2]))[0])

    def uint32(self, address: int) -> int:
        return self.registers[address] << 16 | self.registers[address + 1]

    def text(self, address: int, count: int) -> str:
        return struct.pack(f">{count}H", *self.registers[address : address + count]).rstrip(b"\0").decode()

    online = property(lambda self: self.bit(0))
    trigger_ready = property(lambda self: self.bit(1))
    trigger_ack = property(lambda self: self.bit(2))
    missed_acquisition = property(lambda self: self.bit(3))
    system_busy = property(lambda self: self.bit(4))
    results_valid = property(lambda self: self.bit(5))
    results_overrun = property(lambda self: self.bit(6))
    passed = property(lambda self: self.bit(7))
    fail = property(lambda self: self.bit(8))
    unknown = property(lambda self: self.bit(9))
    no_verdict = property(lambda self: self.bit(10))
    heartbeat = property(lambda self: self.bit(11))
    fault = property(lambda self: self.bit(12))
    error = property(lambda self: self.bit(13))
    acquisition_id = property(lambda self: self.registers[1])
    result_acquisition_id = property(lambda self: self.registers[2])
    result_number = property(lambda self: self.registers[3])
    verdict = property(lambda self: self.registers[4])
    class_code = property(lambda self: self.registers[5])
    anomaly_score = property(lambda self: self.float32(6))
    threshold = property(lambda self: self.float32(8))
    age_ms = property(lambda self: self.registers[10])
    latency_ms = property(lambda self: self.registers[11])
    results_waiting = property(lambda self: self.registers[12])
    error_code = property(lambda self: self.registers[13])
    heartbeat_count = property(lambda self: self.registers[14])
    missed_count = property(lambda self: self.registers[15])
    overrun_count = property(lambda self: self.registers[16])
    void_count = property(lambda self: self.registers[17])
    part_id = property(lambda self: self.text(40, 16))
    result_id = property(lambda self: self.text(56, 18))

    def check(self) -> None:
        """What must hold at every moment, whatever happens."""
        assert self.passed + self.fail + self.no_verdict == 1
        assert self.passed == (self.verdict == GOOD)
        assert not self.passed or (self.results_valid and self.result_acquisition_id and self.result_id)
        assert not (self.trigger_ready and (self.trigger_ack or not self.online))
        assert bool(self.result_id) == bool(self.results_valid and self.result_acquisition_id and self.result_id)


@dataclass(frozen=True)
class Part:
    """What the PLC knows of one part after its handshake. waited_ms: from the trigger bit to results valid."""

    part_id: str
    acquisition_id: int
    inputs: Inputs
    waited_ms: float


class Plc:
    """One PLC. scan_s: pause between scans. timeout_s: of each step."""

    def __init__(self, port: int, scan_s: float = 0.005, timeout_s: float = 10.0) -> None:
        self._port, self._scan_s, self.timeout_s = port, scan_s, timeout_s
        self.command = 0
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)

    def __enter__(self) -> Plc:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def connect(self) -> None:
        """Try until the station answers; then begin as after power-up: every command 0."""
        deadline_s = monotonic() + self.timeout_s
        while not self.client.connect():
            assert monotonic() < deadline_s, "no station"
            sleep(0.05)
        self.command = 0
        self.write()

    def scan(self) -> Inputs:
        """Read everything in one request."""
        answer = self.client.read_input_registers(0, count=74)
        if answer.isError():
            raise ModbusException(str(answer))
        inputs = Inputs(answer.registers)
        inputs.check()
        return inputs

    def write(self, part_id: str | None = None) -> None:
        """The command word, and in the same request the part id."""
        words = [self.command]
        if part_id is not None:
            words += struct.unpack(">16H", part_id.encode().ljust(32, b"\0"))
        assert not self.client.write_registers(0, words).isError()

    def set(self, bits: int, part_id: str | None = None) -> None:
        """Raise commands."""
        self.command |= bits
        self.write(part_id)

    def clear(self, bits: int) -> None:
        """Lower commands."""
        self.command &= ~bits
        self.write()

    def pulse(self, bit: int) -> None:
        """Up and down."""
        self.set(bit)
        self.clear(bit)

    def until(self, holds: Callable[[Inputs], bool], step: str) -> Inputs:
        """Scan until something holds; PlcTimeout names the step."""
        deadline_s = monotonic() + self.timeout_s
        while True:
            inputs = self.scan()
            if holds(inputs):
                return inputs
            if monotonic() > deadline_s:
                raise PlcTimeout(f"{step}; status {inputs.registers[0]:014b}, error {inputs.error_code}")
            sleep(self._scan_s)

    # --- the handshake

    def trigger(self, part_id: str = "") -> int:
        """Trigger and acknowledgement; the acquisition id."""
        self.until(lambda i: i.trigger_ready, "trigger ready")
        self.set(TRIGGER, part_id)
        inputs = self.until(lambda i: i.trigger_ack or i.missed_acquisition, "trigger ack")
        self.clear(TRIGGER)
        assert inputs.trigger_ack, "missed"
        self.until(lambda i: not i.trigger_ack, "trigger ack falls")
        return int(inputs.acquisition_id)

    def take_result(self) -> Inputs:
        """Wait for a result and acknowledge it."""
        inputs = self.until(lambda i: i.results_valid, "results valid")
        self.acknowledge()
        return inputs

    def acknowledge(self) -> None:
        self.set(RESULTS_ACK)
        self.until(lambda i: not i.results_valid, "results valid falls")
        self.clear(RESULTS_ACK)

    def part(self, part_id: str = "") -> Part:
        """One part from trigger to acknowledged result, as the sequence of docs/modbus.md has it."""
        self.until(lambda i: i.trigger_ready and not i.results_valid, "trigger ready")
        began_s = monotonic()
        self.set(TRIGGER, part_id)
        acked = self.until(lambda i: i.trigger_ack or i.missed_acquisition, "trigger ack")
        assert acked.trigger_ack, "missed"
        self.clear(TRIGGER)
        inputs = self.until(lambda i: i.results_valid or i.fault, "results valid")
        waited_ms = (monotonic() - began_s) * 1e3
        if inputs.results_valid:
            self.acknowledge()
        return Part(part_id, acked.acquisition_id, inputs, waited_ms)

    def drain(self) -> list[Inputs]:
        """After a restart: take whatever waits or is still under way, and use none of it."""
        taken = []
        while True:
            inputs = self.until(lambda i: i.results_valid or not i.system_busy, "drained")
            if not inputs.results_valid:
                return taken
            self.acknowledge()
            taken.append(inputs)
