"""`oddkind station health` against a real server of a station, against nobody, and against somebody else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest
from conftest import run_oddkind
from mosquitto import free_port
from output_records import FRAME_BGR, an_inspection

from edge.outputs.http_output import HttpOutput
from edge.outputs.sinks import Sink
from edge.station.control import Asked, Control

# Beyond loopback a station wants a token.
TOKEN = {"token": "a-word-of-some-length"} if "token" in HttpOutput.model_fields else {}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def file(tmp_path: Path, port: int) -> Path:
    return written(tmp_path, f"\n  http: {{port: {port}}}")


def written(folder: Path, http: str) -> Path:
    path = folder / "station.yaml"
    cameras = "bundle: bundle\ncameras: [{source: '0', name: left}]\n"
    path.write_text(f"{cameras}outputs:\n  records: {{file: '-'}}{http}\n")
    return path


@pytest.fixture
def sink(port: int) -> Iterator[Sink]:
    with HttpOutput(port=port).open(["left"], pytest.fail, Control()) as opened:
        yield opened


def test_a_station_that_inspects_is_healthy(file: Path, sink: Sink) -> None:
    sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
    answer = run_oddkind("station", "health", str(file))
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, "ok\n", "")


def test_one_without_a_verdict_is_not_and_says_why(file: Path, sink: Sink) -> None:
    answer = run_oddkind("station", "health", str(file))
    assert (answer.exit_code, answer.stdout) == (1, "no_record: left: no record yet\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_station_that_listens_on_every_address_is_asked_on_loopback(tmp_path: Path, host: str, port: int) -> None:
    settings = {"host": host, "port": port, **TOKEN}
    file = written(tmp_path, f"\n  http: {json.dumps(settings)}")
    with HttpOutput.model_validate(settings).open(["left"], pytest.fail, Control()):
        assert "no record yet" in run_oddkind("station", "health", str(file)).stdout


def test_nobody_there_is_one_clear_line(file: Path, port: int) -> None:
    answer = run_oddkind("station", "health", str(file))
    assert answer.exit_code == 1
    assert answer.stdout.startswith(f"no answer from http://127.0.0.1:{port}/health: ")
    assert answer.stdout.count("\n") == 1


def test_nobody_there_is_said_in_words(file: Path) -> None:
    assert run_oddkind("station", "health", str(file)).stdout.endswith(
        "/health: connection refused; is the station running?\n"
    )


def test_a_wrong_token_is_named_as_such(tmp_path: Path, port: int) -> None:
    settings = HttpOutput.model_validate({"port": port, "token": "the-token-of-the-station"})
    file = written(tmp_path, f"\n  http: {{port: {port}, token: the-token-of-another}}")
    with settings.open(["left"], pytest.fail, Control()):
        health, arm = run_oddkind("station", "health", str(file)), run_oddkind("station", "arm", str(file))
    assert (health.exit_code, arm.exit_code) == (1, 1)
    assert "another token than this file" in health.stdout and "token_file" in health.stdout
    assert "another token than this file" in arm.stderr


def test_a_reason_commands_no_terminal(file: Path, port: int) -> None:
    reason = "lens\x1b]0;mine\x07 is\x9b2J dirty"
    with HttpOutput(port=port).open(["left"], pytest.fail, Control()) as opened:
        paused = run_oddkind("station", "pause", str(file), "--reason", reason)
        assert paused.exit_code == 0
        control: Control = opened._app._rooms.control  # type: ignore[attr-defined]
        opened.came_round(control.status)
        said = paused.stdout + run_oddkind("station", "health", str(file)).stdout
    assert said.count("lens\N{REPLACEMENT CHARACTER}]0;mine\N{REPLACEMENT CHARACTER} is") == 2
    assert all(c.isprintable() or c == "\n" for c in said)


def test_one_that_hangs_is_not_waited_for(file: Path, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))):
        started_s = monotonic()
        answer = run_oddkind("station", "health", str(file), "--timeout", "0.3")
    assert answer.exit_code == 1 and "no answer" in answer.stdout
    assert monotonic() - started_s < 3


@pytest.mark.parametrize("body", ["hello", "[]", "{}", '"state"'])
def test_somebody_else_on_that_port_is_not_a_healthy_station(file: Path, port: int, body: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = run_oddkind("station", "health", str(file))
        server.shutdown()
    assert answer.exit_code == 1
    assert "not as a station does" in answer.stdout


def test_a_station_that_does_not_listen_cannot_be_asked(tmp_path: Path) -> None:
    answer = run_oddkind("station", "health", str(written(tmp_path, "")))
    assert answer.exit_code == 2
    assert "outputs.http" in answer.stderr


def test_a_wrong_file_is_said_as_ever(tmp_path: Path) -> None:
    answer = run_oddkind("station", "health", str(tmp_path / "none.yaml"))
    assert answer.exit_code == 1 and "none.yaml" in answer.stderr


# --- arm, pause, trigger


@pytest.fixture
def control(port: int) -> Iterator[Control]:
    control = Control()
    with HttpOutput(port=port).open(["left"], pytest.fail, control):
        yield control


def test_a_station_is_paused_and_armed_from_a_terminal(file: Path, control: Control) -> None:
    answer = run_oddkind("station", "pause", str(file), "--reason", "cleaning")
    assert (answer.exit_code, answer.stdout) == (0, "paused: cleaning\n")
    assert control.status.reason == "cleaning"
    answer = run_oddkind("station", "arm", str(file))
    assert (answer.exit_code, answer.stdout) == (0, "armed\n")
    assert control.is_armed


def test_a_trigger_from_a_terminal_says_its_number(file: Path, control: Control) -> None:
    taken: list[Asked] = []
    control.take_triggers("left", taken.append)
    answer = run_oddkind("station", "trigger", str(file), "--part-id", "A-17", "--camera", "left")
    assert (answer.exit_code, answer.stdout) == (0, "trigger 1; armed\n")
    assert [(asked.trigger.by, asked.trigger.part_id) for asked in taken] == [("http", "A-17")]


def test_what_a_station_refuses_is_one_line_and_exit_code_1(file: Path, control: Control) -> None:
    for command, why in [
        (["trigger", str(file)], "no camera of this station waits for triggers"),
        (["master", str(file), "good-1"], "this station has no master parts"),
    ]:
        answer = run_oddkind("station", *command)
        assert answer.exit_code == 1
        assert why in answer.stderr and answer.stderr.count("\n") == 1


def test_a_station_that_does_not_run_is_said_to_be_away(file: Path) -> None:
    answer = run_oddkind("station", "arm", str(file))
    assert answer.exit_code == 1
    assert "is the station running?" in answer.stderr
