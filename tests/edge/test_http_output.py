"""Metrics and health over real sockets, with clients that behave and clients that do not."""

from __future__ import annotations

import json
import math
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import pydantic
import pytest
from edge_processes import wait_for
from mjpeg_server import MjpegServer
from mosquitto import free_port
from output_records import FRAME_BGR, an_inspection
from prometheus_client.parser import text_string_to_metric_families

from edge import __version__
from edge.cameras.sources import open_camera
from edge.errors import OutputError, UsageError
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.health import Health
from edge.outputs.http_output import HttpOutput, HttpSink
from edge.outputs.station_outputs import Outputs
from edge.page.server import LONGEST_SILENCE_S, MOST_CONNECTIONS, PageServer
from edge.pictures import read_picture
from edge.station.check import check_station
from edge.station.control import Control, Status

CAMERAS = ["left", "right"]


@pytest.fixture
def settings() -> HttpOutput:
    return HttpOutput(port=free_port(), stale_after_s=0.5)


@pytest.fixture
def sink(settings: HttpOutput) -> Iterator[HttpSink]:
    with HttpSink(settings, CAMERAS, Control()) as opened:
        assert isinstance(opened, HttpSink)
        yield opened


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.title(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """(name, label values sorted by label name) -> value, as Prometheus would read them."""
    text = ask(port, "/metrics")[1].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in samples}


def health(port: int) -> tuple[int, dict[str, object]]:
    status, content, _ = ask(port, "/health")
    return status, json.loads(content)


# --- metrics


def test_what_prometheus_reads_is_what_was_written(sink: HttpSink, settings: HttpOutput) -> None:
    for frame_id, verdict in ((0, "good"), (1, "good"), (4, "defect"), (5, "no_verdict")):
        sink.write(an_inspection(frame_id, verdict, "left"), FRAME_BGR)
    read = metrics(settings.port)
    assert read["oddkind_inspections_total", "left", "good"] == 2
    assert read["oddkind_inspections_total", "left", "defect"] == 1
    assert read["oddkind_inspections_total", "left", "no_verdict"] == 1
    assert read["oddkind_inspections_total", "right", "good"] == 0
    assert read["oddkind_defects_total", "left", "scratch"] == 1
    assert read["oddkind_frames_dropped_total", "left"] == 2  # numbers 2 and 3
    assert read["oddkind_anomaly_score_ratio_count", "left"] == 3
    assert read["oddkind_anomaly_score_ratio_sum", "left"] == pytest.approx(0.5 + 0.5 + 2.25)
    assert read["oddkind_anomaly_score_ratio_bucket", "left", "1.0"] == 2
    assert read["oddkind_latency_seconds_count", "backbone"] == 3
    assert read["oddkind_latency_seconds_sum", "backbone"] == pytest.approx(3 * 0.0051)
    assert read["oddkind_image_threshold", "0" * 16] == 1.0
    assert read["oddkind_build_info", __version__] == 1
    assert read["process_open_fds",] > 0
    assert 0 <= read["oddkind_last_record_age_seconds", "left"] < 5
    assert math.isinf(read["oddkind_last_record_age_seconds", "right"])


def test_names_with_quotes_and_line_breaks_do_not_break_the_text(settings: HttpOutput) -> None:
    name = 'le"ft\\ \n{é}'
    with HttpSink(settings, [name], Control()) as sink:
        sink.write(an_inspection(0, "defect", name), None)
        assert metrics(settings.port)["oddkind_defects_total", name, "scratch"] == 1


def test_two_stations_in_one_process_do_not_mix(sink: HttpSink, settings: HttpOutput) -> None:
    other = HttpOutput(port=free_port())
    with HttpSink(other, CAMERAS, Control()) as second:
        second.write(an_inspection(0, "good", "left"), None)
        assert metrics(other.port)["oddkind_inspections_total", "left", "good"] == 1
        assert metrics(settings.port)["oddkind_inspections_total", "left", "good"] == 0


def test_a_record_costs_the_loop_little_while_metrics_are_read(sink: HttpSink, settings: HttpOutput) -> None:
    started_s = monotonic()
    for frame_id in range(2000):
        sink.write(an_inspection(frame_id, "good", "left"), FRAME_BGR)
    assert (monotonic() - started_s) / 2000 < 0.002
    assert metrics(settings.port)["oddkind_inspections_total", "left", "good"] == 2000


