"""A PLC runs the handshake for 1,000 parts, with stalls, overruns, a PLC that goes away, strangers and noise."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
from conftest import child_environment
from edge_processes import wait_for
from mosquitto import free_port
from plc import CLEAR_ERROR, DEFECT, GOOD, NO_VERDICT, TRIGGER, TRIGGER_ENABLE, Part, Plc, PlcTimeout
from plc_station import PlcStation
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from edge.inspector import Inspector
from edge.outputs.modbus import ModbusOutput

PARTS = 1000
STALL_S = 1.5
CODES = {"good": GOOD, "defect": DEFECT, "no_verdict": NO_VERDICT}


@pytest.fixture(scope="module")
def pictures(good_dir: Path, defects_dir: Path) -> list[Path]:
    good, bad = sorted(good_dir.rglob("*.png")), sorted(defects_dir.rglob("*.png"))
    return [path for pair in zip(good, bad, strict=False) for path in pair]


@contextmanager
def strangers(port: int) -> Iterator[list[int]]:
    """A second client that reads all the time, and one that sends noise; how often the first one was answered."""
    ended, reads, noise = threading.Event(), [0], random.Random(5)

    def read() -> None:
        with ModbusTcpClient("127.0.0.1", port=port) as client:
            while not ended.wait(0.02):
                reads[0] += not client.read_input_registers(0, count=74).isError()

    def disturb() -> None:
        while not ended.wait(0.05):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(noise.randbytes(noise.randrange(1, 600)))

    threads = [threading.Thread(target=read), threading.Thread(target=disturb)]
    for thread in threads:
        thread.start()
    yield reads
    ended.set()
    for thread in threads:
        thread.join()


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def test_a_thousand_parts_get_their_own_verdict_whatever_happens(
    bundle_dir: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    output = ModbusOutput(port=free_port(), stall_after_s=STALL_S)
    faults = {PARTS * n // 40: kind for n, kind in enumerate(["stall", "overrun", "gone", "flood"] * 9, start=3)}
    parts: list[Part] = []
    without: set[int] = set()  # acquisition ids that never had a result
    with PlcStation(Inspector.load(bundle_dir), pictures, output) as station, Plc(station.port) as plc:
        plc.set(TRIGGER_ENABLE)
        with strangers(station.port) as reads:
            for number in range(PARTS):
                if number in faults:
                    without |= INJECT[faults[number]](station, plc)
                parts.append(plc.part(f"part {number}"))
        last = plc.scan()
    records = station.by_trigger()
    for part in parts:
        inspection, inputs = records[part.acquisition_id], part.inputs
        if not inputs.results_valid:  # the machine was so busy that the loop stalled by itself
            assert inputs.fault
            without.add(part.acquisition_id)
            continue
        assert inputs.verdict == CODES[inspection.verdict]
        assert inputs.passed == (inspection.verdict == "good")
        assert (inputs.result_acquisition_id, inputs.result_id) == (part.acquisition_id, inspection.result_id)
        assert inputs.part_id == part.part_id == inspection.provenance.trigger.part_id  # type: ignore[union-attr]
    assert len({part.acquisition_id for part in parts}) == len(parts) == PARTS
    assert set(records) == set(range(1, max(records) + 1))  # every trigger that was acknowledged has its record
    waited = [part.waited_ms for part in parts if part.inputs.results_valid]
    assert len(waited) >= PARTS - 5
    assert last.missed_count == 9  # one in each of the floods
    assert last.overrun_count >= 9
    assert reads[0] > 100
    with capsys.disabled():
        inspected = [records[part.acquisition_id].trigger_ms or 0 for part in parts]
        print(
            f"\n{PARTS} parts, {len(records)} records, {len(without)} without a result (stalls, overruns);"
            f" trigger bit to results valid at the PLC: p50 {percentile(waited, 0.5):.1f} ms,"
            f" p99 {percentile(waited, 0.99):.1f} ms; in the station: p50 {percentile(inspected, 0.5):.1f} ms,"
            f" p99 {percentile(inspected, 0.99):.1f} ms; {reads[0]} reads by a second client"
        )


# --- what is injected; each gives the acquisition ids that it left without a result


def stall(station: PlcStation, plc: Plc) -> set[int]:
    """The loop hangs in the middle of a part."""
    station.kept.hang_s = STALL_S + 1.0
    part = plc.part("stalled")
    assert (part.inputs.results_valid, part.inputs.fault, part.inputs.passed) == (False, True, False)
    before = plc.scan()
    sleep(0.3)
    after = plc.scan()
    assert (before.heartbeat_count, before.heartbeat) == (after.heartbeat_count, after.heartbeat)
    plc.until(lambda i: i.trigger_ready and not i.fault, "recovered")
    assert plc.drain() == []
    plc.pulse(CLEAR_ERROR)
    return {part.acquisition_id}


def overrun(station: PlcStation, plc: Plc) -> set[int]:
    """Nobody acknowledges; the ninth result finds no room."""
    numbers = range(9)
    ids = [_judged(plc) for _ in numbers]
    assert plc.scan().results_overrun
    taken = [plc.take_result() for _ in range(8)]
    assert [inputs.result_acquisition_id for inputs in taken] == ids[:8]
    for inputs in taken:
        assert inputs.verdict == CODES[station.by_trigger()[inputs.result_acquisition_id].verdict]
    plc.pulse(CLEAR_ERROR)
    assert not plc.scan().results_overrun
    return {ids[8]}


def gone(station: PlcStation, plc: Plc) -> set[int]:
    """The PLC loses its connection with the trigger up, and begins anew."""
    plc.until(lambda i: i.trigger_ready, "trigger ready")
    plc.set(TRIGGER, "interrupted")
    plc.client.close()
    sleep(random.Random(len(station.kept.inspections)).random() * 0.1)
    plc.connect()
    (inputs,) = plc.drain()
    assert (inputs.part_id, inputs.result_acquisition_id) == ("interrupted", inputs.acquisition_id)
    plc.set(TRIGGER_ENABLE)
    return set()


def flood(station: PlcStation, plc: Plc) -> set[int]:
    """Eight triggers as fast as they are taken while the loop is busy, and one more, which is missed."""
    station.kept.hang_s = 0.5 * STALL_S
    ids = [plc.trigger() for _ in range(8)]
    if plc.scan().trigger_ready:  # the first ones have been judged already
        plc.clear(TRIGGER_ENABLE)
    plc.pulse(TRIGGER)
    assert plc.scan().missed_acquisition
    plc.set(TRIGGER_ENABLE)
    taken = [plc.take_result() for _ in ids]
    assert [inputs.result_acquisition_id for inputs in taken] == ids
    for inputs in taken:
        assert inputs.verdict == CODES[station.by_trigger()[inputs.result_acquisition_id].verdict]
    assert any(inputs.no_verdict for inputs in taken) == plc.scan().results_overrun
    plc.pulse(CLEAR_ERROR)
    return set()


def _judged(plc: Plc) -> int:
    """A trigger, and the record of it; its result stays where it is."""
    before = plc.scan()
    acquisition_id = plc.trigger()
    plc.until(lambda i: i.uint32(18) + i.uint32(20) > before.uint32(18) + before.uint32(20), "judged")
    return acquisition_id


INJECT = {"stall": stall, "overrun": overrun, "gone": gone, "flood": flood}


# --- a station in a process of its own, killed and frozen


def start(bundle: Path, pictures: Path, records: Path, port: int) -> subprocess.Popen[bytes]:
    program = Path(__file__).resolve().parents[1] / "plc_station.py"
    command = [sys.executable, program, bundle, pictures, records, str(port)]
    return subprocess.Popen(command, env=child_environment())


def verdicts(records: Path) -> dict[str, int]:
    """Of every record, by `result_id`."""
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    return {line["result_id"]: CODES[line["verdict"]] for line in lines}


def test_a_station_that_is_killed_or_frozen_never_shows_a_good_part_that_was_not_judged(
    bundle_dir: Path, good_dir: Path, tmp_path: Path
) -> None:
    port, records = free_port(), tmp_path / "records.jsonl"
    child = start(bundle_dir, good_dir, records, port)
    parts: list[Part] = []
    try:
        plc = Plc(port, timeout_s=30.0)
        plc.connect()
        for _ in range(3):
            plc.set(TRIGGER_ENABLE)
            parts += [plc.part(f"part {number}") for number in range(10)]
            plc.until(lambda i: i.trigger_ready, "trigger ready")
            plc.set(TRIGGER)
            child.kill()
            child.wait()
            with pytest.raises(ModbusException):
                plc.until(lambda i: i.results_valid, "nobody there")
            child = start(bundle_dir, good_dir, records, port)
            plc.connect()
            first = plc.until(lambda i: i.online, "online")
            assert (first.results_valid, first.passed, first.fail, first.acquisition_id) == (False, False, True, 0)
        os.kill(child.pid, signal.SIGSTOP)
        began_s = monotonic()
        with pytest.raises((ModbusException, PlcTimeout)):
            plc.scan()
        assert monotonic() - began_s < 5
        os.kill(child.pid, signal.SIGCONT)
        plc.connect()
        plc.pulse(CLEAR_ERROR)
        plc.set(TRIGGER_ENABLE)
        parts.append(plc.part("after the frost"))
    finally:
        child.kill()
        child.wait()
    wait_for(records.exists)
    judged = verdicts(records)
    assert len(parts) == 31
    assert [part.inputs.verdict for part in parts] == [judged[part.inputs.result_id] for part in parts]
