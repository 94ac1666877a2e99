"""What a station will do, in a few lines, before it does it."""

from __future__ import annotations

from edge.bundle import Bundle
from edge.cameras.address import redacted
from edge.class_store import read_class_store
from edge.station.file import CameraEntry, Station
from edge.station.master_parts import MasterPartEntry


def summary(station: Station) -> str:
    """Some lines for a person; the bundle must be there. No passwords."""
    bundle, cameras = Bundle.open(station.bundle), [_camera(entry) for entry in station.cameras]
    rows = [
        ("station", station.name or "without a name"),
        ("bundle", _bundle(station, bundle)),
        ("classes", _classes(station, bundle)),
        *[("camera", camera) for camera in cameras],
        *[("master", f"{part.name} must be {part.expected}") for part in _masters(station)],
        *[("output", output.in_words()) for output in station.outputs.given],
        ("stops", _end(station)),
    ]
    return "\n".join(f"  {key:8} {text}" for key, text in rows)


def _masters(station: Station) -> list[MasterPartEntry]:
    return station.master_parts.parts if station.master_parts else []


def _bundle(station: Station, bundle: Bundle) -> str:
    manifest, runtime = bundle.manifest, station.runtime
    backend = runtime.backend or manifest.calibrated_backend
    graph = "the fastest runtime" if backend == "auto" else f"{backend} {runtime.precision or ''}".strip()
    if backend != "auto" and not runtime.precision:
        graph += f" {manifest.calibrated_precision}"
    threads = {0: "every core", 1: "1 thread"}.get(runtime.threads, f"{runtime.threads} threads")
    return f"{station.bundle} ({manifest.bundle_id}), {graph}, {threads}"


def _classes(station: Station, bundle: Bundle) -> str:
    path = station.classes or bundle.classes_path
    names = read_class_store(path, bundle.manifest.bundle_id, bundle.manifest.typing.descriptor_dim).names
    nothing = "none enrolled" if path.exists() else "none enrolled yet"
    return f"{', '.join(names) or nothing} ({path})"


def _camera(entry: CameraEntry) -> str:
    name = f"{entry.name}: " if entry.name else ""
    limits = entry.faults.for_source(entry.is_live)
    lost = [f"lost after {entry.lost_after_s:g} s"] * entry.is_live
    watched = ["new pictures as they come" + (", and those there already" * entry.watch_existing)] * entry.watch
    device = [entry.device.in_words()] if entry.device.in_words() else []
    waits = ["waited for at the start"] * entry.wait_for_camera
    frozen = [f"frozen after {limits.frozen_after_s:g} s"] if limits.frozen_after_s else []
    dark = [f"dark below {limits.dark_below:g}"] if limits.dark_below else []
    bright = [f"overexposed above {limits.bright_above:g}"] if (limits.bright_above or 255) < 255 else []
    size = [f"{limits.size_px[0]} x {limits.size_px[1]} px"] if limits.size_px else []
    asked = [f"one verdict a trigger within {entry.trigger.deadline_s:g} s"] if entry.trigger else []
    source = f"{name}{redacted(entry.source)}"
    return ", ".join([source, *asked, *watched, *device, *lost, *waits, *frozen, *dark, *bright, *size])


def _end(station: Station) -> str:
    ends = ["when told to"]
    if station.max_frames:
        ends.insert(0, f"after {station.max_frames} records")
    if not any(entry.is_live for entry in station.cameras):
        ends.insert(0, "when every source has ended")
    return ", or ".join(ends)
