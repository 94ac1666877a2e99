"""The OPC UA server, seen by a real client: results in order, states, methods, and who is let in."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import pydantic
import pytest
from asyncua import Client, ua
from conftest import child_environment
from mosquitto import free_port
from opcua_client import Visitor, until, visit
from output_records import FRAME_BGR, an_inspection

from edge.errors import OutputError, UsageError
from edge.notify import Notify
from edge.outputs import opcua_space as space
from edge.outputs.opcua import OpcuaOutput
from edge.result import Trigger
from edge.station.control import Asked, Control
from edge.station.master_parts import MasterParts, MasterPartSettings

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

    def begin_again(self) -> Line:
        self.control.arm("test")
        self.triggers.clear()
        self.is_stalled = False
        return self

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


@pytest.fixture(scope="module")
def paced() -> Iterator[Line]:
    """Of cameras with a pace of their own; one for all tests, since a server takes a second or more to start."""
    with a_line(stall_after_s=0.5) as opened:
        yield opened


@pytest.fixture
def line(paced: Line) -> Line:
    return paced.begin_again()


@pytest.fixture(scope="module")
def opened_for_triggers() -> Iterator[Line]:
    with a_line() as opened:
        opened.control.take_triggers("left", opened.triggers.append)
        yield opened


@pytest.fixture
def triggered(opened_for_triggers: Line) -> Line:
    return opened_for_triggers.begin_again()


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


def test_the_last_results_of_a_run_are_still_published_and_the_next_run_has_the_port() -> None:
    line = Line(OpcuaOutput(port=free_port()), print)

    async def look(visitor: Visitor) -> tuple[list[str], list[str]]:
        await visitor.subscribe_to_results()
        ids = [line.write(number) for number in range(20)]
        await asyncio.to_thread(line.close)
        return ids, [event.ResultId for event in visitor.events]

    with suppress(ConnectionError):  # which the client finds closed when it says good-bye
        ids, seen = line.visit(look)
    assert seen == ids
    line.settings.open(["left"], print, Control()).close()  # the port can be had again at once


def test_variables_show_the_latest_result_and_counters(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        async def counts() -> list[int]:
            return [(await visitor.read(f"{LEFT}.{name}"))[0] for name in space.COUNTERS.values()]

        async def are_counted() -> bool:
            return await counts() == [count + 1 for count in before]

        before = await counts()
        for number, verdict in enumerate(("good", "no_verdict", "defect")):
            line.write(number, verdict)
        await until(are_counted)
        assert await visitor.read(f"{LEFT}.Verdict") == ("defect", "Good")
        assert await visitor.read(f"{LEFT}.DefectClass") == ("scratch", "Good")
        assert await visitor.read(f"{LEFT}.AnomalyScore") == (2.25, "Good")
        assert await visitor.read(f"{LEFT}.ImageThreshold") == (1.0, "Good")
        assert await visitor.read(f"{LEFT}.IsGood") == (False, "Good")
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


FROZEN = """
import asyncio, sys
from opcua_client import visit
async def subscribe(visitor):
    await visitor.subscribe_to_results()
    print("ready", flush=True)
    await asyncio.sleep(60)
