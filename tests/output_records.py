"""Inspections without a bundle, and what a results database holds of them; run as a program, a station to be killed."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from edge.notify import Notify
from edge.outputs.database_sink import DatabaseSettings, DatabaseSink
from edge.outputs.mqtt import MqttSettings
from edge.outputs.station_outputs import Outputs
from edge.outputs.webhook import WebhookSettings
from edge.result import Inspection, Provenance, Region, no_verdict, utc_now
from edge.station.control import Control

FRAME_BGR = np.random.default_rng(7).integers(0, 255, (480, 640, 3), np.uint8)


def an_inspection(frame_id: int, verdict: str = "good", source: str = "camera") -> Inspection:
    """A record such as a camera loop makes."""
    provenance = Provenance(source, frame_id, utc_now())
    if verdict == "no_verdict":
        return no_verdict(provenance, "0" * 16, 1.0, "camera lost: é and \N{SNOWMAN}")
    if verdict == "good":
        return Inspection(provenance, "0" * 16, "good", 0.5, 1.0, latency_ms={"backbone": 5.1})
    region = Region((1, 2, 30, 40), 500, 2.25, "scratch", 0.9)
    return Inspection(provenance, "0" * 16, "defect", 2.25, 1.0, (region,), "scratch", {"backbone": 5.1})


def write(sink: DatabaseSink, count: int, first: int = 0, verdict: str = "good") -> list[str]:
    """So many inspections at once; their ids."""
    inspections = [an_inspection(frame_id, verdict) for frame_id in range(first, first + count)]
    for inspection in inspections:
        sink.write(inspection, FRAME_BGR)
    return [inspection.result_id for inspection in inspections]


def open_outputs(
    database: DatabaseSettings,
    mqtt: MqttSettings | None,
    webhook: WebhookSettings | None,
    notify: Notify,
) -> DatabaseSink:
    """As a station opens them."""
    (sink,) = Outputs(database=database, mqtt=mqtt, webhook=webhook).open(["camera"], notify, Control())
    assert isinstance(sink, DatabaseSink)
    return sink


def query(path: Path, sql: str, *arguments: object) -> list[Any]:
    """Rows; single columns without their tuple. Nothing before there are tables."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            rows = connection.execute(sql, arguments).fetchall()
    except sqlite3.OperationalError:
        return []
    return [row[0] if len(row) == 1 else row for row in rows]


def stored(path: Path) -> list[str]:
    """Ids of all rows, in the order they were stored."""
    return query(path, "SELECT result_id FROM results ORDER BY number")


def in_state(path: Path, state: str, receiver: str) -> list[str]:
    """Ids of letters, in order."""
    sql = "SELECT result_id FROM outbox WHERE state = ? AND receiver = ? ORDER BY number"
    return query(path, sql, state, receiver)


def main(path: str, mqtt_port: str, webhook_url: str, per_s: str) -> None:
    """Write records until killed, `per_s` a second; what each cost the loop goes to stdout, in ms."""
    mqtt = MqttSettings(host="127.0.0.1", port=int(mqtt_port), thumbnails=True) if int(mqtt_port) else None
    webhook = WebhookSettings(url=webhook_url, secret="s3cret", timeout_s=2.0) if webhook_url != "-" else None

    def tell(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")  # in one piece, from whatever thread
        sys.stdout.flush()

    def notify(text: str) -> None:
        tell({"notice": text})

    with open_outputs(DatabaseSettings(file=Path(path)), mqtt, webhook, notify) as sink:
        frame_id = 0
        while True:
            inspection = an_inspection(frame_id, "defect" if frame_id % 10 == 0 else "good")
            started_s = time.perf_counter()
            sink.write(inspection, FRAME_BGR)
            tell({"ms": (time.perf_counter() - started_s) * 1e3})
            frame_id += 1
            time.sleep(1 / float(per_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
