"""The Modbus output as a PLC meets it: a real server, a real client, a real loop and inspector behind it."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pydantic
import pytest
from conftest import child_environment
from edge_processes import wait_for
from mosquitto import free_port
from output_records import an_inspection
from plc import (
    CLEAR_ERROR,
    DEFECT,
    GOOD,
    HEARTBEAT,
    NO_VERDICT,
    RESULTS_ACK,
    SET_OFFLINE,
    SET_ONLINE,
    TRIGGER,
    TRIGGER_ENABLE,
    Inputs,
    Plc,
)
from plc_station import PlcStation
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from edge.errors import OutputError, UsageError
from edge.inspector import Inspector
from edge.outputs.modbus import ModbusOutput, ModbusSink
from edge.outputs.modbus_map import OTHER_CLASS, UNKNOWN_CLASS
from edge.outputs.modbus_server import MOST_CONNECTIONS
from edge.outputs.station_outputs import Outputs
from edge.result import Inspection, Provenance, Trigger, no_verdict, utc_now
from edge.station.control import Control, Status
from edge.station.file import Station
from edge.station.master_parts import MasterPartEntry, MasterParts, MasterPartSettings
from edge.station.run import run_station

PARTS = 24
CODES = {"good": GOOD, "defect": DEFECT, "no_verdict": NO_VERDICT}


@pytest.fixture(scope="module")
def inspector(bundle_dir: Path) -> Inspector:
    return Inspector.load(bundle_dir)


@pytest.fixture(scope="module")
def pictures(good_dir: Path, defects_dir: Path) -> list[Path]:
    """Good parts and others, mixed."""
    good, bad = sorted(good_dir.rglob("*.png"))[:4], sorted(defects_dir.rglob("*.png"))[:5]
    return [path for pair in zip(good, bad, strict=False) for path in pair]


Stations = Callable[..., PlcStation]


@pytest.fixture
def start(inspector: Inspector, pictures: list[Path]) -> Iterator[Stations]:
    """start(cameras=1, **keys of the output): a running station."""
    with ExitStack() as opened:

        def start(cameras: int = 1, **keys: Any) -> PlcStation:
            # a busy machine must not look like a loop that hangs, unless a test is about that
            output = ModbusOutput(port=free_port(), **{"stall_after_s": 5.0, **keys})
            return opened.enter_context(PlcStation(inspector, pictures, output, cameras))

        yield start


@pytest.fixture
def plc(start: Stations) -> Iterator[tuple[PlcStation, Plc]]:
    station = start()
    with Plc(station.port) as plc:
        plc.set(TRIGGER_ENABLE)
        yield station, plc


@pytest.fixture
def sink(request: pytest.FixtureRequest) -> Iterator[ModbusSink]:
    """Without a loop: tests write the records themselves."""
    keys = getattr(request, "param", {})
    control = Control()
    control.take_triggers("left", lambda asked: None)
    output = ModbusOutput(port=free_port(), stall_after_s=60.0, **keys)
    with output.open(["left", "right"], [].append, control) as opened:
        assert isinstance(opened, ModbusSink)
        opened.came_round(Status("armed"))
        yield opened


def seen(sink: ModbusSink) -> Inputs:
    return Inputs(sink.inputs())


def triggered(trigger_id: int, verdict: str = "good", camera: str = "left", **keys: Any) -> Inspection:
    trigger = Trigger(trigger_id, utc_now(), keys.pop("by", "modbus"))
    provenance = Provenance(camera, trigger_id, utc_now(), trigger=trigger)
    if verdict == "no_verdict":
        return no_verdict(provenance, "0" * 16, 1.0, keys.pop("error", "camera lost"))
    score = 0.5 if verdict == "good" else 2.25
    return Inspection(provenance, "0" * 16, verdict, score, 1.0, **keys)  # type: ignore[arg-type]


def pulse_trigger(sink: ModbusSink, trigger_enable: int = TRIGGER_ENABLE) -> None:
    sink.write_holdings([trigger_enable | TRIGGER, *([0] * 16)])
    sink.write_holdings([trigger_enable, *([0] * 16)])


# --- part after part


def test_every_part_gets_the_verdict_of_its_own_record(plc: tuple[PlcStation, Plc]) -> None:
    station, client = plc
    parts = [client.part(f"part {number}") for number in range(PARTS)]
    records = station.by_trigger()
    assert [part.acquisition_id for part in parts] == list(range(1, PARTS + 1))
    assert {inspection.verdict for inspection in records.values()} == {"good", "defect"}
    for part in parts:
        inspection, inputs = records[part.acquisition_id], part.inputs
        assert (inputs.verdict, inputs.passed) == (CODES[inspection.verdict], inspection.verdict == "good")
        assert inputs.result_acquisition_id == part.acquisition_id
        assert (inputs.result_id, inputs.part_id) == (inspection.result_id, part.part_id)
        assert inspection.provenance.trigger and inspection.provenance.trigger.part_id == part.part_id
        assert inputs.anomaly_score == pytest.approx(inspection.anomaly_score, rel=1e-6)
        assert inputs.threshold == pytest.approx(inspection.image_threshold, rel=1e-6)
        assert inputs.age_ms == round(inspection.age_ms or -1)
        assert inputs.latency_ms >= round(inspection.trigger_ms or 1e9)
    last = client.scan()
    assert (last.uint32(18) + last.uint32(20), last.uint32(22)) == (PARTS, 0)
    assert (last.missed_count, last.overrun_count, last.void_count, last.error_code) == (0, 0, 0, 0)
    assert station.notices == []


def test_two_cameras_give_one_verdict_a_part(start: Stations) -> None:
    station = start(cameras=2)
    with Plc(station.port) as client:
        client.set(TRIGGER_ENABLE)
        parts = [client.part() for _ in range(6)]
    for part in parts:
        both = [i for i in station.kept.inspections if i.provenance.trigger.trigger_id == part.acquisition_id]  # type: ignore[union-attr]
        assert len(both) == 2
        assert part.inputs.passed == all(i.verdict == "good" for i in both)
        assert part.inputs.latency_ms >= round(max(i.trigger_ms or 1e9 for i in both))
    assert {part.inputs.passed for part in parts} == {True, False}


def test_one_camera_of_two_when_the_station_says_so(start: Stations) -> None:
    station = start(cameras=2, camera="second")
    with Plc(station.port) as client:
        client.set(TRIGGER_ENABLE)
        client.part()
    assert [i.provenance.source for i in station.kept.inspections] == ["second"]


def test_a_fast_plc_overruns_the_cameras_queue_and_every_trigger_has_its_result(plc: tuple[PlcStation, Plc]) -> None:
    station, client = plc
    station.kept.hang_s = 1.5  # the first record: the queue fills meanwhile
    ids = [client.trigger() for _ in range(8)]
    results = [client.take_result() for _ in ids]
    assert [result.result_acquisition_id for result in results] == ids
    records = station.by_trigger()
    assert [result.verdict for result in results] == [CODES[records[each].verdict] for each in ids]
    lost = [result for result in results if result.no_verdict]
    assert lost and client.scan().results_overrun
    assert client.scan().overrun_count == len(lost)
    client.pulse(CLEAR_ERROR)
    assert not client.scan().results_overrun
    assert any("a part found no room" in notice for notice in station.notices)


def test_results_that_nobody_acknowledges_are_an_overrun_and_the_ninth_is_not_shown(
    plc: tuple[PlcStation, Plc],
) -> None:
    station, client = plc
    for number in range(9):
        client.trigger()
        client.until(lambda i, number=number: i.uint32(18) + i.uint32(20) == number + 1, "judged")
    assert (client.scan().results_overrun, client.scan().results_waiting) == (True, 8)
    assert [client.take_result().result_acquisition_id for _ in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert client.part().inputs.result_acquisition_id == 10
    assert len(station.kept.inspections) == 10


# --- offline, missed triggers


def test_the_plc_sets_the_station_offline_and_online_and_triggers_meanwhile_are_missed(
    plc: tuple[PlcStation, Plc],
) -> None:
    station, client = plc
    client.until(lambda i: i.online, "online")
    client.set(SET_OFFLINE)
    assert not client.scan().online and not client.scan().trigger_ready
    assert station.control.status.reason == "set offline by the PLC"
    client.pulse(TRIGGER)
    assert (client.scan().missed_acquisition, client.scan().error_code, client.scan().system_busy) == (True, 3, False)
    client.clear(SET_OFFLINE)
    assert not client.scan().online
    client.pulse(SET_ONLINE)
    assert client.scan().trigger_ready
    client.pulse(CLEAR_ERROR)
    assert client.part().inputs.result_acquisition_id == 1
    assert len([notice for notice in station.notices if "not ready (the station is paused)" in notice]) == 1


def test_a_station_that_may_not_be_armed_says_so() -> None:
    control, notices = Control(), list[str]()
    settings = MasterPartSettings(parts=[MasterPartEntry(name="good one", expect="good")])
    MasterParts(settings, ["left"], "0" * 16, control, notices.append)
    notices.clear()
    with ModbusOutput(port=free_port()).open(["left"], notices.append, control) as sink:
        assert isinstance(sink, ModbusSink)
        sink.came_round(Status("paused"))
        sink.write_holdings([SET_ONLINE, *([0] * 16)])
        assert (seen(sink).online, seen(sink).error, seen(sink).error_code) == (False, True, 6)
    (notice,) = notices
    assert notice.startswith("modbus: the PLC set the station online; not armed: ")
    assert "good one" in notice


def test_a_station_without_a_triggered_camera_misses_every_trigger() -> None:
    with ModbusOutput(port=free_port()).open(["left"], print, Control()) as sink:
        assert isinstance(sink, ModbusSink)
        sink.came_round(Status("armed"))
        pulse_trigger(sink)
        assert (seen(sink).trigger_ready, seen(sink).missed_acquisition) == (False, True)


def test_no_trigger_is_taken_while_one_of_its_cameras_has_ended(start: Stations) -> None:
    """What the other one says is half a verdict."""
    station = start(cameras=2)
    with Plc(station.port) as client:
        client.set(TRIGGER_ENABLE)
        client.part()
        station.control.take_triggers("second", None)
        assert not client.scan().trigger_ready
        client.pulse(TRIGGER)
        assert (client.scan().missed_acquisition, client.scan().system_busy) == (True, False)
    assert len(station.kept.inspections) == 2
    (notice,) = station.notices
    assert "not ready (second takes no triggers: not open yet, or ended)" in notice


@pytest.mark.parametrize("sink", [{"answer_within_s": 0.2}], indirect=True)
def test_a_camera_that_ends_while_a_part_is_under_way_leaves_it_without_a_verdict(sink: ModbusSink) -> None:
    sink._control.take_triggers("right", lambda asked: None)
    pulse_trigger(sink)
    sink._control.take_triggers("right", None)
    sink.write(triggered(1, "good", "left"), None)
    assert not seen(sink).results_valid
    sleep(0.25)
    assert (seen(sink).results_valid, seen(sink).no_verdict, seen(sink).passed) == (True, True, False)


def test_a_camera_of_the_station_file_is_waited_for_before_it_first_takes_triggers(
    bundle_dir: Path, good_dir: Path, defects_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by_run: list[Control] = []
    monkeypatch.setattr("edge.station.run.run", lambda *given: seen_by_run.append(given[-1]))
    cameras = [
        {"source": str(good_dir), "name": "left", "trigger": {}},
        {"source": str(defects_dir), "trigger": {}},
        {"source": str(tmp_path), "name": "free", "watch": True},
    ]
    outputs = {"records": {"file": str(tmp_path / "records.jsonl")}}
    run_station(Station.model_validate({"bundle": str(bundle_dir), "cameras": cameras, "outputs": outputs}))
    (control,) = seen_by_run
    assert control.triggered_cameras == ("left", str(defects_dir))
    control.take_triggers("left", lambda asked: None)
    with ModbusOutput(port=free_port()).open(["left", str(defects_dir)], [].append, control) as sink:
        assert isinstance(sink, ModbusSink)
        sink.came_round(Status("armed"))
        pulse_trigger(sink)
        assert (seen(sink).trigger_ready, seen(sink).missed_count) == (False, 1)


# --- a loop that stalls or ends, a PLC that goes


def test_a_loop_that_hangs_is_a_fault_within_its_time_and_no_part_passes(start: Stations) -> None:
    station = start(stall_after_s=1.0)
    with Plc(station.port) as client:
        client.set(TRIGGER_ENABLE)
        while not client.part().inputs.passed:
            pass
        client.until(lambda i: i.trigger_ready, "trigger ready")
        station.kept.hang_s = 2.5
        client.trigger()
        began_s = monotonic()
        stalled = client.until(lambda i: i.fault, "fault")
        assert 0.5 < monotonic() - began_s < 1.5
        assert (stalled.passed, stalled.fail, stalled.results_valid, stalled.verdict) == (False, True, False, DEFECT)
        assert (stalled.error_code, stalled.online, stalled.trigger_ready) == (1, False, False)
        beat, count = stalled.heartbeat, stalled.heartbeat_count
        sleep(0.7)
        assert (client.scan().heartbeat, client.scan().heartbeat_count) == (beat, count)
        back = client.until(lambda i: i.trigger_ready and not i.fault, "recovered")
        assert (back.results_valid, back.void_count, back.error_code) == (False, 1, 1)
        client.pulse(CLEAR_ERROR)
        part = client.part()
        assert part.inputs.result_acquisition_id == part.acquisition_id
    assert any("no round of the loop for 1 s" in notice for notice in station.notices)


def test_a_loop_that_has_ended_is_a_fault_that_stays(start: Stations) -> None:
    station = start(stall_after_s=1.0, fail_safe="no_verdict")
    with Plc(station.port) as client:
        client.until(lambda i: i.online, "online")
        station.end_loop()
        ended = client.until(lambda i: i.fault, "fault")
        assert (ended.online, ended.verdict, ended.no_verdict, ended.fail) == (False, NO_VERDICT, True, False)


def test_a_plc_that_goes_in_mid_handshake_finds_its_result_when_it_comes_back(plc: tuple[PlcStation, Plc]) -> None:
    station, client = plc
    client.until(lambda i: i.trigger_ready, "trigger ready")
    client.set(TRIGGER, "lost part")
    client.client.close()
    wait_for(lambda: station.kept.inspections, timeout_s=10)
    client.connect()
    (waiting,) = client.drain()
    assert (waiting.part_id, waiting.result_acquisition_id) == ("lost part", 1)
    assert not client.scan().trigger_ack
    client.set(TRIGGER_ENABLE)
    assert client.part().inputs.result_acquisition_id == 2


def test_a_silent_plc_pauses_the_station_until_it_comes_back(start: Stations) -> None:
    station = start(plc_timeout_s=0.5)
    with Plc(station.port) as client:
        for _ in range(8):
            client.command ^= HEARTBEAT
            client.write()
            sleep(0.1)
        assert client.scan().online
        wait_for(lambda: not station.control.is_armed, timeout_s=3)
        assert station.control.status.reason == "the PLC has been silent for 0.5 s"
        silent = client.scan()
        assert (silent.fault, silent.error_code, silent.online) == (True, 2, False)
        client.pulse(CLEAR_ERROR)
        client.pulse(SET_ONLINE)
        assert (client.scan().fault, client.scan().online) == (False, True)
    assert len([notice for notice in station.notices if "silent for 0.5 s" in notice]) == 1


def test_a_notice_that_cannot_be_told_does_not_end_the_server() -> None:
    """A station whose stderr is closed, and a stall that the server's own thread tells of."""

    def fail(text: str) -> None:
        raise BrokenPipeError(text)

    output = ModbusOutput(port=free_port(), stall_after_s=0.3)
    with output.open(["left"], fail, Control()) as sink, ModbusTcpClient("127.0.0.1", port=output.port) as client:
        sink.came_round(Status("armed"))
        sleep(0.7)
        for _ in range(2):  # a trigger that is missed is told by the thread that answers
            assert not client.write_register(0, TRIGGER_ENABLE | TRIGGER).isError()
            client.write_register(0, CLEAR_ERROR)
        stalled = Inputs(client.read_input_registers(0, count=74).registers)
        assert (stalled.fault, stalled.missed_count) == (True, 2)


