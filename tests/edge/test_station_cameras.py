"""A station with machine vision cameras and a watched folder, as `oddkind run --station` runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from genicam_simulator import RED, needs_simulator, producer

from edge.result import record_schema

pytestmark = [needs_simulator]
DEADLINE_S = 60.0
STATION = """
bundle: {bundle}
cameras:
  - source: genicam:{device}
    name: red
    device: {{producer: {producer}, roi_xywh: [0, 0, 240, 160], pixel_format: {pixel_format}}}
    faults: {{frozen_after_s: 0, dark_below: 0, bright_above: 255}}
  - source: parts
    name: drop
    watch: true
    watch_existing: true
    faults: {{dark_below: 0, bright_above: 255}}
outputs:
  records: {{file: results.jsonl}}
"""


def start(folder: Path, bundle: Path, pixel_format: str) -> subprocess.Popen[str]:
    text = STATION.format(bundle=bundle, device=RED, producer=producer(), pixel_format=pixel_format)
    (folder / "parts").mkdir()
    (folder / "station.yaml").write_text(text)
    command = [sys.executable, "-m", "edge.cli", "run", "--station", str(folder / "station.yaml")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "results.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [json.loads(line) for line in whole]


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline_s = monotonic() + DEADLINE_S
    while not holds():
        assert monotonic() < deadline_s and process.poll() is None, process.communicate(timeout=5)
        sleep(0.05)


def end(process: subprocess.Popen[str], exit_code: int = 0) -> None:
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == exit_code, stderr


@pytest.fixture
def drop(tmp_path: Path) -> Callable[[str], None]:
    """Puts a picture into the watched folder."""

    def write(name: str) -> None:
        cv2.imwrite(str(tmp_path / "parts" / name), np.full((64, 64, 3), 90, np.uint8))

    return write


def test_each_camera_gives_records_and_they_say_what_the_device_said(
    tmp_path: Path, bundle_dir: Path, drop: Callable[[str], None]
) -> None:
    process = start(tmp_path, bundle_dir, "RGBa8")
    wait_until(lambda: len(records(tmp_path)) >= 3, process)
    drop("one.png")
    drop("two.png")
    wait_until(lambda: sum(record["source"] == "drop" for record in records(tmp_path)) == 2, process)
    end(process)
    found = records(tmp_path)
    for record in found:
        jsonschema.validate(record, record_schema())
    red = [record["device"] for record in found if record["source"] == "red"]
    assert all(device["frame_id"] >= 1 and device["timestamp_ns"] is None for device in red)
    dropped = [(record["path"], record["device"], record["verdict"]) for record in found if record["source"] == "drop"]
    assert [(path, device) for path, device, _ in dropped] == [("one.png", None), ("two.png", None)]
    assert all(verdict in ("good", "defect") for *_, verdict in dropped)


def test_a_camera_that_refuses_its_settings_is_told_and_the_others_go_on(
    tmp_path: Path, bundle_dir: Path, drop: Callable[[str], None]
) -> None:
    process = start(tmp_path, bundle_dir, "Mono12")
    assert process.stderr
    said = process.stderr.readline()
    drop("one.png")
    wait_until(lambda: len(records(tmp_path)) == 1, process)
    end(process, exit_code=1)  # a camera has failed
    assert "source red: pixel_format: Mono12 is refused by PixelFormat, which is RGBa8; allowed: RGBa8, Mono8" in said
