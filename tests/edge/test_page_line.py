"""What the page is told is what was written: state, events, pictures and rejects, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from time import monotonic, perf_counter, sleep

import cv2
import numpy as np
import pytest
from edge_processes import wait_for
from mosquitto import free_port
from output_records import FRAME_BGR, an_inspection
from page_client import ask

from edge.outputs.http_output import HttpOutput, HttpSink
from edge.page.rejects import Reject, Rejects
from edge.station.control import Control
from edge.station.master_parts import MasterParts, MasterPartSettings

CAMERAS = ["left", "right & über"]
HEAT_MAP = np.pad(np.full((6, 8), 3.0, np.float32), 4)


@pytest.fixture
def control() -> Control:
    return Control(station="press-3")


@pytest.fixture
def settings() -> HttpOutput:
    return HttpOutput(port=free_port(), rejects=3, live_fps=20)


@pytest.fixture
def sink(settings: HttpOutput, control: Control) -> Iterator[HttpSink]:
    with HttpSink(settings, CAMERAS, control) as opened:
        assert isinstance(opened, HttpSink)
        yield opened


def events_of(port: int, count: int) -> list[dict[str, object]]:
    """So many events, from a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/events")
        answer, found = connection.getresponse(), []
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        while len(found) < count:
            line = answer.readline().decode()
            if line.startswith("data: {"):
                found.append(json.loads(line.removeprefix("data: ")))
        return found
    finally:
        connection.close()


def test_a_number_too_long_to_be_one_is_refused(sink: HttpSink, settings: HttpOutput) -> None:
    sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
    for after in ("9" * 5000, "9" * 19, "x"):
        assert ask(settings.port, f"/api/cameras/0/picture.jpg?after={after}").status == 404


# --- state


def test_the_state_says_what_was_written(sink: HttpSink, settings: HttpOutput, control: Control) -> None:
    for frame_id, verdict in enumerate(("good", "good", "defect", "no_verdict")):
        sink.write(an_inspection(frame_id, verdict, "left"), FRAME_BGR)
    last = an_inspection(0, "defect", CAMERAS[1])
    sink.write(last, FRAME_BGR, HEAT_MAP)
    sink.came_round(control.status)
    state = ask(settings.port, "/api/state").json
    assert (state["station"], state["state"], state["reason"]) == ("press-3", "armed", None)
    assert state["counts"] == {"good": 2, "defect": 2, "no_verdict": 1}
    assert state["yield_percent"] == 40.0  # what has no verdict is not good
    assert state["classes"] == {"scratch": 2}
    left, right = state["cameras"]
    assert left["counts"] == {"good": 2, "defect": 1, "no_verdict": 1} and left["yield_percent"] == 50.0
    assert right["name"] == CAMERAS[1] and right["last"] == json.loads(last.to_json())
    assert [(p["camera"], p["ratio"], p["verdict"]) for p in state["trend"]] == [
        (0, 0.5, "good"),
        (0, 0.5, "good"),
        (0, 2.25, "defect"),
        (0, None, "no_verdict"),
        (1, 2.25, "defect"),
    ]
    assert 0 <= state["loop_age_s"] < 5 and 0 <= right["age_s"] < 5


def test_a_loop_that_stands_still_is_seen(sink: HttpSink, settings: HttpOutput, control: Control) -> None:
    sink.came_round(control.status)
    sleep(0.4)
    assert 0.4 <= ask(settings.port, "/api/state").json["loop_age_s"] < 5
    sink.came_round(control.status)
    assert ask(settings.port, "/api/state").json["loop_age_s"] < 0.4


