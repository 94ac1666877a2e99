"""`oddkind run` with several cameras and one inspector: fair, and none takes another down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from mjpeg_server import MjpegServer

from edge.cameras.sources import open_camera
from edge.cli import main
from edge.errors import CameraError
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.sinks import Sink
from edge.pictures import read_picture
from edge.result import Inspection, record_schema
from edge.run_summary import CameraSummary, RunSummary

DEADLINE_S = 60.0
NOWHERE = "rtsp://user:hunter2@127.0.0.1:9/1"


class Records(Sink):
    """Keeps records and calls `then(number of records)` after each."""

    def __init__(self, then: Callable[[int], Any] = lambda count: None) -> None:
        self.then = then
        self.records: list[dict[str, Any]] = []

    def write(self, inspection: Inspection, frame_bgr: np.ndarray | None, heat_map: np.ndarray | None = None) -> None:
        record = inspection.to_record()
        jsonschema.validate(record, record_schema())
        self.records.append(record)
        self.then(len(self.records))

    def of(self, source: object) -> list[dict[str, Any]]:
        return [record for record in self.records if record["source"] == str(source)]


@pytest.fixture(scope="module")
def inspector(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    return Inspector.load(bundle_dir, classes_path=tmp_path_factory.mktemp("none") / "classes.npz")


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture
def lines(good_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of the same pictures under two names, as two cameras at one line."""
    return Path(shutil.copytree(good_dir, tmp_path / "left")), Path(shutil.copytree(good_dir, tmp_path / "right"))


@pytest.fixture
def servers(good_dir: Path) -> Iterator[tuple[MjpegServer, MjpegServer]]:
    good_bgr = read_picture(min(good_dir.rglob("*.png")))
    with MjpegServer(lambda number: good_bgr, fps=30) as one, MjpegServer(lambda number: good_bgr, fps=30) as two:
        yield one, two


def run_all(inspector: Inspector, sink: Sink, *sources: object, **options: Any) -> RunSummary:
    cameras = [open_camera(str(source), lost_after_s=1.0) for source in sources]
    try:
        return run(cameras, inspector, [sink], **options)
    finally:
        for camera in cameras:
            camera.close()


def invoke(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)], **options)


# --- the loop


def test_two_folders_get_the_same_number_of_turns(inspector: Inspector, lines: tuple[Path, Path]) -> None:
    sink = Records()
    summary = run_all(inspector, sink, *lines, max_frames=20)
    counts = [camera.frames for camera in summary.cameras]
    assert sum(counts) == summary.frames == len(sink.records) == 20
    assert abs(counts[0] - counts[1]) <= 2  # the first frames come before the other camera is open
    assert [len(sink.of(line)) for line in lines] == counts


def test_every_picture_of_every_folder_is_inspected_once_and_scores_as_it_does_alone(
    inspector: Inspector, lines: tuple[Path, Path]
) -> None:
    together, alone = Records(), Records()
    summary = run_all(inspector, together, *lines)
    run_all(inspector, alone, lines[0])
    scores = {record["path"]: record["anomaly_score"] for record in alone.records}
    for line in lines:
        assert [r["path"] for r in together.of(line)] == list(scores)
        assert {r["path"]: r["anomaly_score"] for r in together.of(line)} == scores
    assert len({record["result_id"] for record in together.records}) == len(together.records)
    assert [camera.failure for camera in summary.cameras] == [None, None]
    assert summary.dropped == 0


def test_a_file_and_a_live_camera_run_side_by_side(
    inspector: Inspector, lines: tuple[Path, Path], servers: tuple[MjpegServer, MjpegServer]
) -> None:
    stop = threading.Event()
    pictures = len(list(lines[0].iterdir()))
    sink = Records(lambda count: stop.set() if len(sink.of(lines[0])) == pictures and count > pictures + 5 else None)
    summary = run_all(inspector, sink, lines[0], servers[0].url, stop=stop, notify=lambda text: None)
    folder, live = summary.cameras
    assert (folder.frames, folder.dropped) == (pictures, 0)
    ids = [record["frame_id"] for record in sink.of(servers[0].url)]
    assert live.frames == len(ids) and live.dropped == ids[-1] + 1 - len(ids)


def test_a_camera_that_dies_is_one_record_and_the_other_goes_on(
    inspector: Inspector, servers: tuple[MjpegServer, MjpegServer]
) -> None:
    dying, living = servers
    after_loss: list[int] = []

    def pull_the_plug(count: int) -> None:
        if count == 6:
            dying.stop()
        if any(record["verdict"] == "no_verdict" for record in sink.records):
            after_loss.append(count)
        if len(after_loss) == 20:
            stop.set()

    stop, notices = threading.Event(), list[str]()
    sink = Records(pull_the_plug)
    summary = run_all(inspector, sink, dying.url, living.url, stop=stop, notify=notices.append)
    lost, going = summary.cameras
    assert (lost.no_verdict, going.no_verdict, going.reconnects) == (1, 0, 0)
    assert going.good >= 20
    assert "camera lost" in next(record["error"] for record in sink.of(dying.url) if record["error"])
    assert [text for text in notices if dying.url in text and "trying to reconnect" in text] == notices


