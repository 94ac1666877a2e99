"""A minute without broker and webhook, twenty records a second, killed twenty times in between."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from delivery import Delivery, gaps
from edge_processes import wait_for
from mosquitto import Mosquitto, Subscriber
from output_records import open_outputs, query, stored
from webhook_server import WebhookServer

from edge.outputs.database_sink import DatabaseSettings
from edge.outputs.mqtt import MqttSettings
from edge.outputs.webhook import WebhookSettings

OUTAGE_S, KILLS, PER_S = 60.0, 20, 20.0
IN_FLIGHT = 20
CATCH_UP_S = 60.0  # of which a receiver's longest pause between attempts is 12


def waiting(path: Path) -> int:
    return sum(query(path, "SELECT count(*) FROM outbox WHERE state = 'waiting'"))


def receivers(broker: Mosquitto, server: WebhookServer) -> tuple[MqttSettings, WebhookSettings]:
    return MqttSettings(host="127.0.0.1", port=broker.port), WebhookSettings(url=server.url)


def test_a_minute_of_outage_and_twenty_kills_lose_nothing(
    tmp_path: Path, start_child: Callable[..., subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, moments = tmp_path / "results.db", random.Random(11)
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker) as reader, WebhookServer() as server:

        def start() -> subprocess.Popen[bytes]:
            return start_child(path, broker.port, server.url, PER_S)

        child = start()
        wait_for(lambda: len(stored(path)) > 40 and waiting(path) < 10, timeout_s=30)
        broker.stop()
        server.stop()
        ends_s = monotonic() + OUTAGE_S
        for number in range(KILLS):
            due_s = ends_s - OUTAGE_S * (1 - (number + moments.random()) / KILLS)
            sleep(max(0.0, due_s - monotonic()))
            seen = stored(path)
            child.kill()
            child.wait()
            assert stored(path)[: len(seen)] == seen
            child = start()
        sleep(max(0.0, ends_s - monotonic()))
        backlog = waiting(path)
        broker.start()
        server.start()
        started_s = monotonic()
        wait_for(lambda: waiting(path) < 10, CATCH_UP_S)  # records go on meanwhile
        caught_up_s = monotonic() - started_s
        child.kill()
        child.wait()
        with open_outputs(DatabaseSettings(file=path), *receivers(broker, server), notify=pytest.fail):
            wait_for(lambda: waiting(path) == 0, CATCH_UP_S)
        due = len(stored(path))
        wait_for(lambda: len({m.payload for m in reader.on("/record")}) == due, timeout_s=30)
        arrivals = [json.loads(message.payload)["result_id"] for message in reader.on("/record")]
    by_mqtt, by_webhook = Delivery.of(path, arrivals), Delivery.of(path, server.taken)
    sent_twice = broker.received("oddkind/record") - by_mqtt.records
    lines = path.with_suffix(".log").read_text().splitlines()
    costs_ms = sorted(float(line[7:-1]) for line in lines if re.fullmatch(r'\{"ms": [\d.e-]+\}', line))  # some are torn
    with capsys.disabled():
        print(f"\nrecords {by_mqtt.records}, waiting when the receivers came back {backlog}, caught up in")
        print(f"{caught_up_s:.1f} s; on the loop's thread {costs_ms[len(costs_ms) // 2]:.3f} ms a record,")
        print(f"99 % under {costs_ms[int(len(costs_ms) * 0.99)]:.3f} ms")
        print(f"published twice {sent_twice}; MQTT reader {by_mqtt}; webhook {by_webhook}")
    for delivery, most_repeated in ((by_mqtt, (KILLS + 2) * IN_FLIGHT), (by_webhook, KILLS + 2)):
        assert (delivery.lost, delivery.foreign, delivery.is_in_order) == (0, 0, True)
        assert delivery.repeated <= most_repeated
    assert sent_twice <= (KILLS + 2) * IN_FLIGHT
    assert gaps(path) == 0
    assert backlog > OUTAGE_S * PER_S / 4