# --- what the registers say


def test_without_a_result_the_registers_show_the_fail_safe_value(sink: ModbusSink) -> None:
    nothing = seen(sink)
    assert (nothing.verdict, nothing.fail, nothing.passed, nothing.results_valid) == (DEFECT, True, False, False)
    assert (nothing.anomaly_score, nothing.threshold, nothing.result_id, nothing.class_code) == (-1.0, -1.0, "", 0)
    assert (nothing.registers[26], nothing.registers[25], nothing.registers[34]) == (DEFECT, 0, 1)


@pytest.mark.parametrize("sink", [{"class_codes": {"scratch": 7}}], indirect=True)
def test_classes_have_the_codes_of_the_station_file(sink: ModbusSink) -> None:
    shown = []
    for trigger_id, name in enumerate(("scratch", "unknown", "dent", None), start=1):
        pulse_trigger(sink)
        sink.write(triggered(trigger_id, "defect", defect_class=name), None)
        shown.append((seen(sink).class_code, seen(sink).unknown))
        sink.write_holdings([TRIGGER_ENABLE | RESULTS_ACK, *([0] * 16)])
    assert shown == [(7, False), (UNKNOWN_CLASS, True), (OTHER_CLASS, False), (0, False)]


def test_a_good_part_has_no_class_even_when_its_regions_have_one(sink: ModbusSink) -> None:
    pulse_trigger(sink)
    sink.write(triggered(1, "good", defect_class="unknown"), None)
    assert (seen(sink).passed, seen(sink).unknown, seen(sink).class_code) == (True, False, 0)


