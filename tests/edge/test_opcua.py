"""The OPC UA server, seen by a real client: results in order, states, methods, and who is let in."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import pydantic
import pytest
from asyncua import ua
from mosquitto import free_port
from opcua_client import Visitor, until, visit
from output_records import FRAME_BGR, an_inspection
from tls_files import make_certificate

from edge.errors import OutputError, UsageError
from edge.notify import Notify
from edge.outputs import opcua_space as space
from edge.outputs.opcua import OpcuaOutput, OpcuaSink
from edge.result import Trigger
from edge.station.control import Asked, Control

ROOT = Path(__file__).resolve().parents[2]
LEFT = f"{space.RESULTS}.left"
STATE, AUTOMATIC_STATE = f"{space.MACHINE}.CurrentState", f"{space.AUTOMATIC}.CurrentState"
VERDICTS = ("good", "defect", "no_verdict")


class Line:
    """A sink, its control, and a loop that comes round until it is told to stall."""

    def __init__(self, settings: OpcuaOutput, notify: Notify) -> None:
        self.control, self.settings, self.triggers = Control(), settings, list[Asked]()
        self.sink = settings.open(["left", "right.2"], notify, self.control)
        self.is_stalled, self._is_over = True, threading.Event()
        self._thread = threading.Thread(target=self._rounds, daemon=True)
        self._thread.start()

    def visit(self, what: Callable[[Visitor], Any], **login: Any) -> Any:
        return visit(self.settings.endpoint.replace("0.0.0.0", "127.0.0.1"), what, **login)

    def waits_for_triggers(self) -> None:
        self.control.take_triggers("left", self.triggers.append)

    def write(self, frame_id: int, verdict: str = "good", trigger: Trigger | None = None) -> str:
        made = an_inspection(frame_id, verdict, "left")
        made = replace(made, provenance=replace(made.provenance, trigger=trigger))
        self.sink.write(made, FRAME_BGR)
        return made.result_id

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self.sink.close()

    def _rounds(self) -> None:
        while not self._is_over.wait(0.05):
            if not self.is_stalled:
                self.sink.came_round(self.control.status)


@contextmanager
def a_line(notify: Notify = print, **settings: Any) -> Iterator[Line]:
    line = Line(OpcuaOutput(port=free_port(), **settings), notify)
    line.is_stalled = False
    try:
        yield line
    finally:
        line.close()


@pytest.fixture
def line() -> Iterator[Line]:
    with a_line(stall_after_s=0.5) as opened:
        yield opened


async def state_is(visitor: Visitor, expected: str, automatic: str | None = None) -> None:
    async def is_so() -> bool:
        state, (inner, status) = (await visitor.read(STATE))[0], await visitor.read(AUTOMATIC_STATE)
        return (state, inner) == (expected, automatic) and (automatic is None) == (status == "BadStateNotActive")

    await until(is_so)


# --- results


@pytest.mark.parametrize("emitter", [None, f"{space.SYSTEM}.ResultManagement"])
def test_a_subscription_sees_every_result_of_200_parts_in_order(line: Line, emitter: str | None) -> None:
    async def look(visitor: Visitor) -> tuple[list[str], list[Any]]:
        await visitor.subscribe_to_results(emitter)
        ids = []
        for number in range(200):
            ids.append(line.write(number, VERDICTS[number % 3]))
            await asyncio.sleep(0.002)
        await until(lambda: _now(len(visitor.events) >= 200))
        return ids, visitor.events

    ids, events = line.visit(look)
    assert [event.ResultId for event in events] == ids
    assert [event.Verdict for event in events] == [VERDICTS[number % 3] for number in range(200)]
    assert [json.loads(event.ResultContent[0])["result_id"] for event in events] == ids
    good, defect, none = events[:3]
    assert (good.IsGood, good.ResultState, good.Severity, good.SourceName) == (True, space.COMPLETED, 100, "left")
    assert (defect.IsGood, defect.DefectClass, defect.Severity) == (False, "scratch", 500)
    assert (none.IsGood, none.ResultState, none.AnomalyScore) == (False, space.FAILED, None)
    assert good.InternalRecipeId == "0" * 16 and good.JobId and good.CreationTime.tzinfo


async def _now(value: bool) -> bool:
    return value


def test_variables_show_the_latest_result_and_counters(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        assert (await visitor.read(f"{LEFT}.Verdict"))[1] == "BadWaitingForInitialData"
        for number, verdict in enumerate(("good", "no_verdict", "defect")):
            line.write(number, verdict)
        await until(lambda: _is(visitor, f"{LEFT}.Verdict", "defect"))
        assert await visitor.read(f"{LEFT}.DefectClass") == ("scratch", "Good")
        assert await visitor.read(f"{LEFT}.AnomalyScore") == (2.25, "Good")
        assert await visitor.read(f"{LEFT}.ImageThreshold") == (1.0, "Good")
        assert await visitor.read(f"{LEFT}.IsGood") == (False, "Good")
        counts = [(await visitor.read(f"{LEFT}.{name}"))[0] for name in space.COUNTERS.values()]
        assert counts == [1, 1, 1]
        line.write(3, "no_verdict")
        await until(lambda: _is(visitor, f"{LEFT}.Verdict", "no_verdict"))
        assert await visitor.read(f"{LEFT}.AnomalyScore") == (None, "BadNoData")
        assert (await visitor.read(f"{space.RESULTS}.right.2.Verdict"))[1] == "BadWaitingForInitialData"

    line.visit(look)


async def _is(visitor: Visitor, path: str, value: object) -> bool:
    return (await visitor.read(path))[0] == value


def test_a_result_that_cannot_be_shown_is_told_once_and_the_next_one_is_shown() -> None:
    told: list[str] = []
    with a_line(told.append) as line:
        for number in range(3):
            line.sink.write(an_inspection(number, "good", "unheard of"), None)
            sleep(0.15)
        line.write(3)

        async def look(visitor: Visitor) -> None:
            await until(lambda: _is(visitor, f"{LEFT}.Verdict", "good"))
            assert await visitor.read(f"{space.SYSTEM}.LostResults") == (3, "Good")

        line.visit(look)
    assert len(told) == 1 and "OPC UA does not show every result" in told[0]


def test_a_record_costs_the_loop_little_while_a_client_listens(line: Line) -> None:
    costs_ms: list[float] = []

    async def look(visitor: Visitor) -> None:
        await visitor.subscribe_to_results()
        for number in range(200):
            started_s = perf_counter()
            line.write(number)
            costs_ms.append((perf_counter() - started_s) * 1e3)
            await asyncio.sleep(0.005)

    line.visit(look)
    assert sorted(costs_ms)[100] < 0.5


# --- states


def test_a_station_goes_from_preoperational_to_operational_and_says_when() -> None:
    line = Line(OpcuaOutput(port=free_port()), print)

    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Preoperational")
        assert await visitor.read(f"{space.SYSTEM}.Reason") == ("the station starts", "Good")
        await visitor.subscribe_to(STATE)
        line.is_stalled = False
        await state_is(visitor, "Operational", "ContinuousExecution")
        assert (await visitor.read(f"{space.MACHINE}.LastTransition"))[0] == "PreoperationalToOperational"
        assert await visitor.read(f"{STATE}.Number") == (4, "Good")
        assert await visitor.read(f"{AUTOMATIC_STATE}.Number") == (8, "Good")
        await until(lambda: _now(len(visitor.changes) >= 2))
        assert [value for _, value in visitor.changes] == ["Preoperational", "Operational"]

    try:
        line.visit(look)
    finally:
        line.close()


def test_pause_and_fault_are_seen_with_their_reason(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Operational", "ContinuousExecution")
        line.control.pause("page")
        await state_is(visitor, "Preoperational")
        assert (await visitor.read(f"{space.SYSTEM}.Reason"))[0] == "paused by page"
        line.control.arm("page")
        line.control.set_trouble("left", "camera lost")
        await state_is(visitor, "Error")
        assert (await visitor.read(f"{space.SYSTEM}.Reason"))[0] == "left: camera lost"
        line.control.set_trouble("left", None)
        await state_is(visitor, "Operational", "ContinuousExecution")

    line.visit(look)


def test_a_loop_that_stalls_is_an_error_and_no_value_is_good_any_more(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Operational", "ContinuousExecution")
        line.write(0)
        await until(lambda: _is(visitor, f"{LEFT}.IsGood", True))
        line.is_stalled = True
        await state_is(visitor, "Error")
        beat = await visitor.read(f"{space.SYSTEM}.Heartbeat")
        assert await visitor.read(f"{LEFT}.IsGood") == (False, "UncertainLastUsableValue")
        assert await visitor.read(f"{LEFT}.Verdict") == ("good", "UncertainLastUsableValue")
        assert await visitor.read(f"{LEFT}.GoodCount") == (1, "UncertainLastUsableValue")
        assert "not come round for 0.5 s" in (await visitor.read(f"{space.SYSTEM}.Reason"))[0]
        await asyncio.sleep(0.3)
        assert await visitor.read(f"{space.SYSTEM}.Heartbeat") == beat
        line.is_stalled = False
        await state_is(visitor, "Operational", "ContinuousExecution")
        assert await visitor.read(f"{LEFT}.IsGood") == (True, "Good")
        await until(lambda: _beats(visitor, beat[0]))

    line.visit(look)


async def _beats(visitor: Visitor, before: int) -> bool:
    return (await visitor.read(f"{space.SYSTEM}.Heartbeat"))[0] > before


# --- methods


async def refused(visitor: Visitor, path: str, *arguments: Any) -> tuple[str, str]:
    """Name of the status, and what LastRefusal says."""
    with pytest.raises(ua.UaStatusCodeError) as refusal:
        await visitor.call(path, *arguments)
    return ua.StatusCode(refusal.value.code).name, (await visitor.read(f"{space.SYSTEM}.LastRefusal"))[0]


def test_halt_reset_and_select_mode_pause_and_arm_the_station(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Operational", "ContinuousExecution")
        await visitor.call(f"{space.MACHINE}.Halt")
        await state_is(visitor, "Halted")
        assert line.control.status.reason == "halted by an OPC UA client"
        refusal = await refused(visitor, f"{space.MACHINE}.SelectModeAutomatic")
        assert refusal == ("BadInvalidState", "the station is halted; call Reset first")
        await visitor.call(f"{space.MACHINE}.Reset")
        await state_is(visitor, "Preoperational")
        assert not line.control.is_armed
        assert await visitor.call(f"{space.MACHINE}.SelectModeAutomatic") == 0
        await state_is(visitor, "Operational", "ContinuousExecution")
        assert line.control.is_armed

    line.visit(look)


def test_stop_and_start_continuous_are_for_stations_with_a_pace_of_their_own(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Operational", "ContinuousExecution")
        await visitor.call(f"{space.AUTOMATIC}.Stop")
        await state_is(visitor, "Operational", "Ready")
        assert not line.control.is_armed
        assert (await refused(visitor, f"{space.AUTOMATIC}.Stop"))[0] == "BadInvalidState"
        assert await visitor.call(f"{space.AUTOMATIC}.StartContinuous") == 0
        await state_is(visitor, "Operational", "ContinuousExecution")
        status, why = await refused(visitor, f"{space.AUTOMATIC}.StartSingleJob", "", "", "", "", [])
        assert status == "BadInvalidState" and "no camera of this station waits for triggers" in why
        line.waits_for_triggers()
        await state_is(visitor, "Operational", "Ready")
        status, why = await refused(visitor, f"{space.AUTOMATIC}.Stop")
        assert status == "BadInvalidState" and "waits for triggers" in why
        assert (await refused(visitor, f"{space.AUTOMATIC}.StartContinuous"))[0] == "BadInvalidState"

    line.visit(look)


def test_a_single_job_is_a_trigger_and_its_result_carries_its_numbers(line: Line) -> None:
    line.waits_for_triggers()

    async def look(visitor: Visitor) -> None:
        await state_is(visitor, "Operational", "Ready")
        await visitor.subscribe_to_results()
        start = f"{space.AUTOMATIC}.StartSingleJob"
        job_id, error = await visitor.call(start, "meas 7", "part 9", "", "", _strings("left"))
        assert error == 0
        (asked,) = line.triggers
        assert (asked.trigger.by, asked.trigger.part_id) == ("opcua", "part 9")
        await state_is(visitor, "Operational", "SingleExecution")
        line.write(0, "defect", asked.trigger)
        await state_is(visitor, "Operational", "Ready")
        await until(lambda: _now(len(visitor.events) == 1))
        (event,) = visitor.events
        assert (event.JobId, event.MeasId, event.PartId) == (job_id, "meas 7", "part 9")
        other, _ = await visitor.call(start, "", "", "", "", _strings())
        assert other != job_id

    line.visit(look)


def _strings(*texts: str) -> ua.Variant:
    return ua.Variant(list(texts), ua.VariantType.String, is_array=True)


def test_what_a_job_cannot_honour_is_refused_with_a_reason(line: Line) -> None:
    line.waits_for_triggers()
    start = f"{space.AUTOMATIC}.StartSingleJob"

    async def look(visitor: Visitor) -> None:
        status, why = await refused(visitor, start, "", "", "recipe", "", _strings())
        assert status == "BadInvalidArgument" and "its only recipe" in why
        assert (await refused(visitor, start, "", "", "", "", _strings("a", "b")))[0] == "BadInvalidArgument"
        assert (await refused(visitor, start, "", ""))[0] == "BadInvalidArgument"
        status, why = await refused(visitor, start, "", "", "", "", _strings("middle"))
        assert status == "BadInvalidState" and "no triggered camera is called 'middle'" in why
        line.control.pause("page")
        status, why = await refused(visitor, start, "", "", "", "", _strings())
        assert status == "BadInvalidState" and "paused by page" in why
        line.control.require(lambda: "show the master parts first")
        status, why = await refused(visitor, f"{space.MACHINE}.SelectModeAutomatic")
        assert (status, why) == ("BadInvalidState", "not armed: show the master parts first")
        assert line.triggers == []

    line.visit(look)


def test_no_client_can_write_a_value_or_add_a_node(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        with pytest.raises(ua.UaStatusCodeError):
            await (await visitor.node(f"{space.SYSTEM}.Reason")).write_value("all is well")
        with pytest.raises(ua.UaStatusCodeError):
            await (await visitor.node(space.SYSTEM)).add_variable(2, "Mine", 1)

    line.visit(look)
    line.visit(look, username="admin", password="")  # asyncua's own default would make this one an administrator


# --- who is let in


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """RSA certificates, which Basic256Sha256 needs: of the server, of a client we know, and of a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: rsa_certificate(folder, name) for name in ("server", "known", "stranger")}


