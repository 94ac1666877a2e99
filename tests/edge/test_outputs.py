"""All outputs together: killed at random moments, and put together as a station."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest
from delivery import Delivery, gaps
from edge_processes import wait_for
from mosquitto import Mosquitto, Subscriber, free_port
from output_records import in_state, open_outputs, query, stored, write
from webhook_server import WebhookServer

from edge.errors import UsageError
from edge.outputs.database_sink import DatabaseSettings
from edge.outputs.mqtt import MqttReceiver, MqttSettings
from edge.outputs.record_files import RecordsOutput
from edge.outputs.station_outputs import Outputs
from edge.outputs.webhook import WebhookSettings
from edge.station.check import check_station
from edge.station.file import CameraEntry, Station
from edge.station.run import run_station

KILLS = 6
IN_FLIGHT = 20  # MQTT messages that may be repeated after a kill


def receivers(broker: Mosquitto | int, url: str) -> tuple[MqttSettings, WebhookSettings]:
    port = broker if isinstance(broker, int) else broker.port
    return MqttSettings(host="127.0.0.1", port=port), WebhookSettings(url=url, timeout_s=2.0)


def test_killed_at_random_moments_nothing_stored_is_lost_or_out_of_order(
    tmp_path: Path, start_child: Callable[..., subprocess.Popen[bytes]]
) -> None:
    path, moments = tmp_path / "results.db", random.Random(5)
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as reader, WebhookServer() as server:
        for _ in range(KILLS):
            child, before = start_child(path, broker.port, server.url, per_s=200), len(stored(path))
            wait_for(lambda before=before: len(stored(path)) > before, timeout_s=30)
            sleep(moments.uniform(0.0, 0.8))
            seen = stored(path)
            child.kill()
            child.wait()
            assert stored(path)[: len(seen)] == seen
        with open_outputs(DatabaseSettings(file=path), *receivers(broker, server.url), notify=pytest.fail):
            wait_for(lambda: query(path, "SELECT count(*) FROM outbox WHERE state = 'waiting'") == [0], timeout_s=20)
        due = len(stored(path))
        wait_for(lambda: len({m.payload for m in reader.on("/record")}) == due, timeout_s=20)
    arrivals = [json.loads(message.payload)["result_id"] for message in reader.on("/record")]
    by_mqtt, by_webhook = Delivery.of(path, arrivals), Delivery.of(path, server.taken)
    assert by_mqtt.records > 10 * KILLS
    for delivery, most_repeated in ((by_mqtt, KILLS * IN_FLIGHT), (by_webhook, KILLS)):
        assert (delivery.lost, delivery.foreign, delivery.is_in_order) == (0, 0, True)
        assert delivery.repeated <= most_repeated
    assert broker.received("oddkind/record") - by_mqtt.records <= KILLS * IN_FLIGHT
    assert gaps(path) == 0
    assert query(path, "PRAGMA integrity_check") == ["ok"]


def test_a_receiver_that_is_down_does_not_hold_the_other(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with WebhookServer() as server:
        settings = receivers(free_port(), server.url)
        with open_outputs(DatabaseSettings(file=path), *settings, notify=lambda text: None) as sink:
            ids = write(sink, 20)
            wait_for(lambda: server.taken == ids, timeout_s=30)
    assert in_state(path, "waiting", "mqtt") == ids


def test_closed_outputs_leave_no_thread_and_no_file_open(tmp_path: Path) -> None:
    def open_files() -> list[str]:
        return sorted(str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists())

    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith(("oddkind-", "paho"))]

    with Mosquitto(tmp_path / "broker") as broker, WebhookServer() as server:
        for number in range(3):
            with open_outputs(
                DatabaseSettings(file=tmp_path / "results.db"), *receivers(broker, server.url), notify=pytest.fail
            ) as sink:
                write(sink, 2)
                wait_for(lambda number=number: len(server.taken) == 2 * (number + 1), timeout_s=30)
                assert len(ours()) >= 4  # the writer, two couriers, paho's reader
            assert ours() == []
            names = [name for name in open_files() if "results.db" in name]
            assert names == []


def test_mqtt_without_paho_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(UsageError, match="pip install 'oddkind\\[station\\]'"):
        MqttReceiver(MqttSettings(host="broker"))


# --- as a station


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_a_station_inspects_stores_and_delivers(
    bundle: Path, good_dir: Path, defects_dir: Path, tmp_path: Path
) -> None:
    path, pictures, out = tmp_path / "results.db", tmp_path / "parts", tmp_path / "results.jsonl"
    pictures.mkdir()
    shutil.copy(min(good_dir.rglob("*.png")), pictures / "a.png")
    shutil.copy(min(defects_dir.rglob("*.png")), pictures / "b.png")
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as reader, WebhookServer() as server:
        mqtt = MqttSettings(host="127.0.0.1", port=broker.port, thumbnails=True)
        outputs = Outputs(
            records=RecordsOutput(file=out),
            database=DatabaseSettings(file=path),
            mqtt=mqtt,
            webhook=WebhookSettings(url=server.url),
        )
        station = Station(bundle=bundle, cameras=[CameraEntry(source=str(pictures))], outputs=outputs)
        for run in (1, 2):  # the second inspects the same files: rows again, nothing to deliver
            assert run_station(station, notify=pytest.fail).frames == 2
            assert len(stored(path)) == 2 * run
        wait_for(lambda: len(reader.on("/record")) == 2, timeout_s=20)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [json.loads(record) for record in query(path, "SELECT record FROM results ORDER BY number")] == records
    assert [json.loads(message.payload) for message in reader.on("/record")] == records[:2]
    assert [json.loads(request.body) for request in server.requests] == records[:2]
    assert [m.topic for m in reader.messages if "thumbnail" in m.topic] == [
        f"oddkind/thumbnail/{records[1]['result_id']}"
    ]


FILE = """\
bundle: bundle
cameras: [{source: pictures}]
outputs:
  database: {file: ., batch_s: 3}
  mqtt: {host: "mqtt://broker", topic_prefix: "line/#", password: 5, key_file: gone.key}
  webhook: {url: "https://user:hunter2@host/", secret_file: gone, timeout: 3}
