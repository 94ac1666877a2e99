"""From a bare Debian to a station that runs as a service under a real systemd: installed, watched, started again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from edge_processes import wait_for
from mjpeg_server import MjpegServer
from mosquitto import free_port
from station_box import Box, box_environment, make_root

from edge.pictures import read_picture

STATION = "/etc/oddkind/station.yaml"
WATCHDOG_S = 3  # 30 in the unit


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare Debian."""
    folder = tmp_path_factory.mktemp("box") / "root"
    make_root(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def camera(good_dir: Path) -> Iterator[MjpegServer]:
    good_bgr = read_picture(min(good_dir.iterdir()))

    def render(number: int) -> np.ndarray:
        picture = good_bgr.copy()
        picture[:16, :16] = number * 10 % 250  # not frozen
        return picture

    server = MjpegServer(render, fps=10)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def installed(root: Path, checkout: Path, wheels: Path, bundle_dir: Path, camera: MjpegServer) -> Path:
    """The box after install.sh without a network, a bundle and a station file."""
    shutil.copytree(checkout, root / "mnt" / "oddkind")
    shutil.copytree(wheels, root / "mnt" / "wheels")
    script = ["chroot", root, "bash", "/mnt/oddkind/deploy/install.sh", "--wheels", "/mnt/wheels"]
    done = subprocess.run(script, env=box_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "systemd does not run here: units are in /etc/systemd/system, not loaded" in done.stdout
    shutil.copytree(bundle_dir, root / "var/lib/oddkind/bundle")
    file = root / STATION[1:]
    text = file.read_text().replace('source: "0"', f"source: {camera.url}").replace("8080", str(free_port()))
    file.write_text(text)
    return root


@pytest.fixture(scope="module")
def box(installed: Path) -> Iterator[Box]:
    """Booted; tests below go on with it in their order."""
    folder = installed / "etc/systemd/system/oddkind.service.d"
    folder.mkdir()
    (folder / "trial.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    with Box(installed) as booted:
        yield booted


def records(box: Box) -> list[str]:
    path = box.root / "var/lib/oddkind/results.jsonl"
    return [json.loads(line)["verdict"] for line in path.read_text().splitlines()] if path.exists() else []


def health(box: Box) -> tuple[int, str]:
    done = box.try_("oddkind", "station", "health", STATION)
    return done.returncode, done.stdout


def test_the_files_belong_to_whom_they_should(installed: Path) -> None:
    def facts(path: str) -> tuple[str, str, str]:
        command = ["chroot", installed, "stat", "-c", "%a %U %G", path]
        done = subprocess.run(command, env=box_environment(), capture_output=True, text=True, check=True)
        mode, user, group = done.stdout.split()
        return mode, user, group

    assert facts("/var/lib/oddkind") == ("750", "oddkind", "oddkind")
    assert facts(STATION) == ("640", "root", "oddkind")
    assert facts("/etc/oddkind/environment") == ("600", "root", "root")
    assert facts("/opt/oddkind/bin")[1:] == ("root", "root")


def test_start_waits_until_the_station_is_ready(box: Box) -> None:
    assert health(box)[0] == 1
    box.call("oddkind", "station", "check", STATION)
    box.call("systemctl", "enable", "oddkind")
    box.call("systemctl", "start", "oddkind")  # returns with the first record
    assert box.show("oddkind", "ActiveState") == "active"
    assert records(box)
    assert box.show("oddkind", "StatusText") == "cameras: 1"
    wait_for(lambda: health(box) == (0, "ok\n"), timeout_s=20)


def test_it_runs_without_any_right_it_does_not_need(box: Box) -> None:
    facts = box.call("cat", f"/proc/{box.show('oddkind', 'MainPID')}/status")
    values = {key: value.split() for key, _, value in (line.partition(":") for line in facts.splitlines())}
    assert values["CapEff"] == values["CapBnd"] == ["0" * 16]
    assert (values["NoNewPrivs"], values["Seccomp"]) == (["1"], ["2"])
    assert values["Uid"][0] != "0"


def test_one_that_hangs_is_killed_and_started_again(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    started_s, before = monotonic(), box.show("oddkind", "MainPID")
    box.call("systemctl", "kill", "--signal=STOP", "oddkind")
    box.wait_until("oddkind", "active", restarts=1)
    took_s = monotonic() - started_s
    with capsys.disabled():
        print(f"\nhangs: inspects again after {took_s:.1f} s, {WATCHDOG_S} s of them the watchdog's")
    assert box.show("oddkind", "MainPID") != before
    assert "Watchdog timeout" in box.call("journalctl", "--no-pager", "-u", "oddkind")
    assert took_s < WATCHDOG_S + 20


def test_one_that_is_killed_is_started_again(box: Box) -> None:
    box.call("systemctl", "kill", "--signal=KILL", "oddkind")
    box.wait_until("oddkind", "active", restarts=2)
    seen = len(records(box))
    wait_for(lambda: len(records(box)) > seen, timeout_s=20)


def test_a_camera_that_is_lost_stands_in_the_status_and_restarts_nothing(box: Box, camera: MjpegServer) -> None:
    before = box.show("oddkind", "MainPID")
    camera.freeze()
    wait_for(lambda: "lost: " in box.show("oddkind", "StatusText"), timeout_s=30)
    code, words = health(box)
    assert code == 1 and words.startswith("no_verdict: ")
    camera.thaw()
    wait_for(lambda: box.show("oddkind", "StatusText") == "cameras: 1", timeout_s=60)
    assert box.show("oddkind", "MainPID") == before


def test_it_stops_when_told_to_after_a_whole_record(box: Box) -> None:
    started_s = monotonic()
    box.call("systemctl", "stop", "oddkind")
    assert monotonic() - started_s < 10
    assert (box.show("oddkind", "ActiveState"), box.show("oddkind", "Result")) == ("inactive", "success")
    assert box.show("oddkind", "ExecMainStatus") == "0"
    records(box)  # each one is whole


def test_a_wrong_command_is_not_tried_for_ever(box: Box) -> None:
    drop_in = box.root / "etc/systemd/system/oddkind.service.d/wrong.conf"
    drop_in.write_text("[Service]\nExecStart=\nExecStart=/opt/oddkind/bin/oddkind run --no-such-option\n")
    box.call("systemctl", "daemon-reload")
    assert box.try_("systemctl", "start", "oddkind").returncode != 0
    assert (box.show("oddkind", "ActiveState"), box.show("oddkind", "ExecMainStatus")) == ("failed", "2")
    drop_in.unlink()
    box.call("systemctl", "daemon-reload")


def test_a_second_station_has_a_file_and_a_folder_of_its_own(box: Box) -> None:
    text = (box.root / STATION[1:]).read_text()
    port = text.partition("port: ")[2].partition("}")[0]
    text = text.replace(port, str(free_port())).replace("oddkind/results", "oddkind/left/results")
    (box.root / "etc/oddkind/left.yaml").write_text(text)
    box.call("systemctl", "start", "oddkind@left", "oddkind")
    assert (box.root / "var/lib/oddkind/left/results.jsonl").stat().st_size > 0
    assert box.show("oddkind", "ActiveState") == box.show("oddkind@left", "ActiveState") == "active"


def test_an_update_restarts_what_runs(box: Box) -> None:
    before = box.show("oddkind", "MainPID")
    said = box.call("bash", "/mnt/oddkind/deploy/install.sh", "--wheels", "/mnt/wheels")
    assert f"{STATION} is there and stays as it is" in said
    box.wait_until("oddkind", "active")
    box.wait_until("oddkind@left", "active")
    assert box.show("oddkind", "MainPID") != before
    (running,) = {path.name for path in [(box.root / "opt/oddkind/current").readlink()]}
    assert running == "2"


def test_it_comes_back_when_the_box_does(box: Box) -> None:
    box.shut_down()
    seen = len(records(box))
    box.boot()
    box.wait_until("oddkind", "active")
    assert len(records(box)) > seen


def test_it_is_removed(box: Box) -> None:
    box.call("bash", "/mnt/oddkind/deploy/install.sh", "--uninstall")
    assert box.show("oddkind", "LoadState") == "not-found"
    assert not (box.root / "opt/oddkind").exists()
    assert (box.root / STATION[1:]).exists() and records(box)