visit(sys.argv[1], subscribe)
"""


def test_a_client_that_hangs_holds_neither_the_loop_nor_another_client(line: Line) -> None:
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(ROOT / "tests")
    command = [sys.executable, "-c", FROZEN, line.settings.endpoint]
    frozen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    try:
        assert frozen.stdout and frozen.stdout.readline() == "ready\n"
        frozen.send_signal(signal.SIGSTOP)

        async def look(visitor: Visitor) -> tuple[list[str], list[str]]:
            await visitor.subscribe_to_results()
            ids = [line.write(number) for number in range(300)]
            await until(lambda: _now(len(visitor.events) >= 300))
            return ids, [event.ResultId for event in visitor.events]

        ids, seen = line.visit(look)
        assert seen == ids
    finally:
        frozen.kill()
        frozen.wait()


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
        assert (await visitor.read(f"{LEFT}.GoodCount"))[1] == "UncertainLastUsableValue"
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
        status, why = await refused(visitor, f"{space.AUTOMATIC}.StartSingleJob", "", "", "", "", _strings())
        assert status == "BadInvalidState" and "no camera of this station waits for triggers" in why

    line.visit(look)


def test_a_single_job_is_a_trigger_and_its_result_carries_its_numbers(triggered: Line) -> None:
    line = triggered

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
        line.write(1, "good", line.triggers[-1].trigger)
        status, why = await refused(visitor, f"{space.AUTOMATIC}.Stop")
        assert status == "BadInvalidState" and "waits for triggers" in why
        assert (await refused(visitor, f"{space.AUTOMATIC}.StartContinuous"))[0] == "BadInvalidState"

    line.visit(look)


MASTERS = MasterPartSettings.model_validate({"parts": [{"name": "good-1", "expect": "good"}]})


def _strings(*texts: str) -> ua.Variant:
    return ua.Variant(list(texts), ua.VariantType.String, is_array=True)


def test_what_a_job_cannot_honour_is_refused_with_a_reason(triggered: Line) -> None:
    line = triggered
    start = f"{space.AUTOMATIC}.StartSingleJob"

    async def look(visitor: Visitor) -> None:
        status, why = await refused(visitor, start, "", "", "recipe", "", _strings())
        assert status == "BadInvalidArgument" and "its only recipe" in why
        assert (await refused(visitor, start, "", "", "", "", _strings("a", "b")))[0] == "BadInvalidArgument"
        assert (await refused(visitor, start, "", ""))[0] == "BadInvalidArgument"
        status, why = await refused(visitor, start, "", "x" * 201, "", "", _strings())
        assert status == "BadInvalidState" and "a part id of 201 characters" in why
        status, why = await refused(visitor, start, "x" * 201, "", "", "", _strings())
        assert status == "BadInvalidArgument" and "MeasId of 200" in why
        status, why = await refused(visitor, start, "", "", "", "", _strings("middle"))
        assert status == "BadInvalidState" and "no triggered camera is called 'middle'" in why
        line.control.pause("page")
        status, why = await refused(visitor, start, "", "", "", "", _strings())
        assert status == "BadInvalidState" and "paused by page" in why
        MasterParts(MASTERS, ["left"], "bundle", line.control, pytest.fail)
        status, why = await refused(visitor, f"{space.MACHINE}.SelectModeAutomatic")
        assert (status, why) == ("BadInvalidState", "not armed: master parts to be shown first: good-1")
        assert line.triggers == []

    line.visit(look)


def test_no_client_can_write_a_value_or_add_a_node(line: Line) -> None:
    async def look(visitor: Visitor) -> None:
        with pytest.raises(ua.UaStatusCodeError):
            await (await visitor.node(f"{space.SYSTEM}.Reason")).write_value("all is well")
        with pytest.raises(ua.UaStatusCodeError):
            await (await visitor.node(space.SYSTEM)).add_variable(2, "Mine", 1)

    line.visit(look)
    with pytest.raises(ua.UaStatusCodeError):  # asyncua's own default would make this one an administrator
        line.visit(look, username="admin", password="")


# --- who is let in


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """RSA certificates, which Basic256Sha256 needs: of the server, of a client we know, and of a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: rsa_certificate(folder, name) for name in ("server", "known", "stranger")}


def rsa_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key, PEM, as an OPC UA application has them."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
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