def test_states_and_troubles_of_cameras_are_shown(sink: HttpSink, settings: HttpOutput, control: Control) -> None:
    assert ask(settings.port, "/api/state").json["reason"] == "the station is starting"
    control.set_trouble("left", "camera lost: no frame for 5 s")
    sink.came_round(control.status)
    state = ask(settings.port, "/api/state").json
    assert (state["state"], state["cameras"][0]["trouble"]) == ("fault", "camera lost: no frame for 5 s")
    assert ask(settings.port, "/api/pause", {"reason": "lens is cleaned"}).json["state"] == "paused"
    assert not control.is_armed
    sink.came_round(control.status)
    assert ask(settings.port, "/api/state").json["reason"] == "lens is cleaned"
    assert ask(settings.port, "/api/arm", {}).json["state"] == "fault"
    assert control.is_armed


def test_after_a_pause_the_last_verdict_is_no_longer_that_of_the_part(
    sink: HttpSink, settings: HttpOutput, control: Control
) -> None:
    sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
    sink.came_round(control.status)
    assert [c["is_current"] for c in ask(settings.port, "/api/state").json["cameras"]] == [True, False]
    control.pause("test")
    sink.came_round(control.status)
    control.arm("test")
    sink.came_round(control.status)
    assert ask(settings.port, "/api/state").json["cameras"][0]["is_current"] is False
    sink.write(an_inspection(1, "good", "left"), FRAME_BGR)
    assert ask(settings.port, "/api/state").json["cameras"][0]["is_current"] is True


def test_events_bring_what_is_new_and_a_heartbeat(sink: HttpSink, settings: HttpOutput) -> None:
    sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
    timer = threading.Timer(0.3, lambda: sink.write(an_inspection(1, "defect", "left"), FRAME_BGR))
    timer.start()
    first, *others = events_of(settings.port, 4)
    assert first["trend_is_whole"] is True and len(first["trend"]) == 1  # type: ignore[arg-type]
    assert [event["trend_is_whole"] for event in others] == [False] * 3
    assert [len(event["trend"]) for event in others] == [1, 0, 0]  # type: ignore[arg-type]
    assert others[-1]["counts"] == {"good": 1, "defect": 1, "no_verdict": 0}


def test_an_arming_that_is_refused_says_why_until_the_master_part_was_shown(
    settings: HttpOutput, control: Control
) -> None:
    given = MasterPartSettings.model_validate({"parts": [{"name": "good-1", "expect": "good", "camera": CAMERAS[0]}]})
    parts = MasterParts(given, CAMERAS, "bundle", control, lambda text: None)
    with HttpSink(settings, CAMERAS, control):
        answer = ask(settings.port, "/api/arm", {})
        assert (answer.status, answer.json["error"]) == (409, "not armed: master parts to be shown first: good-1")
        assert ask(settings.port, "/api/master", {"name": "x"}).status == 409
        assert ask(settings.port, "/api/master", {"name": "good-1"}).json["state"] == "paused"
        assert parts.is_awaited(CAMERAS[0])
        parts.judged(CAMERAS[0], an_inspection(0, "good", CAMERAS[0]))
        assert ask(settings.port, "/api/arm", {}).json["state"] == "armed"


def test_a_trigger_reaches_the_camera_that_is_named(settings: HttpOutput, control: Control, sink: HttpSink) -> None:
    answer = ask(settings.port, "/api/trigger", {})
    assert answer.status == 409 and "no camera of this station waits for triggers" in answer.json["error"]
    taken: list[tuple[str, str | None, str]] = []
    for name in CAMERAS:
        control.take_triggers(
            name, lambda asked, name=name: taken.append((name, asked.trigger.part_id, asked.trigger.by))
        )
    assert ask(settings.port, "/api/state").json["triggered"] == CAMERAS
    assert ask(settings.port, "/api/trigger", {"camera": "left", "part_id": "7"}).json["trigger_id"] == 1
    assert taken == [("left", "7", "http")]
    assert ask(settings.port, "/api/trigger", b"").json["trigger_id"] == 2
    assert len(taken) == 3
    assert ask(settings.port, "/api/trigger", {"camera": "none"}).status == 409


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/trigger", b"{", "expected JSON with camera, part_id"),
        ("/api/trigger", {"kamera": "x"}, "kamera: Extra inputs are not permitted"),
        ("/api/trigger", {"part_id": 7}, "part_id: Input should be a valid string"),
        ("/api/arm", {"x": 1}, "expected an empty body"),
        ("/api/pause", {"reason": ""}, "at least 1 character"),
    ],
)
def test_a_wish_that_is_wrong_is_told_what_is(
    settings: HttpOutput, sink: HttpSink, path: str, body: object, said: str
) -> None:
    answer = ask(settings.port, path, body)
    assert answer.status == 400 and said in answer.json["error"]


