"""One inspection station put together: cameras, inspector and sinks, opened and closed in one place."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.camera import open_camera
from edge.camera_address import printable, redacted, url_scheme
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.live_camera import LOST_AFTER_S
from edge.loop import run, stopped_by_signals
from edge.manifest import BackendChoice, Precision
from edge.notify import Notify, say
from edge.run_summary import RunSummary
from edge.sinks import AnnotatedFrameSink, JsonLinesSink, Sink

if TYPE_CHECKING:
    from edge.database_sink import DatabaseSettings
    from edge.mqtt import MqttSettings
    from edge.webhook import WebhookSettings

KEEP_ANNOTATED = 1000


@dataclass(frozen=True)
class Station:
    """What `oddkind run` is told. sources: at least one. out: None is stdout. threads: 0 means every core.

    mqtt, webhook: need a database, where records wait until they are delivered.
    """

    bundle: Path
    sources: tuple[str, ...]
    classes_path: Path | None = None
    out: Path | None = None
    annotated: Path | None = None
    keep_annotated: int = KEEP_ANNOTATED
    max_frames: int | None = None
    always_type: bool = False
    lost_after_s: float = LOST_AFTER_S
    wait_for_camera: bool = False
    backend: BackendChoice | None = None
    precision: Precision | None = None
    threads: int = 1
    database: DatabaseSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None


def run_station(station: Station, notify: Notify = say) -> RunSummary:
    """Inspect until every source ends, enough frames are seen, or SIGINT or SIGTERM comes (main thread only)."""
    s = station
    _refuse_feedback(s)
    _refuse_twins(s.sources)
    with stopped_by_signals() as stop, ExitStack() as opened:
        cameras = [opened.enter_context(open_camera(source, s.lost_after_s, s.wait_for_camera)) for source in s.sources]
        inspector = Inspector.load(s.bundle, s.backend, s.precision, s.threads, s.classes_path)
        sinks: list[Sink] = [opened.enter_context(JsonLinesSink(s.out))]
        if s.annotated:
            names = [camera.name for camera in cameras] if len(cameras) > 1 else []
            sinks.append(opened.enter_context(AnnotatedFrameSink(s.annotated, s.keep_annotated, notify, names)))
        if s.database or s.mqtt or s.webhook:
            from edge.outputs import open_outputs  # brings what few stations need

            sinks.append(opened.enter_context(open_outputs(s.database, s.mqtt, s.webhook, notify)))
        return run(cameras, inspector, sinks, s.max_frames, stop, s.always_type, notify)


def _refuse_feedback(station: Station) -> None:
    """The next run would inspect this run's annotated frames as if they were parts."""
    annotated = station.annotated
    for source in map(Path, station.sources):
        if annotated and source.is_dir() and annotated.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"--annotated {annotated} lies in the source folder {source}; choose another folder")


def _refuse_twins(sources: Sequence[str]) -> None:
    """Records say which camera they are of by the name of the source alone, as it may be shown."""
    for name, count in Counter(map(_identity, sources)).items():
        if count > 1:
            raise UsageError(f"--source {name} is given {count} times; give every camera once")


def _identity(source: str) -> str:
    is_path = url_scheme(source) is None and os.path.exists(source)  # noqa: PTH110  # Path.exists raises on long names
    return printable(Path(source).resolve()) if is_path else redacted(source)