@pytest.fixture(scope="module")
def open_to_all(keys: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A station that listens everywhere, with a user and a known client."""
    tmp_path = tmp_path_factory.mktemp("station")
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "known.pem").write_bytes(keys["known"][0].read_bytes())
    (tmp_path / "password").write_text("s3cret\n")
    certificate, key = keys["server"]
    settings = {"cert_file": certificate, "key_file": key, "clients_folder": tmp_path / "clients"}
    with a_line(host="0.0.0.0", username="mes", password_file=tmp_path / "password", **settings) as line:
        yield line


def test_beyond_loopback_nobody_is_let_in_without_a_name(
    open_to_all: Line, keys: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A client that does not care what the server offers; asyncua's own would give up without asking it.
    monkeypatch.setattr(Client, "find_endpoint", staticmethod(lambda offered, mode, policy: next(iter(offered))))
    refused: list[dict[str, str]] = [
        {},  # anonymous
        {"username": "mes", "password": "s3cret"},  # right, but not encrypted
        {"security": encrypted(keys, "stranger")},  # anonymous in an encrypted channel
        {"security": encrypted(keys, "stranger"), "username": "mes", "password": "wrong"},
        {"security": encrypted(keys, "stranger"), "username": "other", "password": "s3cret"},
        {"security": encrypted(keys, "known"), "username": "mes", "password": "wrong"},
    ]
    for login in refused:
        with pytest.raises(ua.UaStatusCodeError, match=r"rejected|denied|Denied|Rejected"):
            open_to_all.visit(hello, **login)


def test_beyond_loopback_a_user_with_its_password_is_let_in(
    open_to_all: Line, keys: dict[str, tuple[Path, Path]]
) -> None:
    login = {"security": encrypted(keys, "stranger"), "username": "mes", "password": "s3cret"}
    assert open_to_all.visit(hello, **login) in ("Preoperational", "Operational")


def test_beyond_loopback_a_known_certificate_is_let_in_without_a_password(
    open_to_all: Line, keys: dict[str, tuple[Path, Path]]
) -> None:
    certificate, key = keys["known"]
    login = {"security": encrypted(keys, "known"), "certificate": certificate, "key": key}
    assert open_to_all.visit(hello, **login) in ("Preoperational", "Operational")
    certificate, key = keys["stranger"]
    for security in ("known", "stranger"):
        with pytest.raises(ua.UaStatusCodeError):
            open_to_all.visit(hello, security=encrypted(keys, security), certificate=certificate, key=key)


OPEN = {"host": "0.0.0.0"}
CERTIFIED = {"cert_file": Path("a.pem"), "key_file": Path("a.key")}
BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "open": (OPEN, "0.0.0.0 can be reached from elsewhere"),
    "a name too": ({"host": "station-3"}, "station-3 can be reached"),
    "password in the clear": ({**OPEN, "username": "a", "password": pydantic.SecretStr("b")}, "can be reached"),
    "nobody known": ({**OPEN, **CERTIFIED}, "can be reached from elsewhere"),
    "user alone": ({"username": "a"}, "go together"),
    "password alone": ({"password": pydantic.SecretStr("b")}, "go together"),
    "key alone": ({"key_file": Path("a.key")}, "go together"),
    "clients alone": ({"clients_folder": Path("a")}, "needs `cert_file`"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_would_let_anybody_in_are_refused(case: str) -> None:
    settings, says = BAD_SETTINGS[case]
    with pytest.raises(pydantic.ValidationError, match=re.escape(says)):
        OpcuaOutput(**settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine_alone_may_come_without_a_name(host: str) -> None:
    assert OpcuaOutput(host=host).in_words().endswith("not encrypted, for every program on this machine")


def test_files_that_are_no_certificates_are_named(tmp_path: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("hello")
    certificate, key = keys["server"]
    for files in ({"cert_file": bad, "key_file": key}, {"cert_file": certificate, "key_file": bad}):
        settings = OpcuaOutput(port=free_port(), **files)
        with pytest.raises(UsageError, match=r"bad\.pem: not a"):
            settings.open([], print, Control())


def test_a_port_that_is_taken_is_one_clear_line(line: Line) -> None:
    with pytest.raises(OutputError) as refused_port:
        line.settings.open(["left"], print, Control())
    assert re.fullmatch(
        r"opcua: opc\.tcp://.* cannot be listened on \(.*\); choose another port.*", str(refused_port.value)
    )


def test_without_asyncua_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("asyncua", "edge.outputs.opcua_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncua", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'oddkind[opcua]'")):
        OpcuaOutput().open([], print, Control())


def test_a_station_that_closes_twice_and_writes_afterwards_does_no_harm() -> None:
    sink = OpcuaOutput(port=free_port()).open(["left"], print, Control())
    started_s = monotonic()
    sink.close()
    sink.close()
    sink.write(an_inspection(0, "good", "left"), None)
    assert monotonic() - started_s < 5


def test_the_page_names_every_node_with_its_type() -> None:
    page = (ROOT / "docs" / "opcua.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Za-z.<>_]+)` \| (\S+) \| (\S+) \|", page, flags=re.MULTILINE)
    places = (*space.FIXED, *space.camera_places("<camera>"))
    assert rows == [(place.path.replace(space.SYSTEM, "VisionSystem"), place.type, place.owner) for place in places]
