"""Ten thousand triggers, twenty a second, to a real station with a real stream that fails for one part in twenty."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from conftest import child_environment
from edge_processes import wait_for
from mjpeg_server import MjpegServer
from mosquitto import free_port

from edge.pictures import read_picture

TRIGGERS = int(os.environ.get("ODDKIND_TRIGGERS", "10000"))
PER_S, FAULTY = 20.0, 0.05
DEADLINE_S, QUEUE = 0.5, 8
# What is done to the stream, how often, and for how many parts.
FAULTS = {"dark": (0.55, 2), "freeze": (0.25, 6), "burst": (0.15, 14), "drop": (0.05, 30)}
MAY_BE = {
    "dark": {"dark picture"},
    "freeze": {"stale frame", "timeout", "camera lost", "overrun"},
    "drop": {"camera lost", "stale frame", "timeout", "overrun"},
    "burst": {"overrun", "stale frame", "timeout"},
}


class Scene:
    """What the camera sees: good parts with the noise of a sensor, or nothing while it is dark."""

    def __init__(self, good_dir: Path) -> None:
        self._parts = [read_picture(path) for path in sorted(good_dir.iterdir())[:8]]
        self._random = np.random.default_rng(3)
        self.is_dark = False

    def render(self, number: int) -> np.ndarray:
        part = self._parts[number // 3 % len(self._parts)]
        frame = np.full_like(part, 3) if self.is_dark else part
        return np.minimum(frame, 252) + self._random.integers(0, 3, frame.shape, dtype=np.uint8)


@contextmanager
def station(folder: Path, bundle: Path, url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real `oddkind run`, stopped with SIGTERM at the end."""
    file = folder / "station.yaml"
    file.write_text(
        f"bundle: {bundle}\n"
        f"cameras:\n  - source: {url}\n    name: cam\n    lost_after_s: 0.5\n    wait_for_camera: true\n"
        f"    trigger: {{deadline_s: {DEADLINE_S}, queue: {QUEUE}}}\n"
        f"outputs:\n  records: {{file: records.jsonl}}\n  http: {{port: {port}}}\n"
    )
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "edge.cli", "run", "--station", str(file)]
        program = subprocess.Popen(command, stderr=log, env=child_environment(), cwd=folder)
    try:
        yield program
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0, (folder / "log").read_text()


