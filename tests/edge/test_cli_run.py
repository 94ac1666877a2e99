"""`oddkind run` as a process of its own: signals, pipes, full disks, wrong input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import jsonschema
import pytest
from click.testing import CliRunner, Result
from mjpeg_server import MjpegServer
from output_records import query

from edge.cli import main
from edge.pictures import read_picture
from edge.result import record_schema

DEADLINE_S = 60.0


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture
def camera(good_dir: Path) -> Iterator[MjpegServer]:
    good_bgr = read_picture(min(good_dir.rglob("*.png")))
    with MjpegServer(lambda number: good_bgr, fps=50, password="hunter2") as server:
        yield server


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge.cli", "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def invoke(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)], **options)


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline_s = monotonic() + DEADLINE_S
    while not holds():
        assert process.poll() is None, process.communicate()[1].decode()
        assert monotonic() < deadline_s
        sleep(0.02)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def valid_records(content: bytes | str) -> list[dict[str, Any]]:
    """Every line parsed and checked; the last one must be complete."""
    text = content if isinstance(content, str) else content.decode()
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        jsonschema.validate(record, record_schema())
    return records


# --- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_a_whole_record_with_exit_code_0(
    number: signal.Signals, bundle: Path, camera: MjpegServer, tmp_path: Path
) -> None:
    out, frames = tmp_path / "results.jsonl", tmp_path / "frames"
    options = ["--out", out, "--annotated", frames, "--keep-annotated", 2]
    process = start(bundle, "--source", camera.url, *options)
    wait_until(lambda: lines_in(out) >= 5, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    records = valid_records(out.read_bytes())
    assert process.returncode == 0, stderr.decode()
    assert stdout == b""
    assert stderr.decode().startswith(f"oddkind: {len(records)} frames: {len(records)} good")
    assert {record["verdict"] for record in records} == {"good"}
    ids = [record["frame_id"] for record in records]
    assert ids == sorted(set(ids))
    assert len(list(frames.iterdir())) == 2


def test_a_second_signal_ends_a_stop_that_hangs(bundle: Path, camera: MjpegServer, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    process = start(bundle, "--source", camera.url, "--out", out, "--lost-after", DEADLINE_S)
    wait_until(lambda: lines_in(out) >= 1, process)
    camera.freeze()  # the grabber now blocks, and closing waits for it
    sleep(0.5)
    process.send_signal(signal.SIGTERM)
    sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM
    valid_records(out.read_bytes())


def test_a_reader_that_leaves_ends_the_run_quietly(bundle: Path, camera: MjpegServer) -> None:
    process = start(bundle, "--source", camera.url)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_full_disk_leaves_whole_records_and_one_clear_line(bundle: Path, good_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    limit = 1_000  # bytes a file may have: room for one record and a part of the next

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(bundle, "--source", good_dir, "--out", out, preexec_fn=small_files)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert stderr.decode().count("\n") == 1
    assert "cannot be written" in stderr.decode()
    assert valid_records(out.read_bytes())


# --- sources and sinks


def test_a_video_file_becomes_records_on_stdout_and_a_summary_on_stderr(
    bundle: Path, good_dir: Path, tmp_path: Path
) -> None:
    video = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 320))
    for path in sorted(good_dir.rglob("*.png"))[:4]:
        writer.write(read_picture(path))
    writer.release()
    result = invoke(bundle, "--source", video)
    assert result.exit_code == 0, result.stderr
    records = valid_records(result.stdout)
    assert [(r["frame_id"], r["path"], r["source"]) for r in records] == [(n, "line.avi", str(video)) for n in range(4)]
    assert result.stderr.startswith("oddkind: 4 frames: ")


def test_max_frames_and_a_source_from_the_environment(bundle: Path, good_dir: Path) -> None:
    result = invoke(bundle, "--max-frames", 2, env={"ODDKIND_SOURCE": str(good_dir)})
    assert len(valid_records(result.stdout)) == 2


def test_a_database_gets_a_row_for_every_record(bundle: Path, good_dir: Path, tmp_path: Path) -> None:
    result = invoke(bundle, "--source", good_dir, "--max-frames", 3, "--database", tmp_path / "new" / "results.db")
    assert result.exit_code == 0, result.stderr
    rows = query(tmp_path / "new" / "results.db", "SELECT record FROM results ORDER BY number")
    assert rows == result.stdout.splitlines()


def test_a_second_run_appends(bundle: Path, good_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    for _ in range(2):
        assert invoke(bundle, "--source", good_dir, "--out", out, "--max-frames", 1).exit_code == 0
    assert len(valid_records(out.read_bytes())) == 2


def test_the_password_of_a_camera_is_nowhere_in_what_is_written(bundle: Path, camera: MjpegServer) -> None:
    process = start(bundle, "--source", camera.url, "--max-frames", 6, "--lost-after", 0.5)
    assert process.stdout
    first = process.stdout.readline()
    camera.stop()
    camera.start()
    rest, stderr = process.communicate(timeout=DEADLINE_S)
    records = valid_records(first + rest)
    assert process.returncode == 0
    assert {record["source"] for record in records} == {f"http://inspector:***@127.0.0.1:{camera.port}/video.mjpg"}
    assert "no_verdict" in {record["verdict"] for record in records}
    assert b"trying to reconnect" in stderr
    assert b"hunter2" not in first + rest + stderr


def test_a_wrong_password_is_one_clear_line_without_it(bundle: Path, camera: MjpegServer) -> None:
    process = start(bundle, "--source", camera.url.replace("hunter2", "letmein"))
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, stdout, stderr.count(b"\n")) == (1, b"", 1)
    assert b"inspector:***@" in stderr
    assert b"letmein" not in stderr


# --- wrong input

WRONG: dict[str, tuple[list[str], int, str]] = {
    "no source": ([], 2, "Missing option '--source'"),
    "no such source": (["--source", "{tmp}/nothing"], 1, "no such file or folder"),
    "empty source": (["--source", "{tmp}/empty"], 1, "no pictures"),
    "no camera": (["--source", "97"], 1, "cannot be opened"),
    "unknown scheme": (["--source", "ftp://camera/1"], 1, "ftp:// is not supported"),
    "nobody listens": (["--source", "rtsp://127.0.0.1:9/1"], 1, "cannot be opened"),
    "text as video": (["--source", "{tmp}/file.txt"], 1, "not a video"),
    "no frames": (["--source", "{good}", "--max-frames", "0"], 2, "--max-frames"),
    "out is a folder": (["--source", "{good}", "--out", "{tmp}"], 1, "choose another file"),
    "out below a file": (["--source", "{good}", "--out", "{tmp}/file.txt/x.jsonl"], 1, "choose another file"),
    "annotated is a file": (["--source", "{good}", "--annotated", "{tmp}/file.txt"], 1, "annotated frames"),
    "annotated feeds back": (["--source", "{tmp}", "--annotated", "{tmp}/new"], 2, "lies in the source folder"),
    "database is a folder": (["--source", "{good}", "--database", "{tmp}"], 1, "choose another file"),
    "database is a text": (["--source", "{good}", "--database", "{tmp}/file.txt"], 1, "file is not a database"),
    "broken classes": (["--source", "{good}", "--classes", "{tmp}/file.txt"], 1, "class store"),
    "source of no letters": (["--source", ""], 2, "source: expected a camera number, /dev/videoN"),
    "thousands of threads": (["--source", "{good}", "--threads", "5000"], 2, "threads: Input should be less than"),
    "lost after nan": (["--source", "{good}", "--lost-after", "nan"], 2, "lost_after_s: Input should be"),
    "unknown backend": (["--source", "{good}", "--backend", "tensorrt"], 2, "--backend"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_clear_line(case: str, bundle_dir: Path, good_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    arguments, exit_code, message = WRONG[case]
    result = invoke(bundle_dir, *(text.format(tmp=tmp_path, good=good_dir) for text in arguments))
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    assert [line.startswith(("oddkind: ", "Error: ")) for line in result.stderr.splitlines()][-1:] == [True]
    assert isinstance(result.exception, SystemExit)


def test_a_folder_that_is_no_bundle_is_one_clear_line(tmp_path: Path, good_dir: Path) -> None:
    result = invoke(tmp_path, "--source", good_dir)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "is not a bundle" in result.stderr


def test_help_shows_an_example_and_needs_no_runtime() -> None:
    code = (
        "import sys; from edge.cli import main; main(['run', '--help'], standalone_mode=False); "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert "Example:" in shown.stdout