"""
SAYS = """\
4: outputs.database.batch_s: expected a number, 0.01 to 0.5; got 3
4: outputs.database.file: . is a folder; name a file
5: outputs.mqtt.host: expected a host name or an IP address, without scheme and port; got 'mqtt://broker'
5: outputs.mqtt.key_file: no such file: gone.key
5: outputs.mqtt.password: expected text; got ***
5: outputs.mqtt.topic_prefix: expected a topic such as `plant/line-3`
6: outputs.webhook.secret_file: no such file: gone
6: outputs.webhook.timeout: unknown key; did you mean timeout_s? allowed here: url, secret, secret_file
6: outputs.webhook.url: a login in the address would end up in logs
"""


def problems(folder: Path, content: str) -> list[str]:
    (folder / "station.yaml").write_text(content)
    found = check_station(folder / "station.yaml").problems
    return sorted(str(problem) for problem in found if "outputs" in str(problem))


def test_a_station_file_is_told_everything_wrong_with_its_outputs(tmp_path: Path) -> None:
    said, due = problems(tmp_path, FILE), SAYS.splitlines()
    assert [line[: len(start)] for line, start in zip(said, due, strict=True)] == due
    assert "hunter2" not in "".join(said)


def test_receivers_without_a_database_are_one_clear_line(tmp_path: Path) -> None:
    content = "bundle: b\ncameras: [{source: p}]\noutputs:\n  webhook: {url: 'https://host/'}\n"
    (said,) = problems(tmp_path, content)
    assert said.endswith("mqtt and webhook need a database, where records wait until they are delivered")


def test_outputs_say_in_words_what_they_do_and_no_secret() -> None:
    outputs = Outputs.model_validate(
        {
            "database": {"file": "r.db"},
            "mqtt": {"host": "b", "tls": True, "username": "u", "password": "hunter2", "thumbnails": True},
            "webhook": {"url": "https://h:1/T0K3N", "secret": "hunter2"},
        }
    )
    assert [output.in_words() for output in outputs.given] == [
        "database r.db",
        "MQTT to b:8883 with TLS, oddkind/record, thumbnails too",
        "webhook to https://h:1, signed",
    ]