def test_a_record_without_a_verdict_is_never_a_pass(sink: ModbusSink) -> None:
    pulse_trigger(sink)
    sink.write(triggered(1, "no_verdict", error="overrun: 4 triggers waited"), None)
    shown = seen(sink)
    assert (shown.results_valid, shown.no_verdict, shown.passed, shown.results_overrun) == (True, True, False, True)
    assert (shown.anomaly_score, shown.threshold) == (-1.0, -1.0)


@pytest.mark.parametrize(("after_s", "verdict"), [(0.4, GOOD), (0.6, NO_VERDICT)])
def test_a_good_record_that_comes_after_its_deadline_is_none(sink: ModbusSink, after_s: float, verdict: int) -> None:
    """The loop judged it in time; what was written before this output took the rest."""
    pulse_trigger(sink)
    asked_at_s = monotonic() - after_s
    moments = {"asked_at_s": asked_at_s, "deadline_at_s": asked_at_s + 0.5}
    sink.write(triggered(1, "good", trigger_ms=20.0, **moments), None)
    shown = seen(sink)
    assert (shown.verdict, shown.passed, shown.registers[26]) == (verdict, verdict == GOOD, verdict)
    assert after_s * 1e3 <= shown.latency_ms < after_s * 1e3 + 90


def test_a_part_waits_for_no_file(tmp_path: Path) -> None:
    """Whatever stands first in the station file."""
    given = {"records": {"file": str(tmp_path / "records.jsonl")}, "modbus": {"port": free_port()}}
    sinks = list(Outputs.model_validate(given).open(["left"], [].append, Control()))
    for sink in sinks:
        sink.close()
    assert isinstance(sinks[0], ModbusSink)


