"""systemd's protocol on a real socket, by hand and from a real `oddkind run`; and the unit that uses it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from conftest import child_environment
from edge_processes import wait_for
from mjpeg_server import MjpegServer
from mosquitto import free_port
from notify_socket import NotifySocket

from edge.cameras.feeds import in_turns
from edge.cameras.frames import Camera, Frame, Frames
from edge.cameras.line_triggered import LineTriggeredCamera
from edge.cameras.triggered import TriggeredCamera, TriggerSettings
from edge.cameras.watched_folder import WatchedFolder
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.health import Health
from edge.pictures import read_picture
from edge.result import Provenance, utc_now
from edge.station.control import Control
from edge.station.service_manager import ServiceManager

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "oddkind.service"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as listening:
        yield listening


class Endless(Camera):
    """A camera that always has a frame."""

    name = "endless"

    def frames(self, stop: threading.Event) -> Frames:
        while not stop.is_set():
            yield Frame(np.zeros((2, 2, 3), np.uint8), Provenance(self.name, 0, utc_now()))


class Silent(Camera):
    """A camera that never has one."""

    name = "silent"

    def frames(self, stop: threading.Event) -> Frames:
        stop.wait()
        yield from ()


# --- what is told


def test_ready_once_status_when_new_stopping_at_the_end(systemd: NotifySocket) -> None:
    with ServiceManager(systemd.address, notify=pytest.fail) as manager:
        manager.came_round()  # nobody watches
        for status in ("cameras: 1", "cameras: 1", "cameras: 1; lost: é", "cameras: 1; lost: é"):
            manager.has_record(status)
    due = ["READY=1\nSTATUS=cameras: 1", "STATUS=cameras: 1; lost: é", "STOPPING=1"]
    wait_for(lambda: systemd.told == due, timeout_s=5)


def test_abstract_names_too() -> None:
    with NotifySocket(f"@oddkind-{os.getpid()}") as systemd:
        ServiceManager(systemd.address, notify=pytest.fail).has_record("fine")
        wait_for(lambda: systemd.told == ["READY=1\nSTATUS=fine"], timeout_s=5)


def test_the_watchdog_is_fed_three_times_in_its_patience(systemd: NotifySocket) -> None:
    now_s = [0.0]
    manager = ServiceManager(systemd.address, 3.0, pytest.fail, lambda: now_s[0])
    for _ in range(100):  # ten seconds
        manager.came_round()
        now_s[0] += 0.1
    wait_for(lambda: systemd.count("WATCHDOG=1") in (9, 10), timeout_s=5)


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_who_is_watched_stands_in_the_environment(
    systemd: NotifySocket, environment: dict[str, str], watchdog_s: float | None
) -> None:
    manager = ServiceManager.of_environment(pytest.fail, {"NOTIFY_SOCKET": systemd.address, **environment})
    manager.came_round()
    manager.has_status("told last")
    wait_for(lambda: systemd.last_status() == "told last", timeout_s=5)
    assert systemd.count("WATCHDOG=1") == (watchdog_s is not None)


def test_without_systemd_nothing_happens() -> None:
    with ServiceManager.of_environment(pytest.fail, {}) as manager:
        manager.came_round()
        manager.has_record("fine")


@pytest.mark.parametrize("address", ["/gone/notify", "relative", "vsock:2:1", "/" + "x" * 200, "/a\0b"])
def test_a_socket_that_cannot_be_used_is_told_of_once(address: str) -> None:
    said: list[str] = []
    with ServiceManager(address, 0.001, said.append) as manager:
        for _ in range(5):
            manager.came_round()
            manager.has_record("fine")
    assert len(said) == 1 and "cannot be told" in said[0] and "inspection goes on" in said[0]


def test_a_full_socket_holds_nothing_and_ready_comes_later(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(str(tmp_path / "notify"))
        said: list[str] = []
        manager = ServiceManager(str(tmp_path / "notify"), notify=said.append)
        started_s, number = monotonic(), 0
        while not said:
            manager.has_status(str(number := number + 1))
        assert monotonic() - started_s < 5
        late = ServiceManager(str(tmp_path / "notify"), notify=said.append)
        late.has_record("fine")
        for _ in range(number - 1):
            listener.recv(100)
        late.has_record("fine")
        assert listener.recv(100) == b"READY=1\nSTATUS=fine"


# --- who feeds the watchdog


def test_the_loop_comes_round_while_no_camera_has_anything() -> None:
    stop, rounds = threading.Event(), []

    def came_round() -> None:
        rounds.append(monotonic())
        if len(rounds) == 5:
            stop.set()

    assert list(in_turns([Silent()], stop, came_round)) == []
    assert max(np.diff(rounds)) < 1.0


def test_a_loop_that_hangs_starves_the_watchdog(systemd: NotifySocket) -> None:
    manager = ServiceManager(systemd.address, 0.03, pytest.fail)
    with closing(in_turns([Endless()], threading.Event(), manager.came_round)) as turns:
        for _ in range(3):
            next(turns)
            sleep(0.02)
        wait_for(lambda: systemd.count("WATCHDOG=1") == 3, timeout_s=5)
        sleep(0.3)  # an inspection that does not end
        assert systemd.count("WATCHDOG=1") == 3


@contextmanager
def station_of(cameras: list[Camera], systemd: NotifySocket, bundle_dir: Path, control: Control) -> Iterator[Health]:
    """A loop that runs meanwhile, and what is known of its cameras' health."""
    stop, health = threading.Event(), Health([camera.name for camera in cameras], 10.0)
    manager = ServiceManager(systemd.address, notify=pytest.fail)
    options = {"stop": stop, "manager": manager, "control": control, "notify": lambda text: None}
    thread = threading.Thread(target=run, args=(cameras, Inspector.load(bundle_dir), []), kwargs=options)
    thread.start()
    try:
        yield health
    finally:
        stop.set()
        thread.join(5)