def test_a_body_that_is_too_long_or_never_ends_is_refused(settings: HttpOutput, sink: HttpSink) -> None:
    assert ask(settings.port, "/api/pause", b" " * 70_000).status == 413
    with socket.create_connection(("127.0.0.1", settings.port), timeout=10) as client:
        client.sendall(b"POST /api/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_goes_wrong_costs_nobody_else_anything(
    settings: HttpOutput, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with HttpSink(settings, CAMERAS, control, told.append) as sink:
        assert isinstance(sink, HttpSink)
        sink.write(an_inspection(0, "defect", "left"), np.zeros((0, 0, 3), np.uint8))  # no encoder takes it
        for _ in range(3):
            answer = ask(settings.port, "/api/cameras/0/picture.jpg")
            assert answer.status == 500 and "this went wrong" in answer.json["error"]
        assert ask(settings.port, "/api/state").json["counts"]["defect"] == 1
    assert len(told) == 1 and told[0].startswith("http: GET /api/cameras/0/picture.jpg failed: ")


# --- live pictures


def test_the_picture_is_the_newest_with_what_was_found_in_it(sink: HttpSink, settings: HttpOutput) -> None:
    for shade in (50, 200):
        frame_bgr = np.full((48, 64, 3), shade, np.uint8)
        inspection = an_inspection(shade, "defect", "left")
        sink.write(inspection, frame_bgr, HEAT_MAP)
    answer = ask(settings.port, "/api/cameras/0/picture.jpg")
    decoded = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 64, 3) and abs(float(decoded.mean()) - 200) < 2
    said = json.loads(answer.headers["x-oddkind-said"])
    assert said["number"] == 2 and said["size_wh"] == [64, 48]
    assert (said["result_id"], said["verdict"]) == (inspection.result_id, "defect")
    assert said["regions"][0]["box_xyxy"] == [1, 2, 30, 40] and said["regions"][0]["defect_class"] == "scratch"
    same = ask(settings.port, "/api/cameras/0/picture.jpg", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status, same.content) == (304, b"")
    drawn = [ask(settings.port, f"/api/cameras/0/picture.jpg?view={view}").content for view in ("contour", "heatmap")]
    assert len({answer.content, *drawn}) == 3


def test_who_waits_has_the_next_picture_as_soon_as_it_comes(sink: HttpSink, settings: HttpOutput) -> None:
    sink.write(an_inspection(0, "good", "left"), FRAME_BGR)
    threading.Timer(0.3, lambda: sink.see("left", FRAME_BGR)).start()
    started_s = monotonic()
    answer = ask(settings.port, "/api/cameras/0/picture.jpg?after=1")
    assert 0.25 < monotonic() - started_s < 2.5
    assert json.loads(answer.headers["x-oddkind-said"])["verdict"] is None  # it is paused: nobody judged it
    started_s = monotonic()
    assert ask(settings.port, "/api/cameras/1/picture.jpg").status == 204
    assert 4 < monotonic() - started_s < 8
    for path in (
        "/api/cameras/2/picture.jpg",
        "/api/cameras/0/picture.jpg?view=x",
        "/api/cameras/0/picture.jpg?after=-1",
    ):
        assert ask(settings.port, path).status == 404


