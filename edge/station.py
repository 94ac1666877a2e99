"""One inspection station put together: camera, inspector and sinks, opened and closed in one place."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge.camera import open_camera
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.live_camera import LOST_AFTER_S
from edge.loop import RunSummary, run, say, stopped_by_signals
from edge.manifest import BackendName, Precision
from edge.sinks import AnnotatedFrameSink, JsonLinesSink, Notify, Sink

KEEP_ANNOTATED = 1000


@dataclass(frozen=True)
class Station:
    """What `oddkind run` is told. out: None is stdout. threads: 0 means every core."""

    bundle: Path
    source: str
    classes_path: Path | None = None
    out: Path | None = None
    annotated: Path | None = None
    keep_annotated: int = KEEP_ANNOTATED
    max_frames: int | None = None
    always_type: bool = False
    lost_after_s: float = LOST_AFTER_S
    wait_for_camera: bool = False
    backend: BackendName | None = None
    precision: Precision | None = None
    threads: int = 1


def run_station(station: Station, notify: Notify = say) -> RunSummary:
    """Inspect until the source ends, enough frames are seen, or SIGINT or SIGTERM comes (main thread only)."""
    s = station
    _refuse_feedback(s)
    with stopped_by_signals() as stop, ExitStack() as opened:
        camera = opened.enter_context(open_camera(s.source, s.lost_after_s, s.wait_for_camera))
        inspector = Inspector.load(s.bundle, s.backend, s.precision, s.threads, s.classes_path)
        sinks: list[Sink] = [opened.enter_context(JsonLinesSink(s.out))]
        if s.annotated:
            sinks.append(opened.enter_context(AnnotatedFrameSink(s.annotated, s.keep_annotated, notify)))
        return run(camera, inspector, sinks, s.max_frames, stop, s.always_type, notify)


def _refuse_feedback(station: Station) -> None:
    """The next run would inspect this run's annotated frames as if they were parts."""
    source = Path(station.source)
    if station.annotated and source.is_dir() and station.annotated.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"--annotated {station.annotated} lies in the source folder {source}; choose another folder")