def test_counts_are_those_of_the_loop(sink: HttpSink, settings: HttpOutput, bundle_dir: Path, good_dir: Path) -> None:
    good_bgr = read_picture(min(good_dir.iterdir()))
    server = MjpegServer(lambda number: good_bgr, fps=200)  # more than one core inspects
    server.start()
    try:
        with open_camera(server.url, lost_after_s=5.0) as camera:
            camera.name = "left"
            (summary,) = run([camera], Inspector.load(bundle_dir), [sink], max_frames=20).cameras
    finally:
        server.stop()
    read = metrics(settings.port)
    assert sum(read["oddkind_inspections_total", "left", verdict] for verdict in ("good", "defect")) == 20
    assert read["oddkind_frames_dropped_total", "left"] == summary.dropped > 0


# --- health


def test_health_follows_the_last_verdict_of_every_camera() -> None:
    now_s = [100.0]
    seen = Health(CAMERAS, 10.0, lambda: now_s[0])
    assert (seen.report()["state"], seen.report()["reason"]) == (
        "no_record",
        "left: no record yet; right: no record yet",
    )
    seen.note(an_inspection(0, "good", "left"))
    assert seen.report()["reason"] == "right: no record yet"
    seen.note(an_inspection(0, "defect", "right"))
    now_s[0] += 10.0
    assert seen.report() == {
        "state": "ok",
        "reason": None,
        "cameras": {
            "left": {"state": "ok", "reason": None, "age_s": 10.0, "verdict": "good"},
            "right": {"state": "ok", "reason": None, "age_s": 10.0, "verdict": "defect"},
        },
    }
    seen.note(an_inspection(1, "no_verdict", "right"))
    now_s[0] += 1.0
    assert seen.report()["state"] == "stale"
    assert seen.report()["reason"].startswith("left: no record for 11.0 s, more than 10 s; right: camera lost")
    seen.note(an_inspection(1, "good", "left"))
    assert seen.report()["state"] == "no_verdict"
    assert seen.ages_s() == {"left": 0.0, "right": 1.0}


def test_a_camera_whose_parts_come_when_they_come_is_well_without_records() -> None:
    def armed(*sporadic: str) -> Status:
        return Status("armed", sporadic=frozenset(sporadic))

    now_s = [100.0]
    seen = Health(CAMERAS, 10.0, lambda: now_s[0])
    seen.note(an_inspection(0, "good", "left"))
    assert seen.report(armed("right"))["state"] == "ok"
    now_s[0] += 11.0
    assert seen.report(armed(*CAMERAS))["state"] == "ok"
    assert seen.report(armed("right"))["state"] == "stale"
    lost = Status("fault", "right: camera lost", {"right": "camera lost"}, sporadic=frozenset(CAMERAS))
    assert seen.report(lost)["reason"] == "right: camera lost"
    seen.note(an_inspection(0, "no_verdict", "left"))
    assert seen.report(armed(*CAMERAS))["state"] == "no_verdict"


def test_a_station_that_is_paused_or_stands_still_is_not_healthy() -> None:
    seen = Health(["left"], 10.0)
    seen.note(an_inspection(0, "good", "left"))
    assert seen.report(Status("armed"), loop_age_s=9.0)["state"] == "ok"
    paused = seen.report(Status("paused", "paused by http"))
    assert (paused["state"], paused["reason"]) == ("paused", "paused by http")
    stalled = seen.report(Status("paused", "paused by http"), loop_age_s=11.0)
    assert (stalled["state"], stalled["reason"]) == ("stalled", "the loop has stood still for 11.0 s")


def test_the_status_code_says_the_same(sink: HttpSink, settings: HttpOutput) -> None:
    status, said = health(settings.port)
    assert (status, said["state"]) == (503, "no_record")
    for camera in CAMERAS:
        sink.write(an_inspection(0, "good", camera), FRAME_BGR)
    sink.came_round(Status("armed"))
    status, said = health(settings.port)
    assert (status, said["state"], said["reason"]) == (200, "ok", None)
    sleep(0.6)  # the port stays open, the records stop
    sink.came_round(Status("armed"))
    status, said = health(settings.port)
    assert (status, said["state"]) == (503, "stale")
    sink.write(an_inspection(1, "no_verdict", "left"), None)
    sink.write(an_inspection(1, "good", "right"), None)
    status, said = health(settings.port)
    assert (status, said["state"]) == (503, "no_verdict")
    assert "camera lost: é" in str(said["reason"])


# --- the server