def test_a_camera_that_comes_back_is_taken_up_again(
    inspector: Inspector, servers: tuple[MjpegServer, MjpegServer]
) -> None:
    dying, living = servers
    stop, notices = threading.Event(), list[str]()

    def off_and_on(count: int) -> None:
        if count == 6:
            dying.stop()
            threading.Timer(0.3, dying.start).start()
        if any("is back" in text for text in notices) and len(sink.of(dying.url)) > 10:
            stop.set()

    sink = Records(off_and_on)
    summary = run_all(inspector, sink, dying.url, living.url, stop=stop, notify=notices.append)
    assert [camera.reconnects for camera in summary.cameras] == [1, 0]
    assert [camera.no_verdict for camera in summary.cameras] == [1, 0]


def test_a_camera_that_never_opens_is_told_of_and_the_other_goes_on(
    inspector: Inspector, lines: tuple[Path, Path]
) -> None:
    sink, notices = Records(), list[str]()
    summary = run_all(inspector, sink, NOWHERE, lines[0], notify=notices.append)
    assert summary.frames == len(sink.of(lines[0])) == len(sink.records) > 0
    (failed,) = summary.failed
    assert failed.failure and "cannot be opened" in failed.failure
    told = [text for text in notices if "cannot be opened" in text]
    assert len(told) == 1 and "check the address" in told[0] and "cameras that go on: " in told[0]
    assert "hunter2" not in "".join([*notices, str(summary)])


def test_when_no_camera_opens_the_run_fails(inspector: Inspector) -> None:
    notices: list[str] = []
    with pytest.raises(CameraError, match="all 2 cameras failed"):
        run_all(inspector, Records(), NOWHERE, "97", notify=notices.append)
    assert len(notices) == 2


# --- the summary


def test_a_summary_names_every_camera_only_when_there_are_several() -> None:
    one = CameraSummary("a", 3, 1, 1, 1, dropped=4, reconnects=0)
    two = CameraSummary("b", 0, 0, 0, 0, dropped=0, reconnects=0, failure="source b: it cannot be opened")
    words = "3 frames: 1 good, 1 defect, 1 no_verdict; 4 dropped, 0 reconnects"
    assert str(RunSummary((one,))) == words
    total, a, b = str(RunSummary((one, two))).splitlines()
    assert total == f"2 cameras, {words}"
    assert a == f"  a: {words}"
    assert b.startswith("  b: 0 frames: ") and b.endswith("; failed: source b: it cannot be opened")


# --- the command


def test_ctrl_c_stops_all_cameras_and_hangs_up(
    bundle: Path, servers: tuple[MjpegServer, MjpegServer], tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    arguments = [bundle, "--source", servers[0].url, "--source", servers[1].url, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "run", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: out.exists() and all(out.read_text().count(server.url) > 3 for server in servers))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, stderr
    assert stderr.startswith("oddkind: 2 cameras, ")
    assert [line.strip().startswith(server.url) for line, server in zip(stderr.splitlines()[1:], servers, strict=True)]
    wait_until(lambda: not any(server.clients for server in servers))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = monotonic() + DEADLINE_S
    while not holds():
        assert monotonic() < deadline_s
        sleep(0.02)


def test_annotated_frames_of_two_cameras_take_no_other_s_place(
    bundle: Path, lines: tuple[Path, Path], tmp_path: Path
) -> None:
    for path in [*lines[0].iterdir(), *lines[1].iterdir()]:
        os.utime(path, (1_700_000_000, 1_700_000_000))  # the same moment, the same frame numbers
    frames = tmp_path / "frames"
    sources = [word for line in lines for word in ("--source", line)]
    result = invoke(bundle, *sources, "--out", tmp_path / "out.jsonl", "--annotated", frames)
    assert result.exit_code == 0, result.stderr
    cameras = Counter(path.name.split("_")[1] for path in frames.iterdir())
    assert cameras == {"cam1": len(list(lines[0].iterdir())), "cam2": len(list(lines[1].iterdir()))}


def test_a_camera_that_never_opened_ends_the_command_with_1_after_the_others(
    bundle: Path, lines: tuple[Path, Path], tmp_path: Path
) -> None:
    result = invoke(bundle, "--source", lines[0], "--source", NOWHERE, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert (tmp_path / "out.jsonl").read_text().count("\n") == len(list(lines[0].iterdir()))
    assert "cannot be opened" in result.stderr and "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr


def test_sources_in_the_environment_stand_one_a_line(bundle: Path, good_dir: Path, tmp_path: Path) -> None:
    folders = [shutil.copytree(good_dir, tmp_path / name) for name in ("left line", "right line")]
    result = invoke(bundle, "--max-frames", 4, env={"ODDKIND_SOURCE": "\n".join([*map(str, folders), ""])})
    assert result.exit_code == 0, result.stderr
    assert {json.loads(line)["source"] for line in result.stdout.splitlines()} == set(map(str, folders))


def test_a_camera_given_twice_is_refused(bundle_dir: Path, good_dir: Path, servers: tuple[MjpegServer, ...]) -> None:
    same_folder = good_dir / ".." / good_dir.name
    same_address = ("http://user:one@camera/1", "http://user:two@camera/1")
    for one, two in ((good_dir, same_folder), same_address):
        result = invoke(bundle_dir, "--source", one, "--source", two)
        assert result.exit_code == 2
        assert "is given 2 times" in result.stderr


def test_a_source_that_names_nothing_is_refused_before_anything_is_inspected(bundle_dir: Path, good_dir: Path) -> None:
    result = invoke(bundle_dir, "--source", good_dir, "--source", "no/such/folder")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no such file or folder" in result.stderr