def test_cameras_that_run_freely_show_in_the_latest_registers_alone(sink: ModbusSink) -> None:
    pulse_trigger(sink)
    sink.write(an_inspection(0, "good", "right"), None)
    shown = seen(sink)
    assert (shown.results_valid, shown.passed, shown.system_busy) == (False, False, True)
    assert (shown.registers[24], shown.registers[25], shown.registers[26]) == (1, 2, GOOD)
    assert (shown.float32(28), shown.float32(30), shown.uint32(18)) == (0.5, 1.0, 1)
    sleep(0.05)
    assert seen(sink).uint32(32) >= 50  # its age grows
    sink._control.pause("test")
    assert (seen(sink).registers[26], seen(sink).registers[25]) == (DEFECT, 0)


@pytest.mark.parametrize("sink", [{"results_of": "all", "camera": "left"}], indirect=True)
def test_results_of_a_sensor_are_for_the_plc_when_the_station_says_so(sink: ModbusSink) -> None:
    trigger = sink._control.trigger("gpio", "left")
    for camera in ("right", "left"):  # only one of them is for the PLC
        sink.write(triggered(trigger.trigger_id, "good", camera, by="gpio"), None)
    shown = seen(sink)
    assert (shown.passed, shown.result_acquisition_id, shown.results_waiting) == (True, 1, 1)