def test_nothing_is_encoded_while_nobody_watches_and_once_for_all_who_do(sink: HttpSink, settings: HttpOutput) -> None:
    picture = sink._line.picture(0)
    assert picture
    for frame_id in range(200):
        sink.write(an_inspection(frame_id, "good", "left"), FRAME_BGR)
    assert picture.encodings == 0
    viewers = [threading.Thread(target=ask, args=(settings.port, "/api/cameras/0/picture.jpg")) for _ in range(12)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert picture.encodings == 1


def test_it_is_not_encoded_more_often_than_asked_for(sink: HttpSink, settings: HttpOutput) -> None:
    picture, started_s, number = sink._line.picture(0), monotonic(), 0
    assert picture
    while monotonic() - started_s < 1.0:
        sink.see("left", FRAME_BGR)
        number = json.loads(ask(settings.port, f"/api/cameras/0/picture.jpg?after={number}").headers["x-oddkind-said"])[
            "number"
        ]
    assert 2 <= picture.encodings <= 22  # live_fps is 20


def test_a_record_costs_the_loop_little_while_slow_clients_hang_on(sink: HttpSink, settings: HttpOutput) -> None:
    clients = [socket.create_connection(("127.0.0.1", settings.port), timeout=5) for _ in range(10)]
    for number, client in enumerate(clients):  # they ask, and read nothing of what they are sent
        path = "/api/events" if number % 2 else "/api/cameras/0/picture.jpg?view=heatmap"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    took_ms = []
    for frame_id in range(500):
        started_s = perf_counter()
        sink.write(an_inspection(frame_id, "defect", "left"), FRAME_BGR, HEAT_MAP)
        took_ms.append((perf_counter() - started_s) * 1e3)
        if frame_id % 50 == 0:
            sleep(0.01)
    assert sorted(took_ms)[len(took_ms) // 2] < 1.0
    assert ask(settings.port, "/api/state").json["counts"]["defect"] == 500
    for client in clients:
        client.close()


# --- rejects


def test_the_last_rejects_are_kept_with_their_evidence(sink: HttpSink, settings: HttpOutput) -> None:
    written = [an_inspection(frame_id, "defect", "left") for frame_id in range(5)]
    for inspection in written:
        sink.write(inspection, FRAME_BGR, HEAT_MAP)
        sink.write(an_inspection(9, "good", "left"), FRAME_BGR)
    records = ask(settings.port, "/api/rejects").json["rejects"]
    assert records == [json.loads(inspection.to_json()) for inspection in reversed(written[2:])]
    id_ = written[-1].result_id
    assert ask(settings.port, f"/api/rejects/{id_}").json == records[0]
    for what in ("frame", "heatmap", "crop"):
        answer = ask(settings.port, f"/api/rejects/{id_}/{what}.jpg")
        assert answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
        shape = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR).shape
        assert shape == ((96, 96, 3) if what == "crop" else FRAME_BGR.shape)
    gone = ask(settings.port, f"/api/rejects/{written[0].result_id}/frame.jpg")
    assert gone.status == 404 and "is not kept any more" in gone.json["error"]


def test_rejects_stay_within_their_memory_and_the_newest_is_always_there() -> None:
    rejects = Rejects(keep=10, most_bytes=3 * FRAME_BGR.nbytes)
    made = [Reject(an_inspection(n, "defect"), FRAME_BGR, None) for n in range(5)]
    for reject in made:
        rejects.add(reject)
    assert rejects.newest_first == made[:1:-1]
    huge = Reject(an_inspection(9, "defect"), np.zeros((2000, 2000, 3), np.uint8), None)
    rejects.add(huge)
    assert rejects.newest_first == [huge]
    rejects.add(made[0])
    rejects.add(made[0])  # a file that is inspected again keeps its id
    assert rejects.newest_first == [made[0]] and rejects.seen == 8


def test_a_closed_station_lets_all_who_wait_go(settings: HttpOutput, control: Control) -> None:
    before = threading.active_count()
    with HttpSink(settings, CAMERAS, control), socket.create_connection(("127.0.0.1", settings.port)) as waiting:
        waiting.sendall(b"GET /api/cameras/0/picture.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        events_of(settings.port, 1)
        started_s = monotonic()
    assert monotonic() - started_s < 3
    wait_for(lambda: threading.active_count() == before, timeout_s=5)
