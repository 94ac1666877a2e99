"""What no single value of a station file shows: cameras given twice, keys that do not go together.

Looks at plain data, because everything that is wrong is to be said at once, beside a typing error too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from edge.cameras.address import EXPECTED, URL_SCHEMES, identity, is_device, is_live, maker, redacted, url_scheme
from edge.outputs.modbus import ANSWER_WITHIN_S
from edge.station.yaml_file import Document, Where, dotted

# Of a file or folder they mean nothing.
ONLY_LIVE: tuple[Where, ...] = (("lost_after_s",), ("wait_for_camera",), ("faults", "frozen_after_s"))
# Which settings each kind of camera takes; of V4L2 drivers a gain has no unit.
SETTINGS = {
    "genicam": {"producer", "exposure_us", "gain_db", "roi_xywh", "pixel_format"},
    "basler": {"exposure_us", "gain_db", "roi_xywh", "pixel_format"},
    "V4L2": {"exposure_us", "roi_xywh", "pixel_format"},
}
PLACES: tuple[Where, ...] = (
    ("outputs", "records", "file"),
    ("outputs", "annotated", "folder"),
    ("outputs", "database", "file"),
    ("master_parts", "file"),
    ("outputs", "csv", "file"),
    ("outputs", "evidence", "folder"),
)


def check_combinations(document: Document) -> None:
    """Write every impossible combination into the document."""
    for place, source in sources(document):
        _check_scheme(document, place, source)
        _check_only_live(document, place[:-1], source)
        _check_watch(document, place[:-1], source)
        _check_trigger(document, place[:-1], source)
        _check_settings(document, place[:-1], source)
    _check_twins(document)
    _check_feedback(document)
    _check_same_place(document)
    _check_master_parts(document)
    _check_plc(document)
    _check_reject_cameras(document)


def sources(document: Document) -> Iterator[tuple[Where, str]]:
    """(place, source) of every camera that has a sound one; files and folders as absolute paths."""
    cameras = document.get("cameras")
    for number in range(len(cameras) if isinstance(cameras, list) else 0):
        place: Where = ("cameras", number, "source")
        value = document.get(*place)
        if not isinstance(value, str | int) or isinstance(value, bool) or not document.is_sound(place):
            continue
        yield place, str(value) if is_live(str(value)) else str(document.folder / str(value))


def _check_scheme(document: Document, place: Where, source: str) -> None:
    scheme = url_scheme(source)
    if scheme is None:
        return
    if scheme not in URL_SCHEMES:
        document.complain(place, f"{scheme}:// is not supported; expected {EXPECTED}")
    elif not source.partition("://")[2].strip("/"):
        document.complain(place, f"{scheme}:// and then nothing; expected an address such as {scheme}://camera/1")
    elif not _has_host_and_port(source):
        what = f"expected an address such as {scheme}://camera:8554/1, with a port of 1 to 65535 if any"
        document.complain(place, f"{what}; got {document.shown(place)}")


def _has_host_and_port(address: str) -> bool:
    """Without the login, which may hold any character."""
    authority = re.split(r"[/?#]", redacted(address).partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    try:
        parts = urlsplit(f"//{authority}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_only_live(document: Document, camera: Where, source: str) -> None:
    if is_live(source) or document.get(*camera, "watch") is True:
        return
    for key in ONLY_LIVE:
        if document.get(*camera, *key):
            document.complain((*camera, *key), "is for live cameras; this source is a file or folder: leave it out")


def _check_trigger(document: Document, camera: Where, source: str) -> None:
    """Only some devices can wait for a trigger; the others are looked at when one comes."""
    for key in ("line", "fire"):
        if document.get(*camera, "trigger", key) and maker(source) is None:
            takers = "only genicam: and basler: cameras wait for triggers themselves"
            document.complain((*camera, "trigger", key), f"{takers}; leave it out")


def _check_watch(document: Document, camera: Where, source: str) -> None:
    watch, existing = (*camera, "watch"), (*camera, "watch_existing")
    if document.get(*watch) is True and is_live(source):
        document.complain(watch, "is for a folder; this source is a camera: leave it out")
    if document.get(*existing) is True and document.get(*watch) is not True:
        document.complain(existing, "means nothing without watch: true")


def _check_settings(document: Document, camera: Where, source: str) -> None:
    """What a source that has no such setting, or no setting at all, is asked for."""
    kind = "V4L2" if source.isdecimal() or is_device(source) else maker(source)
    settings = document.get(*camera, "device")
    for key in settings if isinstance(settings, dict) else ():
        place: Where = (*camera, "device", key)
        takers = [name for name, keys in SETTINGS.items() if key in keys]
        if takers and kind not in takers:
            what = f"a {kind} camera" if kind else "this source"
            document.complain(place, f"{what} has no such setting, only {' and '.join(takers)} cameras: leave it out")
    if kind == "V4L2":
        _check_v4l2(document, (*camera, "device"))


def _check_v4l2(document: Document, device: Where) -> None:
    word, region = (document.get(*device, key) for key in ("pixel_format", "roi_xywh"))
    if isinstance(word, str) and len(word) != 4:
        document.complain((*device, "pixel_format"), "of V4L2 cameras has four characters, such as MJPG or YUYV")
    if isinstance(region, list) and region[:2] != [0, 0]:
        document.complain((*device, "roi_xywh"), "of V4L2 cameras is a picture size: [0, 0, width, height]")


def _check_twins(document: Document) -> None:
    """Records say which camera they are of by its name, or else by its address without the password."""
    first_with: dict[tuple[str, str], Where] = {}
    for place, source in sources(document):
        first = first_with.setdefault(("source", identity(source)), place)
        if first != place:
            text = "the same as {}, passwords aside; give every camera once"
            document.complain(place, text.format(_named(document, first)))
        name_place = (*place[:-1], "name")
        name = document.get(*name_place)
        shown, shown_at = (name, name_place) if isinstance(name, str) else (redacted(source), place)
        first = first_with.setdefault(("name", shown), shown_at)
        if first != shown_at:
            document.complain(shown_at, f"the same as {_named(document, first)}; give each camera a name of its own")


def _check_feedback(document: Document) -> None:
    for place in PLACES:
        folder = document.path(place) if place[-1] == "folder" else None
        for source_place, source in sources(document):
            inside = folder and not is_live(source) and folder.resolve().is_relative_to(Path(source).resolve())
            if inside:
                document.complain(
                    place, f"lies in the folder of {_named(document, source_place)}: it would be inspected"
                )


def _check_same_place(document: Document) -> None:
    first_at: dict[Path, Where] = {}
    for place in PLACES:
        path = document.path(place)
        first = first_at.setdefault(path.resolve(), place) if path else place
        if first != place:
            document.complain(place, f"the same as {_named(document, first)}; give each output a place of its own")


def camera_names(document: Document) -> list[str]:
    """What records call the cameras that have a sound source."""
    names = [(document.get(*place[:-1], "name"), source) for place, source in sources(document)]
    return [name if isinstance(name, str) else redacted(source) for name, source in names]


def _check_camera(document: Document, place: Where) -> None:
    """What stands there, if anything, is the name of a camera."""
    camera, names = document.get(*place), camera_names(document)
    if isinstance(camera, str) and camera not in names:
        document.complain(place, f"no camera is called {document.shown(place)!r}; there are: {', '.join(names)}")


def _check_master_parts(document: Document) -> None:
    """Each is seen by a camera of this station, and it must be clear by which."""
    parts, names = document.get("master_parts", "parts"), camera_names(document)
    for number, part in enumerate(parts if isinstance(parts, list) else []):
        place: Where = ("master_parts", "parts", number)
        _check_camera(document, (*place, "camera"))
        if isinstance(part, dict) and "camera" not in part and len(names) > 1:
            document.complain(place, f"expected camera: one of {', '.join(names)}")


def _check_reject_cameras(document: Document) -> None:
    lines = document.get("outputs", "reject", "lines")
    for number in range(len(lines) if isinstance(lines, list) else 0):
        _check_camera(document, ("outputs", "reject", "lines", number, "camera"))


def _check_plc(document: Document) -> None:
    """The camera that a PLC triggers is there, and every camera answers before the PLC's answer is due."""
    _check_camera(document, ("outputs", "modbus", "camera"))
    within_s = document.get("outputs", "modbus", "answer_within_s") or ANSWER_WITHIN_S
    for at, _ in sources(document) if document.get("outputs", "modbus") is not None else ():
        deadline: Where = (*at[:-1], "trigger", "deadline_s")
        deadline_s = document.get(*deadline)
        if isinstance(deadline_s, int | float) and isinstance(within_s, int | float) and deadline_s > within_s:
            document.complain(deadline, f"is more than outputs.modbus.answer_within_s, {within_s:g}; raise that too")


def _named(document: Document, place: Where) -> str:
    return f"{dotted(place)} in line {document.line(place)}"
