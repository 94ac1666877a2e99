"""MQTT against a real mosquitto: stopped, frozen, refusing, with and without TLS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import jsonschema
import numpy as np
import pydantic
import pytest
from edge_processes import wait_for
from mosquitto import Mosquitto, Subscriber, free_port
from output_records import FRAME_BGR, an_inspection, in_state, query, stored, write
from tls_files import make_certificate

from edge.errors import UsageError
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from edge.outputs.mqtt import MqttReceiver, MqttSettings
from edge.result import record_schema
from edge.station.control import Control


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cameras.live.FIRST_BACK_OFF_S", 0.1)


def station(
    path: Path,
    broker: Mosquitto | int,
    notify: Callable[[str], None] = pytest.fail,
    control: Control | None = None,
    **settings: Any,
) -> DatabaseSink:
    port = broker if isinstance(broker, int) else broker.port
    mqtt = MqttSettings.model_validate({"host": "127.0.0.1", "port": port, **settings})
    return DatabaseSink(DatabaseSettings(file=path), notify, [MqttReceiver(mqtt, control)])


def ids_in(reader: Subscriber) -> list[str]:
    return [json.loads(message.payload)["result_id"] for message in reader.on("/record")]


def states_in(reader: Subscriber) -> list[str]:
    return [json.loads(message.payload)["state"] for message in reader.on("/status")]


# --- what is published


def test_records_arrive_in_order_as_they_are_stored(path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker, "plant/line 3") as reader, station(path, broker, topic_prefix="plant/line 3") as sink:
        ids = write(sink, 50) + write(sink, 1, 50, "defect") + write(sink, 1, 51, "no_verdict")
        wait_for(lambda: len(reader.on("/record")) == 52, timeout_s=30)
    assert ids_in(reader) == ids
    assert [m.payload.decode() for m in reader.on("/record")] == query(path, "SELECT record FROM results")
    for message in reader.on("/record"):
        jsonschema.validate(json.loads(message.payload), record_schema())
    first = reader.on("/record")[0]
    assert (first.topic, first.qos, first.retain) == ("plant/line 3/record", 1, False)
    assert first.properties is not None
    assert first.properties.ContentType == "application/json"
    assert first.properties.UserProperty == [("result_id", ids[0])]
    assert in_state(path, "delivered", "mqtt") == ids


def test_status_says_online_then_offline_and_is_retained(path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker) as early:
        with station(path, broker):
            wait_for(lambda: states_in(early) == ["online"], timeout_s=30)
        wait_for(lambda: states_in(early) == ["online", "offline"], timeout_s=30)
    assert "at" in json.loads(early.on("/status")[0].payload)
    with Subscriber(broker, "oddkind/status") as late:
        wait_for(lambda: states_in(late), timeout_s=30)
    assert (states_in(late), late.messages[0].retain) == (["offline"], True)


def test_the_status_says_when_the_station_is_paused_or_in_fault(path: Path, broker: Mosquitto) -> None:
    control = Control()
    with Subscriber(broker) as reader, station(path, broker, control=control):
        for change in (lambda: control.pause("page"), lambda: control.arm("page")):
            wait_for(lambda: reader.on("/status"), timeout_s=30)
            before = len(reader.on("/status"))
            change()
            wait_for(lambda before=before: len(reader.on("/status")) > before, timeout_s=30)
        control.set_trouble("left", "camera lost: pulled")
        wait_for(lambda: len(reader.on("/status")) == 4, timeout_s=30)
    said = [json.loads(message.payload) for message in reader.on("/status")][:4]
    assert [status["station"] for status in said] == ["armed", "paused", "armed", "fault"]
    assert [status["reason"] for status in said] == [None, "paused by page", None, "left: camera lost: pulled"]


# --- commands


def test_commands_arm_pause_and_trigger_and_are_answered(path: Path, broker: Mosquitto) -> None:
    control, taken = Control(), []
    control.take_triggers("left", taken.append)
    asked = [
        ({"command": "pause", "reason": "cleaning"}, {"state": "paused", "reason": "cleaning"}),
        ({"command": "arm"}, {"state": "armed", "reason": None}),
        ({"command": "trigger", "part_id": "A-17"}, {"trigger_id": 1, "state": "armed", "reason": None}),
        ({"command": "trigger", "camera": "top"}, {"error": "no triggered camera is called 'top'; there are: left"}),
        (
            {"command": "explode"},
            {"error": "not a command: command: Input should be 'trigger', 'arm', 'pause' or 'master'"},
        ),
        ({"command": "arm", "part_id": "x"}, {"error": "not a command: arm has no part_id"}),
    ]
    with Subscriber(broker) as reader, station(path, broker, control=control, commands=True):
        wait_for(lambda: states_in(reader) == ["online"], timeout_s=30)
        for count, (command, _) in enumerate(asked, start=1):
            reader.publish("oddkind/command", json.dumps(command), correlation=b"%d" % count)
            wait_for(lambda count=count: len(reader.on("/answer")) == count, timeout_s=30)
    assert [json.loads(message.payload) for message in reader.on("/answer")] == [answer for _, answer in asked]
    assert [m.properties.CorrelationData for m in reader.on("/answer")] == [b"%d" % n for n in range(1, len(asked) + 1)]
    assert [(one.trigger.by, one.trigger.part_id) for one in taken] == [("mqtt", "A-17")]


@pytest.mark.parametrize("topic", ["oddkind/status", "oddkind/record", "oddkind/command"])
def test_who_may_command_does_not_speak_for_the_station(path: Path, broker: Mosquitto, topic: str) -> None:
    control = Control()
    both = Subscriber(broker), Subscriber(broker, "mes")
    with both[0] as reader, both[1] as mes, station(path, broker, control=control, commands=True):
        wait_for(lambda: states_in(reader) == ["online"], timeout_s=30)
        reader.publish("oddkind/command", '{"command": "pause"}', response_topic=topic)
        wait_for(lambda: reader.on("/answer"), timeout_s=30)
        assert (
            "not done: answers do not go to topics of the station"
            in json.loads(reader.on("/answer")[0].payload)["error"]
        )
        assert control.is_armed
        reader.publish("oddkind/command", '{"command": "pause"}', response_topic="mes/answers")
        wait_for(lambda: mes.on("mes/answers"), timeout_s=30)
    assert json.loads(mes.on("mes/answers")[0].payload)["state"] == "paused"


def test_a_retained_command_is_not_obeyed_and_without_leave_none_is(path: Path, broker: Mosquitto) -> None:
    control, deaf = Control(), Control()
    with Subscriber(broker) as reader:
        reader.publish("oddkind/command", '{"command": "pause"}', retain=True)
        wait_for(lambda: reader.on("/command"), timeout_s=30)
        with station(path, broker, control=control, commands=True):
            wait_for(lambda: states_in(reader), timeout_s=30)
            reader.publish("oddkind/command", "x" * 20_000)
            wait_for(lambda: reader.on("/answer"), timeout_s=30)  # so the retained one, which came first, was seen
        with station(path, broker, control=deaf):
            wait_for(lambda: states_in(reader).count("online") == 2, timeout_s=30)
            reader.publish("oddkind/command", '{"command": "pause"}')
            sleep(0.5)
    assert control.is_armed
    assert deaf.is_armed
    (answer,) = reader.on("/answer")
    assert json.loads(answer.payload) == {"error": "a command of 20000 bytes; expected 10000 at most"}


def test_a_station_that_dies_is_lost_by_the_word_of_the_broker(
    path: Path, broker: Mosquitto, start_child: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with Subscriber(broker) as reader:
        child = start_child(path, mqtt_port=broker.port)
        wait_for(lambda: "online" in states_in(reader), timeout_s=20)
        child.kill()
        wait_for(lambda: states_in(reader) == ["online", "lost"], timeout_s=30)


def test_thumbnails_are_of_rejects_alone_and_small(path: Path, broker: Mosquitto) -> None:
    with (
        Subscriber(broker) as reader,
        station(path, broker, thumbnails=True, thumbnail_side_px=160, thumbnail_max_bytes=5000) as sink,
    ):
        write(sink, 2)
        (reject,) = write(sink, 1, 2, "defect")
        wait_for(lambda: len(reader.messages) == 5, timeout_s=30)  # the status is one
    (thumbnail,) = reader.on(f"oddkind/thumbnail/{reject}")
    assert len(thumbnail.payload) <= 5000
    assert cv2.imdecode(np.frombuffer(thumbnail.payload, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    assert thumbnail.properties is not None and thumbnail.properties.ContentType == "image/jpeg"
    assert query(path, "SELECT count(thumbnail) FROM outbox") == [0]


def test_without_thumbnails_a_reject_is_a_record_alone(path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker) as reader, station(path, broker) as sink:
        write(sink, 1, verdict="defect")
        wait_for(lambda: reader.on("/record"), timeout_s=30)
        sleep(0.2)
    assert len(reader.messages) == 3  # and two of the status


# --- outages


def test_a_broker_that_is_stopped_gets_everything_later_in_order(path: Path, broker: Mosquitto) -> None:
    notices: list[str] = []
    ids: list[str] = []
    with Subscriber(broker) as reader, station(path, broker, notices.append) as sink:
        for number in range(60):
            if number == 20:
                broker.stop()
            if number == 40:
                wait_for(lambda: notices, timeout_s=30)
                broker.start()
            ids += write(sink, 1, number)
            sleep(0.01)
        wait_for(lambda: set(ids) <= set(ids_in(reader)), timeout_s=20)
        wait_for(lambda: len(notices) == 2, timeout_s=20)
    assert list(dict.fromkeys(ids_in(reader))) == ids
    assert len(ids_in(reader)) <= 60 + 20  # what was under way when the broker went
    assert "Connection refused; records wait in" in notices[0]
    assert "takes records again" in notices[1]


def test_records_of_a_run_without_broker_go_out_with_the_next_one(path: Path, broker: Mosquitto) -> None:
    broker.stop()
    with station(path, broker, notify=lambda text: None) as sink:
        ids = write(sink, 30)
    assert in_state(path, "waiting", "mqtt") == ids
    broker.start()
    with Subscriber(broker) as reader, station(path, broker):
        wait_for(lambda: len(ids_in(reader)) == 30, timeout_s=30)
    assert ids_in(reader) == ids


def test_a_broker_that_hangs_is_noticed_and_holds_neither_loop_nor_end(path: Path, broker: Mosquitto) -> None:
    notices: list[str] = []
    with Subscriber(broker) as reader, station(path, broker, notices.append, timeout_s=0.5, keepalive_s=1) as sink:
        ids = write(sink, 1)
        wait_for(lambda: ids_in(reader) == ids, timeout_s=30)
        broker.freeze()
        started_s = monotonic()
        ids += write(sink, 5, 1)
        assert monotonic() - started_s < 1.0
        wait_for(lambda: notices, timeout_s=30)
        assert stored(path) == ids
        broker.thaw()
        wait_for(lambda: set(ids) <= set(ids_in(reader)), timeout_s=20)
        broker.freeze()
        started_s = monotonic()
    assert monotonic() - started_s < 5
    assert list(dict.fromkeys(ids_in(reader))) == ids


def test_a_broker_that_was_idle_when_it_went_is_told_that_we_are_back(path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker) as reader, station(path, broker, notify=lambda text: None):
        wait_for(lambda: states_in(reader) == ["online"], timeout_s=30)
        broker.stop()
        broker.start()
        wait_for(lambda: states_in(reader)[-1] == "online" and len(states_in(reader)) > 1, timeout_s=30)


# --- refusals


def test_a_record_larger_than_the_broker_takes_is_set_aside_and_the_others_go_on(tmp_path: Path, path: Path) -> None:
    notices: list[str] = []
    with (
        Mosquitto(tmp_path / "broker", "max_packet_size 2000") as broker,
        Subscriber(broker) as reader,
        station(path, broker, notices.append, thumbnails=True) as sink,
    ):
        ids = write(sink, 1)
        sink.write(an_inspection(1, source="s" * 3000), FRAME_BGR)
        ids += write(sink, 1, 2, "defect")  # its thumbnail is too large as well, and left out
        wait_for(lambda: len(ids_in(reader)) == 2, timeout_s=30)
    assert ids_in(reader) == ids
    reasons = query(path, "SELECT reason FROM outbox WHERE state = 'refused'")
    assert len(reasons) == len(notices) == 1
    assert reasons[0].endswith("bytes, the broker takes 2000")
    assert "was refused" in notices[0] and "set aside so far: 1" in notices[0]


def test_a_message_that_the_broker_says_is_too_large_is_set_aside(tmp_path: Path, path: Path) -> None:
    notices: list[str] = []
    with (
        Mosquitto(tmp_path / "broker", "message_size_limit 2000") as broker,
        Subscriber(broker) as reader,
        station(path, broker, notices.append) as sink,
    ):
        ids = write(sink, 5)
        sink.write(an_inspection(5, source="s" * 3000), None)
        ids += write(sink, 5, 6)
        wait_for(lambda: list(dict.fromkeys(ids_in(reader))) == ids, timeout_s=30)
    (reason,) = query(path, "SELECT reason FROM outbox WHERE state = 'refused'")
    assert reason.startswith("the broker ended the connection over it")
    assert in_state(path, "delivered", "mqtt") == ids


def test_a_topic_we_may_not_write_holds_the_records_until_we_may(tmp_path: Path, path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic read #\ntopic write oddkind/status\n")
    notices: list[str] = []
    with Mosquitto(tmp_path / "broker", f"acl_file {rights}") as broker:
        with station(path, broker, notices.append) as sink:
            ids = write(sink, 3)
            wait_for(lambda: notices, timeout_s=30)
            assert in_state(path, "waiting", "mqtt") == ids
        assert "the broker answers: Not authorized; records wait" in notices[0]
        broker.stop()
        rights.write_text("topic readwrite #\n")
        broker.start()
        with Subscriber(broker) as reader, station(path, broker):
            wait_for(lambda: ids_in(reader) == ids, timeout_s=30)


def test_a_broker_that_takes_one_message_at_a_time_gets_one_at_a_time(tmp_path: Path, path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", "max_inflight_messages 1") as broker,
        Subscriber(broker) as reader,
        station(path, broker, thumbnails=True) as sink,
    ):
        ids = write(sink, 30, verdict="defect")
        wait_for(lambda: len(ids_in(reader)) == 30, timeout_s=30)
    assert ids_in(reader) == ids


# --- credentials


def with_password(tmp_path: Path) -> tuple[str, str]:
    passwords = tmp_path / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", passwords, "station", "hunter2"]
    subprocess.run(command, check=True, capture_output=True)
    return "allow_anonymous false", f"password_file {passwords}"


def test_a_wrong_password_is_told_without_it_and_the_right_one_is_let_in(tmp_path: Path, path: Path) -> None:
    notices: list[str] = []
    with Mosquitto(tmp_path / "broker", *with_password(tmp_path)) as broker:
        with station(path, broker, notices.append, username="station", password="letmein") as sink:
            ids = write(sink, 1)
            wait_for(lambda: notices, timeout_s=30)
        assert f"mqtt 127.0.0.1:{broker.port}: the broker refuses: Not authorized" in notices[0]
        assert "letmein" not in "".join(notices)
        (tmp_path / "secret").write_text("hunter2\n")
        with station(path, broker, username="station", password_file=tmp_path / "secret"):
            wait_for(lambda: in_state(path, "delivered", "mqtt") == ids, timeout_s=30)


def test_tls_with_a_certificate_we_trust_and_with_one_we_do_not(tmp_path: Path, path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "tls")
    stranger, _ = make_certificate(tmp_path / "tls", "stranger")
    notices: list[str] = []
    with Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}") as broker:
        with station(path, broker, notices.append, tls=True, ca_file=stranger) as sink:
            ids = write(sink, 1)
            wait_for(lambda: notices, timeout_s=30)
        assert "certificate verify failed" in notices[0]
        with station(path, broker, tls=True, ca_file=certificate):
            wait_for(lambda: in_state(path, "delivered", "mqtt") == ids, timeout_s=30)


def test_a_broker_that_wants_our_certificate_gets_it(tmp_path: Path, path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "tls")
    tls = (f"certfile {certificate}", f"keyfile {key}", f"cafile {certificate}", "require_certificate true")
    ours = {"tls": True, "ca_file": certificate, "cert_file": certificate, "key_file": key}
    with Mosquitto(tmp_path / "broker", *tls) as broker, station(path, broker, **ours) as sink:
        ids = write(sink, 1)
        wait_for(lambda: in_state(path, "delivered", "mqtt") == ids, timeout_s=30)


def test_passwords_are_not_shown_by_settings() -> None:
    settings = MqttSettings.model_validate({"host": "broker", "username": "u", "password": "hunter2"})
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert "hunter2" not in repr(MqttReceiver(settings)._broker)


# --- wrong settings

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an address": ({"host": "mqtt://broker"}, "String should match pattern"),
    "no port": ({"port": 0}, "greater than or equal to 1"),
    "unknown key": ({"hots": "broker"}, "Extra inputs are not permitted"),
    "wildcard": ({"topic_prefix": "line/#"}, "no wildcards"),
    "empty level": ({"topic_prefix": "line//3"}, "no empty level"),
    "nothing": ({"topic_prefix": ""}, "no empty level"),
    "two passwords": ({"username": "u", "password": "x", "password_file": "f"}, "not both"),
    "password of nobody": ({"password": "x"}, "needs a `username`"),
    "authority without TLS": ({"ca_file": "ca.pem"}, "need `tls: true`"),
    "key alone": ({"tls": True, "key_file": "k.pem"}, "`key_file` needs `cert_file`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_named(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(pydantic.ValidationError) as caught:
        MqttSettings.model_validate({"host": "broker", **changes})
    (error,) = caught.value.errors()
    assert message in error["msg"]
    assert "\n" not in error["msg"]


def test_files_that_cannot_be_used_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "text").write_text("no certificate")
    login = {"username": "u"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**login, "password_file": tmp_path / "absent"}, "cannot be read .No such file"),
        ({**login, "password_file": tmp_path / "empty"}, "expected a secret in its first line"),
        ({"tls": True, "ca_file": tmp_path / "absent"}, "certificates in PEM cannot be read"),
        ({"tls": True, "ca_file": tmp_path / "text"}, "certificates in PEM cannot be read"),
        ({"tls": True, "cert_file": tmp_path / "text"}, "not a certificate and its key"),
    ]
    for changes, message in cases:
        with pytest.raises(UsageError, match=message) as caught:
            MqttReceiver(MqttSettings.model_validate({"host": "broker", **changes}))
        assert "\n" not in str(caught.value)


def test_a_host_that_does_not_exist_is_told_and_holds_nothing(path: Path) -> None:
    notices: list[str] = []
    with station(path, free_port(), notices.append, host="no-such-host.invalid") as sink:
        ids = write(sink, 3)
        wait_for(lambda: notices, timeout_s=30)
        assert stored(path) == ids
    assert notices[0].startswith("mqtt no-such-host.invalid:")