class Client:
    """Triggers over one HTTP connection, as a program beside the line would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=5)

    def is_ready(self) -> bool:
        try:
            return self._ask("GET", "/api/state")["triggered"] == ["cam"]
        except OSError:
            self._connection.close()
            return False

    def trigger(self, part_id: str) -> int:
        return int(self._ask("POST", "/api/trigger", {"part_id": part_id})["trigger_id"])

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        headers = {"Content-Type": "application/json", "Host": f"127.0.0.1:{self._port}"}
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)


class Line:
    """Sends triggers in time and does to the stream what the plan says, part by part."""

    def __init__(self, client: Client, server: MjpegServer, scene: Scene, seed: int) -> None:
        self._client, self._server, self._scene, self._random = client, server, scene, random.Random(seed)
        self.fault_of: dict[int, str] = {}  # trigger -> what was going on, or had just been
        self.in_the_dark: set[int] = set()

    def run(self, count: int) -> None:
        sent, next_at_s = 0, monotonic()
        while sent < count:
            fault, parts = self._plan()
            parts = min(parts, count - sent)
            if fault:
                self.fault_of.setdefault(sent, fault)  # its picture may come when the fault has begun
            with self._during(fault):
                for _ in range(parts):
                    next_at_s = max(next_at_s, monotonic() - 1.0) + (0.0 if fault == "burst" else 1 / PER_S)
                    sleep(max(0.0, next_at_s - monotonic()))
                    sent += 1
                    number = self._client.trigger(f"part {sent}")
                    assert number == sent
                    if fault:
                        self.fault_of[number] = fault
                    if fault == "dark":
                        self.in_the_dark.add(number)
            # What follows may still suffer from it: the camera is opened again, the queue is worked off.
            for number in range(sent + 1, sent + {"drop": 80, "freeze": 25, "burst": 25, "dark": 3}.get(fault, 0)):
                self.fault_of.setdefault(number, fault)

    def _plan(self) -> tuple[str, int]:
        mean_parts = sum(share * parts for share, parts in FAULTS.values())
        if self._random.random() > 1 / (1 + mean_parts * (1 - FAULTY) / FAULTY / 10):
            return "", 10
        kinds = list(FAULTS)
        kind = self._random.choices(kinds, [FAULTS[kind][0] for kind in kinds])[0]
        return kind, FAULTS[kind][1]

    @contextmanager
    def _during(self, fault: str) -> Iterator[None]:
        if fault == "dark":
            self._scene.is_dark = True
            sleep(0.15)
        elif fault == "freeze":
            self._server.freeze()
        elif fault == "drop":
            threading.Thread(target=self._server.stop).start()
        yield
        if fault == "dark":
            sleep(0.15)  # the last of these parts is seen before the light is back
            self._scene.is_dark = False
        elif fault == "freeze":
            self._server.thaw()
        elif fault == "drop":
            self._server.start()


def test_every_trigger_has_one_record_in_order_and_in_time(
    tmp_path: Path, bundle_dir: Path, good_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, port = Scene(good_dir), free_port()
    with MjpegServer(scene.render, fps=40.0) as server, station(tmp_path, bundle_dir, server.url, port):
        client = Client(port)
        wait_for(client.is_ready, timeout_s=30)
        sleep(2.0)  # the first pictures
        line = Line(client, server, scene, seed=17)
        started_s = monotonic()
        line.run(TRIGGERS)
        took_s = monotonic() - started_s
        wait_for(lambda: len((tmp_path / "records.jsonl").read_bytes().splitlines()) >= TRIGGERS, timeout_s=10)
    records = [json.loads(text) for text in (tmp_path / "records.jsonl").read_text().splitlines()]
    triggers = [record["trigger"] for record in records]
    assert [trigger["trigger_id"] for trigger in triggers] == list(range(1, TRIGGERS + 1))
    assert [trigger["part_id"] for trigger in triggers] == [f"part {number}" for number in range(1, TRIGGERS + 1)]
    assert len({record["result_id"] for record in records}) == TRIGGERS
    unexplained = []
    for number, record in enumerate(records, start=1):
        if record["verdict"] == "no_verdict":
            reason, fault = record["error"].partition(":")[0], line.fault_of.get(number, "")
            if not any(reason.startswith(start) for start in MAY_BE.get(fault, ())):
                unexplained.append((number, fault, record["error"]))
    judged = [
        trigger["latency_ms"] for record, trigger in zip(records, triggers, strict=True) if record["error"] is None
    ]
    p50, p99, most = (float(np.percentile(judged, q)) for q in (50, 99, 100))
    answered = max(trigger["latency_ms"] for trigger in triggers)
    reasons = Counter((record["error"] or record["verdict"]).partition(":")[0] for record in records)
    with capsys.disabled():
        print(
            f"\n{TRIGGERS} triggers in {took_s:.0f} s; trigger to verdict p50 {p50:.0f} ms, p99 {p99:.0f}, "
            f"most {most:.0f} of {DEADLINE_S * 1e3:.0f}; to any record at most {answered:.0f} ms; {dict(reasons)}; "
            f"no_verdict without a fault of ours: {unexplained}"
        )
    assert len(unexplained) <= TRIGGERS / 500, unexplained  # a busy machine may miss a deadline by itself, and says so
    assert {records[number - 1]["verdict"] for number in line.in_the_dark} == {"no_verdict"}
    assert most <= DEADLINE_S * 1e3
    assert answered <= DEADLINE_S * 1e3 + 250
    assert sum(record["verdict"] == "no_verdict" for record in records) >= 0.01 * TRIGGERS