@pytest.mark.parametrize("sink", [{"word_order": "little", "part_id": "number"}], indirect=True)
def test_the_other_word_order_and_part_ids_that_are_numbers(sink: ModbusSink) -> None:
    asked = []
    sink._control.take_triggers("left", asked.append)
    sink.write_holdings([TRIGGER_ENABLE | TRIGGER, 0x5678, 0x1234, *([0] * 14)])
    assert asked[0].trigger.part_id == str(0x12345678)
    sink.write(triggered(1, "defect"), None)
    low, high = seen(sink).registers[6:8]
    assert struct.unpack(">f", struct.pack(">HH", high, low)) == (2.25,)


def test_a_part_id_of_noise_is_text_all_the_same(sink: ModbusSink) -> None:
    asked = []
    sink._control.take_triggers("left", asked.append)
    sink.write_holdings([TRIGGER_ENABLE | TRIGGER, 0x41FF, 0x0742, 0, *([0x4343] * 13)])
    assert asked[0].trigger.part_id == "A??B"
    asked[0].trigger.part_id.encode()


def test_values_too_large_for_a_register_are_shown_as_the_largest(sink: ModbusSink) -> None:
    pulse_trigger(sink)
    sink.write(triggered(1, "defect", age_ms=1e9, trigger_ms=70_000.4), None)
    assert (seen(sink).age_ms, seen(sink).latency_ms) == (0xFFFF, 0xFFFF)