def test_metrics_and_health_are_read_only_and_nothing_else_is_there(sink: HttpSink, settings: HttpOutput) -> None:
    status, content, headers = ask(settings.port, "/metrics?name=x")
    assert (status, headers["Server"]) == (200, "oddkind")
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert int(headers["Content-Length"]) == len(content)
    head_status, nothing, head = ask(settings.port, "/health", "HEAD")
    assert (head_status, nothing) == (503, b"")
    assert int(head["Content-Length"]) > 0
    for path in ("/metrics/x", "/../etc/passwd", "/static/../app.py", "/static/%2e%2e/app.py", "/health/x"):
        assert ask(settings.port, path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(settings.port, "/metrics", method)[0] == 405


def test_clients_that_hang_keep_nobody_out(sink: HttpSink, settings: HttpOutput) -> None:
    before = threading.active_count()
    with ExitStack() as opened:
        for number in range(3 * MOST_CONNECTIONS):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", settings.port), timeout=5))
            with suppress(OSError):  # cut off already
                client.sendall(b"GET /metrics HTTP/1.1\r\n" if number % 2 else b"")
        started_s = monotonic()
        assert ask(settings.port, "/health")[0] == 503
        sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
        assert monotonic() - started_s < LONGEST_SILENCE_S / 2
        assert threading.active_count() - before <= 2  # connections have no threads; metrics are made on one


def test_a_client_that_dribbles_is_cut_off() -> None:
    port = free_port()
    server = PageServer("127.0.0.1", port, lambda: None, longest_silence_s=0.4)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client, pytest.raises(OSError):
            for _ in range(100):
                client.sendall(b"G")
                sleep(0.03)
    finally:
        server.close()


@pytest.mark.parametrize("noise", [b"\0\xff" * 40, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000 + b"\r\n"])
def test_noise_harms_nobody(
    sink: HttpSink, settings: HttpOutput, noise: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", settings.port), timeout=5) as client:
        client.sendall(noise)
        client.shutdown(socket.SHUT_WR)
    assert ask(settings.port, "/metrics")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_closed_it_leaves_no_thread_and_the_port_is_free(settings: HttpOutput) -> None:
    before = threading.active_count()
    for _ in range(2):
        with HttpSink(settings, CAMERAS, Control()), socket.create_connection(("127.0.0.1", settings.port)):
            assert ask(settings.port, "/health")[0] == 503
        wait_for(lambda: threading.active_count() == before, timeout_s=5)
        with pytest.raises(ConnectionRefusedError):
            ask(settings.port, "/health")


def test_ipv6_too() -> None:
    output = HttpOutput(host="::1", port=free_port())
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().strip():
        pytest.skip("this machine has no IPv6")
    with HttpSink(output, CAMERAS, Control()), socket.create_connection(("::1", output.port), timeout=5) as client:
        client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 503 ")


def test_a_port_that_is_taken_is_one_clear_line(sink: HttpSink, settings: HttpOutput) -> None:
    with pytest.raises(OutputError) as refused:
        HttpSink(settings, CAMERAS, Control())
    assert str(refused.value) == (
        f"http: 127.0.0.1:{settings.port} cannot be listened on (Address already in use); choose another port or host"
    )
    with pytest.raises(OutputError, match=r"http: no-such-host\.invalid:1 cannot be listened on"):
        PageServer("no-such-host.invalid", 1, lambda: None)


# --- as an output of a station


def test_alone_it_writes_nothing() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"nothing would be written; .* mqtt, webhook, modbus"):
        Outputs.model_validate({"http": {}})
    http = {"host": "::", "port": 80, "token": "0123456789abcdef"}
    outputs = Outputs.model_validate({"http": http, "annotated": {"folder": "f"}})
    words = "live page, metrics and health at http://[::]:80, with a token, stale after 10 s"
    assert outputs.given[-1].in_words() == words
    alone = HttpOutput(page=False).in_words()
    assert alone == "metrics, health and control at http://127.0.0.1:8080, stale after 10 s"


def test_a_station_file_is_told_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.station.things.find_spec", lambda name: None)
    http = "http: {host: 'http://x', port: 0, stale: 1}"
    text = f"bundle: b\ncameras: [{{source: p}}]\noutputs:\n  records: {{file: '-'}}\n  {http}\n"
    (tmp_path / "station.yaml").write_text(text)
    said = [str(p) for p in check_station(tmp_path / "station.yaml").problems if "outputs" in str(p)]
    assert {line.split(": ")[1] for line in said} >= {"outputs.http.host", "outputs.http.port", "outputs.http.stale"}
    assert any("starlette is not installed here; pip install 'oddkind[station]'" in line for line in said)


@pytest.mark.parametrize("missing", ["prometheus_client", "starlette.applications", "uvicorn"])
def test_without_what_it_needs_it_is_one_clear_line(
    settings: HttpOutput, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "edge.page.app", raising=False)
    monkeypatch.delitem(sys.modules, "edge.page.server", raising=False)
    with pytest.raises(UsageError, match="pip install 'oddkind\\[station\\]'"):
        settings.open(CAMERAS, pytest.fail, Control())
