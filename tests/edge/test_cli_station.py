"""`oddkind station` and `oddkind run --station` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import run_oddkind
from mjpeg_server import MjpegServer

from edge.pictures import FrameBgr, read_picture
from edge.result import record_schema

DEADLINE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path, bundle_dir: Path, good_dir: Path, defects_dir: Path) -> Path:
    """A bundle and two folders of pictures."""
    shutil.copytree(bundle_dir, tmp_path / "bundle", copy_function=lambda a, b: Path(b).hardlink_to(a))
    for name, source in (("pictures", good_dir), ("right", min(defects_dir.iterdir()))):
        (tmp_path / name).mkdir()
        for path in sorted(source.iterdir())[:3]:
            shutil.copy(path, tmp_path / name)
    return tmp_path


def station(folder: Path, text: str) -> Path:
    path = folder / "station.yaml"
    path.write_text(text)
    return path


def records(*paths: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    for record in found:
        jsonschema.validate(record, record_schema())
    return found


def start(path: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge.cli", "run", "--station", str(path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline_s = monotonic() + DEADLINE_S
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert monotonic() < deadline_s
        sleep(0.02)


# --- init and check


def test_from_the_example_to_records(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    written = run_oddkind("station", "init")
    assert written.exit_code == 0
    assert "oddkind station check station.yaml" in written.stdout
    again = run_oddkind("station", "init")
    assert (again.exit_code, again.stderr) == (2, "oddkind: station.yaml exists; give another name\n")
    checked = run_oddkind("station", "check", "station.yaml")
    assert checked.exit_code == 0
    assert checked.stdout.startswith("station.yaml: nothing wrong\n  station  without a name\n")
    ran = run_oddkind("run", "--station", "station.yaml")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr == "oddkind: 3 frames: 3 good, 0 defect, 0 no_verdict; 0 dropped, 0 reconnects\n"
    assert [r["source"] for r in records(folder / "results" / "results.jsonl")] == [str(folder / "pictures")] * 3


def test_check_prints_a_line_a_problem_and_one_that_counts_them(folder: Path) -> None:
    path = station(folder, "bundle: bundle\ncameras: [{source: gone}]\nthreads: 1\noutputs: {records: {file: '-'}}\n")
    result = run_oddkind("station", "check", str(path))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{path}:2: cameras[0].source: no such file or folder: gone",
        f"{path}:3: threads: unknown key; allowed here: name, bundle, classes, runtime, cameras, master_parts, "
        "always_type, max_frames, outputs",
    ]
    assert result.stderr == f"oddkind: {path}: 2 problems\n"


def test_init_where_nothing_can_be_written_leaves_nothing(folder: Path) -> None:
    result = run_oddkind("station", "init", str(folder / "gone" / "station.yaml"))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "cannot be written" in result.stderr


# --- run


def test_two_named_cameras_and_every_output(folder: Path) -> None:
    path = station(
        folder,
        "name: press-3\nbundle: bundle\nclasses: classes.npz\nruntime: {precision: fp32, threads: 2}\n"
        "cameras:\n  - {source: pictures, name: left}\n  - {source: right, name: right}\nalways_type: true\n"
        "outputs:\n  records: {file: out/records.jsonl, max_mb: 0.001, keep: 50}\n"
        "  annotated: {folder: out/seen, keep: 4}\n",
    )
    result = run_oddkind("run", "--station", str(path))
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("oddkind: station press-3: 2 cameras\n")
    files = sorted((folder / "out").glob("records.0*.jsonl"))
    assert len(files) >= 2
    found = records(*files, folder / "out" / "records.jsonl")
    assert sorted((r["source"], r["frame_id"]) for r in found) == [(s, n) for s in ("left", "right") for n in range(3)]
    assert {r["verdict"] for r in found if r["source"] == "right"} == {"defect"}
    assert all(r["regions"] for r in found)
    assert len(list((folder / "out" / "seen").glob("*_cam?_*.jpg"))) == 4


def test_max_frames_of_the_file_counts(folder: Path) -> None:
    text = "bundle: bundle\ncameras: [{source: pictures}]\nmax_frames: 2\noutputs: {records: {file: '-'}}\n"
    result = run_oddkind("run", "--station", str(station(folder, text)))
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["bundle"], "BUNDLE"),
        (["--source", "0"], "--source"),
        (["--out", "-"], "--out"),
        (["--max-frames", "3", "--always-type"], "--max-frames, --always-type"),
        (["--threads", "1"], "--threads"),
    ],
)
def test_flags_beside_a_station_are_refused_in_one_line(flags: list[str], named: str, folder: Path) -> None:
    result = run_oddkind("run", "--station", str(folder / "station.yaml"), *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: --station says it all: leave out {named}, or put it into ")


def test_a_source_in_the_environment_is_for_flags_and_no_contradiction(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODDKIND_SOURCE", str(folder / "right"))
    text = "bundle: bundle\ncameras: [{source: pictures}]\noutputs: {records: {file: '-'}}\n"
    result = run_oddkind("run", "--station", str(station(folder, text)))
    assert {json.loads(line)["source"] for line in result.stdout.splitlines()} == {str(folder / "pictures")}


def test_a_wrong_station_is_one_line_and_nothing_is_opened(folder: Path) -> None:
    path = station(folder, "bundle: bundle\ncameras: [{source: pictures}]\noutputs: {records: {fill: out/a.jsonl}}\n")
    result = run_oddkind("run", "--station", str(path))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"oddkind: {path}:3: outputs.records.file: is missing; expected a path; and 1 more")
    assert not (folder / "out").exists()


def test_what_is_not_there_is_the_runs_own_error(folder: Path) -> None:
    """One camera that is unplugged at boot must not keep the others from being inspected."""
    text = (
        "bundle: bundle\ncameras: [{source: pictures}, {source: /dev/video97}]\noutputs: {records: {file: a.jsonl}}\n"
    )
    result = run_oddkind("run", "--station", str(station(folder, text)))
    assert result.exit_code == 1
    assert "/dev/video97: it cannot be opened" in result.stderr
    assert len(records(folder / "a.jsonl")) == 3


# --- a live camera


def live_station(folder: Path, url: str, keys: str = "") -> Path:
    return station(
        folder,
        f"bundle: bundle\ncameras:\n  - source: {url}\n    name: left\n    lost_after_s: 1.0\n{keys}"
        "outputs: {records: {file: a.jsonl, daily: true}}\n",
    )


def noisy(picture: FrameBgr, number: int) -> FrameBgr:
    """As a camera sees the same part again: never the same to the last bit."""
    noise = np.random.default_rng(number).integers(-2, 3, picture.shape)
    return np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)


def test_faults_of_a_live_camera_are_records_without_a_verdict(folder: Path, good_dir: Path) -> None:
    good = read_picture(min(good_dir.iterdir()))
    shows: list[Callable[[int], FrameBgr]] = [lambda number: noisy(good, number)]
    with MjpegServer(lambda number: shows[-1](number), fps=30, password="hunter2") as camera:
        url = camera.url.replace("hunter2", "${CAMERA_PASSWORD}")
        path = live_station(folder, url, "    faults: {frozen_after_s: 0.5}\n")
        process = start(path, CAMERA_PASSWORD="hunter2")
        out = folder / "a.jsonl"

        def errors() -> list[str]:
            whole = out.read_text().rpartition("\n")[0] if out.exists() else ""
            return [json.loads(line)["error"] or "good" for line in whole.splitlines()]

        def waits_for(start: str) -> None:
            wait_until(lambda: bool(errors()) and errors()[-1].startswith(start), process)

        waits_for("good")
        shows.append(lambda number: np.full_like(good, 4))
        waits_for("dark picture or covered lens")
        shows.append(lambda number: np.full_like(good, 254))
        waits_for("overexposed picture")
        shows.append(lambda number: good)
        waits_for("frozen picture")
        shows.append(shows[0])
        waits_for("good")
        camera.stop()
        shows.append(lambda number: noisy(good[:200, :240], number))
        camera.start()
        waits_for("wrong size")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, stderr
    found = records(out)
    assert {r["source"] for r in found} == {"left"}
    assert all(r["verdict"] == "no_verdict" for r in found if r["error"])
    assert "hunter2" not in stdout + stderr + out.read_text()
    told = [line for line in stderr.splitlines() if line.startswith("oddkind: left: ")]
    kinds = [line.removeprefix("oddkind: left: ").split()[0] for line in told]
    order = [kind for kind in kinds if kind in ("dark", "overexposed", "frozen", "wrong")]
    assert order == ["dark", "overexposed", "frozen", "wrong"]


def test_a_password_in_the_file_is_nowhere_in_what_is_written(folder: Path) -> None:
    path = live_station(folder, "rtsp://admin:hunter2@127.0.0.1:9/1").with_name("station.yaml")
    checked = run_oddkind("station", "check", str(path))
    assert checked.exit_code == 0
    ran = run_oddkind("run", "--station", str(path))
    assert ran.exit_code == 1
    assert "source left: it cannot be opened" in ran.stderr
    assert "rtsp://admin:***@127.0.0.1:9/1" in checked.stdout
    assert "hunter2" not in checked.output + ran.output


def test_the_flags_look_for_no_faults(folder: Path, good_dir: Path) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    with MjpegServer(lambda number: black, fps=30) as camera:
        result = run_oddkind("run", str(folder / "bundle"), "--source", camera.url, "--max-frames", "2")
    assert [json.loads(line)["error"] for line in result.stdout.splitlines()] == [None, None]