# --- how it is addressed


def test_coils_and_bits_and_registers_and_their_mirror_say_the_same(plc: tuple[PlcStation, Plc]) -> None:
    _, client = plc
    client.until(lambda i: i.trigger_ready, "trigger ready")
    raw = client.client
    assert raw.read_coils(0, count=7).bits[:7] == [True] + [False] * 6
    bits = raw.read_discrete_inputs(0, count=16).bits
    assert sum(bit << number for number, bit in enumerate(bits)) & 0x7FF == client.scan().registers[0] & 0x7FF
    raw.write_coil(1, True)
    assert raw.read_holding_registers(0, count=1).registers == [TRIGGER_ENABLE | TRIGGER]
    raw.write_coils(1, [False, False])
    result = client.until(lambda i: i.results_valid, "results valid")
    mirrored = Inputs(raw.read_holding_registers(100, count=74).registers)
    assert (mirrored.result_id, mirrored.verdict) == (result.result_id, result.verdict)
    both = raw.readwrite_registers(read_address=100, read_count=74, address=0, values=[TRIGGER_ENABLE | RESULTS_ACK])
    assert not Inputs(both.registers).results_valid
    raw.mask_write_register(address=0, and_mask=~RESULTS_ACK & 0xFFFF, or_mask=0)
    assert raw.read_coils(0, count=7).bits[:7] == [True] + [False] * 6


def test_reading_back_commands_is_not_reading_the_result(sink: ModbusSink) -> None:
    pulse_trigger(sink)
    sink.write(triggered(1, "defect"), None)
    with ModbusTcpClient("127.0.0.1", port=sink._settings.port) as client:
        assert client.read_holding_registers(0, count=17).registers == [TRIGGER_ENABLE, *([0] * 16)]
        client.write_register(0, TRIGGER_ENABLE | RESULTS_ACK)
        client.write_register(0, TRIGGER_ENABLE)
        assert Inputs(client.read_holding_registers(100, count=74).registers).results_waiting == 1
        client.write_register(0, TRIGGER_ENABLE | RESULTS_ACK)
        assert Inputs(client.read_input_registers(0, count=74).registers).results_waiting == 0


def test_what_is_not_in_the_map_is_refused(plc: tuple[PlcStation, Plc]) -> None:
    _, client = plc
    raw = client.client
    for answer in (
        raw.write_register(100, 1),
        raw.write_register(17, 1),
        raw.read_input_registers(74, count=1),
        raw.read_holding_registers(50, count=1),
        raw.write_coil(16, True),
        raw.read_discrete_inputs(16, count=1),
    ):
        assert (answer.isError(), answer.exception_code) == (True, 2)


def test_a_request_never_sees_a_half_of_two_results(sink: ModbusSink) -> None:
    """Records alternate; whoever reads meanwhile sees one of them whole, or none."""
    ended, wrong, whole = threading.Event(), list[object](), set[int]()
    expected = {GOOD: (0.5, 1.0), DEFECT: (-1.0, -1.0)}

    def read() -> None:
        with ModbusTcpClient("127.0.0.1", port=sink._settings.port) as client:
            while not ended.is_set():
                i = Inputs(client.read_input_registers(0, count=74).registers)
                i.check()
                if i.results_valid and (i.result_number & 1, i.verdict) not in ((1, GOOD), (0, DEFECT)):
                    wrong.append(i)
                if i.results_valid and i.verdict == GOOD and (i.anomaly_score, i.threshold) != expected[GOOD]:
                    wrong.append(i)
                whole.add(i.verdict if i.results_valid else 0)

    reader = threading.Thread(target=read)
    reader.start()
    for trigger_id in range(1, 600):
        pulse_trigger(sink)
        sink.write(triggered(trigger_id, "good" if trigger_id % 2 else "defect"), None)
        sleep(0.0005)
        seen(sink)  # what nobody has read cannot be acknowledged
        sink.write_holdings([TRIGGER_ENABLE | RESULTS_ACK, *([0] * 16)])
        sink.write_holdings([TRIGGER_ENABLE, *([0] * 16)])
    ended.set()
    reader.join()
    assert wrong == []
    assert {GOOD, DEFECT} <= whole  # between them it may never have found none