SPORADIC: dict[str, Callable[[Control, Path], Camera]] = {
    "software": lambda control, folder: TriggeredCamera(Silent(), TriggerSettings(), control, pytest.fail),
    "line": lambda control, folder: LineTriggeredCamera(
        Silent(), TriggerSettings(by="camera", line="Line1"), control, pytest.fail
    ),
    "watched": lambda control, folder: WatchedFolder(folder, 5.0),
}


@pytest.mark.parametrize("kind", SPORADIC)
def test_a_station_whose_parts_come_when_they_come_is_ready_and_well_without_a_record(
    systemd: NotifySocket, bundle_dir: Path, tmp_path: Path, kind: str
) -> None:
    (folder := tmp_path / "watched").mkdir()
    control = Control()
    with station_of([SPORADIC[kind](control, folder)], systemd, bundle_dir, control) as health:
        wait_for(lambda: systemd.told, timeout_s=5)
        assert systemd.told[0].startswith("READY=1")
        assert health.report(control.status)["state"] == "ok"


def test_a_paused_station_is_ready_without_a_record(systemd: NotifySocket, bundle_dir: Path) -> None:
    control = Control()
    control.pause("start")
    with station_of([Silent()], systemd, bundle_dir, control):
        wait_for(lambda: systemd.told, timeout_s=5)
        assert systemd.told[0].startswith("READY=1")


def test_a_camera_that_should_send_and_does_not_keeps_the_station_from_being_ready(
    systemd: NotifySocket, bundle_dir: Path, tmp_path: Path
) -> None:
    control = Control()
    with station_of([Silent(), WatchedFolder(tmp_path, 5.0)], systemd, bundle_dir, control) as health:
        sleep(1.0)
        assert systemd.told == []
        assert health.report(control.status)["reason"] == "silent: no record yet"


# --- a real station


def health(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status


def test_a_station_is_ready_watched_lost_back_and_stopped(
    systemd: NotifySocket, bundle_dir: Path, good_dir: Path, tmp_path: Path
) -> None:
    good_bgr, port = read_picture(min(good_dir.iterdir())), free_port()

    def render(number: int) -> np.ndarray:
        picture = good_bgr.copy()
        picture[:16, :16] = number * 10 % 250  # not frozen
        return picture

    camera = MjpegServer(render, fps=20)
    camera.start()
    (tmp_path / "station.yaml").write_text(
        f"bundle: {bundle_dir}\ncameras: [{{source: '{camera.url}', name: left, lost_after_s: 1.5}}]\n"
        f"outputs:\n  records: {{file: results.jsonl}}\n  http: {{port: {port}, stale_after_s: 0.5}}\n"
    )
    watched = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
    command = [sys.executable, "-m", "edge.cli", "run", "--station", str(tmp_path / "station.yaml")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**child_environment(), **watched})
    try:
        # The first record says ready, also when it tells of a camera that takes long to answer.
        wait_for(lambda: child.poll() is not None or any("READY=1" in each for each in systemd.told), timeout_s=60)
        wait_for(lambda: child.poll() is not None or health(port) == 200, timeout_s=30)
        assert child.poll() is None, child.stderr and child.stderr.read()
        wait_for(lambda: systemd.last_status() == "cameras: 1", timeout_s=10)
        camera.freeze()
        wait_for(lambda: systemd.last_status() == "cameras: 1; lost: left; nothing is inspected", timeout_s=20)
        assert health(port) == 503
        fed = systemd.count("WATCHDOG=1")
        wait_for(lambda: systemd.count("WATCHDOG=1") >= fed + 3, timeout_s=10)  # no frame, but the loop is alive
        camera.thaw()
        wait_for(lambda: systemd.last_status() == "cameras: 1" and health(port) == 200, timeout_s=30)
        child.send_signal(signal.SIGSTOP)
        sleep(0.2)
        fed = systemd.count("WATCHDOG=1")
        sleep(0.6)
        assert systemd.count("WATCHDOG=1") == fed
        child.send_signal(signal.SIGCONT)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0, child.stderr and child.stderr.read()
    finally:
        child.kill()
        child.communicate()
        camera.stop()
    wait_for(lambda: systemd.told[-1] == "STOPPING=1", timeout_s=5)
    assert sum("READY=1" in message for message in systemd.told) == 1


# --- the unit


def test_the_unit_says_what_the_protocol_needs() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"Type=notify", "NotifyAccess=main", "WatchdogSec=30", "Restart=on-failure"} <= set(lines)
    assert "ExecStart=/opt/oddkind/bin/oddkind run --station /etc/oddkind/station.yaml" in lines


@pytest.mark.parametrize("question", [["verify"], ["security", "--offline=true", "--threshold=20"]])
def test_systemd_finds_nothing_wrong_with_the_unit(question: list[str], tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/oddkind/bin/oddkind", "/bin/true"))  # it asks whether it is there
    done = subprocess.run([analyze, *question, str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