def rsa_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key, PEM, as an OPC UA application has them."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=URI:urn:test:{name},IP:127.0.0.1"]
    command += ["-addext", "keyUsage=digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


def encrypted(keys: dict[str, tuple[Path, Path]], name: str) -> str:
    """As asyncua writes it."""
    certificate, key = keys[name]
    return f"Basic256Sha256,SignAndEncrypt,{certificate},{key}"


async def hello(visitor: Visitor) -> str:
    return (await visitor.read(STATE))[0]


@pytest.fixture
def open_to_all(keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> Iterator[Line]:
    """A station that listens everywhere, with a user and a known client."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "known.pem").write_bytes(keys["known"][0].read_bytes())
    (tmp_path / "password").write_text("s3cret\n")
    certificate, key = keys["server"]
    settings = {"cert_file": certificate, "key_file": key, "clients_folder": tmp_path / "clients"}
    with a_line(host="0.0.0.0", username="mes", password_file=tmp_path / "password", **settings) as line:
        yield line


def test_beyond_loopback_nobody_is_let_in_without_a_name(open_to_all: Line, keys: dict[str, tuple[Path, Path]]) -> None:
    refused_logins: list[dict[str, str]] = [
        {},  # anonymous
        {"username": "mes", "password": "s3cret"},  # right, but not encrypted
        {"security": encrypted(keys, "stranger")},  # anonymous in an encrypted channel
        {"security": encrypted(keys, "stranger"), "username": "mes", "password": "wrong"},
        {"security": encrypted(keys, "stranger"), "username": "other", "password": "s3cret"},
        {"security": encrypted(keys, "known"), "username": "mes", "password": "wrong"},
    ]
    for login in refused_logins:
        with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError)):
            open_to_all.visit(hello, **login)


def test_beyond_loopback_a_user_with_its_password_is_let_in(
    open_to_all: Line, keys: dict[str, tuple[Path, Path]]
) -> None:
    login = {"security": encrypted(keys, "stranger"), "username": "mes", "password": "s3cret"}
    assert open_to_all.visit(hello, **login) in ("Preoperational", "Operational")