# --- clients


def test_a_second_client_may_read_and_does_not_disturb(plc: tuple[PlcStation, Plc]) -> None:
    station, client = plc
    with Plc(station.port) as other:  # as it connects it writes commands 0: what a second PLC must not do
        assert client.client.read_coils(0, count=1).bits[0] is False
        client.set(TRIGGER_ENABLE)
        for number in range(3):
            assert client.part(f"part {number}").inputs.part_id == f"part {number}"
            assert other.scan().registers[18:24] == client.scan().registers[18:24]


@pytest.mark.parametrize(
    "noise",
    [
        b"\0\xff" * 40,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\1\0\0\xff\xff\1\3",
        b"\0\1\0\0\0\2\1\x99",
        b"\0\1\0\0\0\6\1\3\0\0\0\0" * 50,
        b"\0\1\0\0\0\0" * 50 + b"\0\1\0\0\0\1\1",
        b"A" * 70_000,
        bytes(range(256)) * 8,
    ],
    ids=["noise", "http", "long", "no such function", "nothing", "too short", "much", "every byte"],
)
def test_garbage_on_the_port_disturbs_nobody(
    plc: tuple[PlcStation, Plc], noise: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    station, client = plc
    with socket.create_connection(("127.0.0.1", station.port), timeout=5) as other:
        other.sendall(noise)
        part = client.part("through noise")
    assert part.inputs.part_id == "through noise"
    assert client.scan().missed_count == 0
    assert capfd.readouterr() == ("", "")
    assert station.notices == []


def test_a_request_in_pieces_is_one_request(plc: tuple[PlcStation, Plc]) -> None:
    station, _ = plc
    request = bytes.fromhex("000100000006010400220001")
    with socket.create_connection(("127.0.0.1", station.port), timeout=5) as client:
        for byte in request:
            client.sendall(bytes([byte]))
            sleep(0.005)
        assert client.recv(100) == bytes.fromhex("0001000000050104020001")


def test_requests_that_are_sent_before_the_answer_are_answered_in_order(plc: tuple[PlcStation, Plc]) -> None:
    """A trigger among them is taken like any other."""
    station, client = plc
    client.until(lambda i: i.trigger_ready, "trigger ready")
    reads = [bytes.fromhex(f"{number:04x}00000006010400220001") for number in range(8)]
    trigger = bytes.fromhex("00ff00000006010600000003")
    with socket.create_connection(("127.0.0.1", station.port), timeout=5) as other:
        other.sendall(b"".join([*reads[:4], trigger, *reads[4:]]))
        content = b""
        while len(content) < 8 * 11 + 12:
            content += other.recv(1000)
    answers = [bytes.fromhex(f"{number:04x}000000050104020001") for number in range(8)]
    assert content == b"".join([*answers[:4], trigger, *answers[4:]])
    client.until(lambda i: i.results_valid, "results valid")


def test_a_client_that_sends_no_modbus_is_cut_off(plc: tuple[PlcStation, Plc]) -> None:
    station, _ = plc
    with socket.create_connection(("127.0.0.1", station.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(100) == b""


def test_clients_that_say_nothing_keep_nobody_out(plc: tuple[PlcStation, Plc]) -> None:
    station, client = plc
    with ExitStack() as opened:
        for _ in range(2 * MOST_CONNECTIONS):
            opened.enter_context(socket.create_connection(("127.0.0.1", station.port), timeout=5))
            client.scan()
        assert client.part("still here").inputs.part_id == "still here"
        server = station.sink._server  # type: ignore[attr-defined]
        assert server
        with Plc(station.port) as late:
            late.scan()


def test_only_those_who_are_allowed_are_answered(start: Stations) -> None:
    station = start(allow=["127.0.0.2", "10.0.0.0/8"])
    stranger = ModbusTcpClient("127.0.0.1", port=station.port, timeout=1, retries=0)
    with stranger, pytest.raises((ModbusException, OSError)):
        stranger.read_input_registers(0, count=1)
    with ModbusTcpClient("127.0.0.1", port=station.port, source_address=("127.0.0.2", 0)) as known:
        assert known.read_input_registers(34, count=1).registers == [1]
    assert [notice for notice in station.notices if "127.0.0.1 was refused" in notice]


# --- as an output


def test_a_station_file_and_a_plc_from_end_to_end(tmp_path: Path, bundle_dir: Path, pictures: list[Path]) -> None:
    """`oddkind run --station` on a folder whose next picture comes with each trigger."""
    (tmp_path / "pictures").mkdir()
    for number, path in enumerate(pictures):
        shutil.copy(path, tmp_path / "pictures" / f"{number}.png")
    port, file = free_port(), tmp_path / "station.yaml"
    file.write_text(
        f"bundle: {bundle_dir}\ncameras: [{{source: pictures, name: left, trigger: {{deadline_s: 10}}}}]\n"
        f"outputs: {{records: {{file: r.jsonl}}, modbus: {{port: {port}, stall_after_s: 5}}}}\n"
    )
    command = [sys.executable, "-m", "edge.cli", "run", "--station", str(file)]
    with subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True) as child:
        try:
            with Plc(port, timeout_s=60) as client:
                client.set(TRIGGER_ENABLE)
                parts = [client.part(f"part {number}") for number in range(len(pictures) - 1)]
                client.until(lambda i: i.trigger_ready, "trigger ready")
                client.set(TRIGGER, "the last one")
            said = child.communicate(timeout=60)[1]
        finally:
            child.kill()
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [record["trigger"]["part_id"] for record in records] == [part.part_id for part in parts] + ["the last one"]
    assert {record["trigger"]["by"] for record in records} == {"modbus"}
    for part, record in zip(parts, records, strict=False):
        assert (part.inputs.verdict, part.inputs.result_id) == (CODES[record["verdict"]], record["result_id"])
    assert child.returncode == 0
    assert said.startswith(f"oddkind: {len(pictures)} frames: ")


def test_a_record_costs_the_loop_little_while_plcs_poll(sink: ModbusSink) -> None:
    ended = threading.Event()

    def poll() -> None:
        with ModbusTcpClient("127.0.0.1", port=sink._settings.port) as client:
            while not ended.wait(0.002):
                client.read_input_registers(0, count=74)

    pollers = [threading.Thread(target=poll) for _ in range(2)]
    for poller in pollers:
        poller.start()
    began_s = monotonic()
    for number in range(1000):
        sink.write(an_inspection(number, "good", "left"), None)
    took_s = monotonic() - began_s
    ended.set()
    for poller in pollers:
        poller.join()
    assert took_s / 1000 < 0.002


def test_closed_it_leaves_no_thread_and_the_port_is_free() -> None:
    before, output = threading.active_count(), ModbusOutput(port=free_port())
    for _ in range(2):
        with output.open(["left"], print, Control()) as sink, Plc(output.port) as client:
            client.scan()
            sink.close()
        assert threading.active_count() == before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", output.port))


def test_a_port_that_is_taken_ends_the_run_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"modbus: 127.0.0.1:{port} cannot be listened on .* choose another port"):
            ModbusOutput(port=port).open(["left"], print, Control())


def test_without_pymodbus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'oddkind\[modbus\]'"):
        ModbusOutput(port=free_port()).open(["left"], print, Control())


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no camera is called 'rihgt'; there are: left, right"):
        ModbusOutput(port=free_port(), camera="rihgt").open(["left", "right"], print, Control())


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"host": "0.0.0.0"}, "say which clients may connect"),
        ({"host": "plc-net"}, "say which clients may connect"),
        ({"allow": ["192.168.0.300"]}, "expected addresses or networks such as"),
        ({"allow": ["192.168.0.1/24"]}, "has host bits set"),
        ({"class_codes": {"unknown": 3}}, "'unknown' always has the code 65535"),
        ({"class_codes": {"dent": 65534}}, "less than or equal to 65533"),
        ({"fail_safe": "good"}, "'reject' or 'no_verdict'"),
        ({"stall_after_s": 0.1}, "greater than or equal to 0.3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        ModbusOutput(**keys)


def test_it_says_in_words_what_it_does() -> None:
    assert ModbusOutput().in_words() == "Modbus/TCP at 127.0.0.1:5020, without a verdict: reject"
    output = ModbusOutput(host="::", allow=["fd00::/8"], fail_safe="no_verdict", plc_timeout_s=2)
    said = "Modbus/TCP at [::]:5020, for fd00::/8 alone, without a verdict: no_verdict, paused when the PLC is silent"
    assert output.in_words().startswith(said)
