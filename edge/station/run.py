"""One inspection station put together: cameras, inspector and sinks, opened and closed in one place."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from edge.cameras.address import identity
from edge.cameras.faults import FaultWatch
from edge.cameras.frames import Camera
from edge.cameras.gpio_trigger import EdgeWatch
from edge.cameras.line_triggered import LineTriggeredCamera
from edge.cameras.sources import open_camera, watch_folder
from edge.cameras.triggered import TriggeredCamera
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.loop import run, stopped_by_signals
from edge.notify import Notify, say
from edge.run_summary import RunSummary
from edge.setting import InspectorSetting
from edge.station.control import Control
from edge.station.file import CameraEntry, Station
from edge.station.master_parts import MasterParts
from edge.station.service_manager import ServiceManager


def run_station(station: Station, notify: Notify = say, watch_faults: bool = True) -> RunSummary:
    """Inspect until every source ends, enough frames are seen, or SIGINT or SIGTERM comes (main thread only).

    watch_faults: frozen, dark, overexposed pictures and those of another size get no verdict.
    """
    s = station
    refuse_feedback(s)
    refuse_twins(s)
    with stopped_by_signals() as stop, ExitStack() as opened:
        control = Control(station=s.name)
        cameras = [opened.enter_context(_open(entry, control, notify)) for entry in s.cameras]
        inspector = Inspector.load(s.bundle, s.runtime.backend, s.runtime.precision, s.runtime.threads, s.classes)
        control.setting = InspectorSetting.of(inspector, s.runtime.threads)
        names = [camera.name for camera in cameras]
        control.triggered_cameras = tuple(camera.name for camera in cameras if isinstance(camera, TriggeredCamera))
        if s.master_parts:
            MasterParts(s.master_parts, names, inspector.manifest.bundle_id, control, notify)
        sinks = [opened.enter_context(sink) for sink in s.outputs.open(names, notify, control)]
        watches = [
            None if isinstance(camera, TriggeredCamera) else _watch(entry, camera, notify)  # it has its own
            for entry, camera in zip(s.cameras, cameras, strict=True)
        ]
        manager = opened.enter_context(ServiceManager.of_environment(notify))
        looked_for = watches if watch_faults else ()
        for entry, camera in zip(s.cameras, cameras, strict=True):
            if edges := _edges(entry, camera, control, notify):
                opened.enter_context(edges)
        return run(cameras, inspector, sinks, s.max_frames, stop, s.always_type, notify, looked_for, manager, control)


def refuse_feedback(station: Station) -> None:
    """UsageError when the next run would inspect pictures that this run keeps as if they were parts."""
    annotated, evidence = station.outputs.annotated, station.outputs.evidence
    kept = {"annotated pictures": annotated and annotated.folder, "evidence": evidence and evidence.folder}
    for entry in station.cameras:
        source = Path(entry.source)
        for what, folder in kept.items():
            if folder and source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
                raise UsageError(f"{what}: {folder} lies in the source folder {source}; choose another folder")


def refuse_twins(station: Station) -> None:
    """UsageError when two cameras could not be told apart: records say which one it was by this text alone."""
    for name, count in Counter(identity(entry.source) for entry in station.cameras).items():
        if count > 1:
            raise UsageError(f"source {name} is given {count} times; give every camera once")
    for name, count in Counter(entry.shown for entry in station.cameras).items():
        if count > 1:
            raise UsageError(f"{count} cameras are called {name}; give each a name of its own")


def _open(entry: CameraEntry, control: Control, notify: Notify) -> Camera:
    e = entry
    if e.watch:
        camera = watch_folder(e.source, e.lost_after_s, e.wait_for_camera, e.watch_existing)
    else:
        camera = _open_source(entry)
    camera.name = entry.name or camera.name
    if entry.trigger is None:
        return camera
    if entry.trigger.by == "camera":
        return LineTriggeredCamera(camera, entry.trigger, control, notify)
    return TriggeredCamera(camera, entry.trigger, control, notify, _watch(entry, camera, notify))


def _open_source(entry: CameraEntry) -> Camera:
    """A camera that its own line triggers shows a part in every picture: all of them are handed over."""
    e, trigger = entry, entry.trigger
    source = trigger.source if trigger else None
    keep = trigger.queue if trigger and trigger.by == "camera" else 1
    return open_camera(e.source, e.lost_after_s, e.wait_for_camera, e.device, source, keep)


def _edges(entry: CameraEntry, camera: Camera, control: Control, notify: Notify) -> EdgeWatch | None:
    """A sensor of this camera, if it has one."""
    if entry.trigger is None or entry.trigger.gpio is None:
        return None
    return EdgeWatch(entry.trigger.gpio, lambda at_s: control.trigger("gpio", camera.name, at_s=at_s), notify)


def _watch(entry: CameraEntry, camera: Camera, notify: Notify) -> FaultWatch:
    return FaultWatch(camera.name, entry.faults.for_source(entry.is_live), entry.is_live, notify)
