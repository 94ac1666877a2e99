"""What no single value of a station file shows: cameras given twice, keys that do not go together.

Looks at plain data, because everything that is wrong is to be said at once, beside a typing error too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.cameras.address import EXPECTED, URL_SCHEMES, identity, is_live, redacted, url_scheme
from edge.outputs.modbus import ANSWER_WITHIN_S
from edge.station.yaml_file import Document, Where, dotted

# Of a file or folder they mean nothing.
ONLY_LIVE: tuple[Where, ...] = (("lost_after_s",), ("wait_for_camera",), ("faults", "frozen_after_s"))
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
    _check_twins(document)
    _check_feedback(document)
    _check_same_place(document)
    _check_master_parts(document)
    _check_plc(document)


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


def _check_only_live(document: Document, camera: Where, source: str) -> None:
    if is_live(source):
        return
    for key in ONLY_LIVE:
        if document.get(*camera, *key):
            document.complain((*camera, *key), "is for live cameras; this source is a file or folder: leave it out")
    if document.get(*camera, "trigger", "by") == "camera":
        document.complain((*camera, "trigger", "by"), "a file or folder has no input line; expected software")


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


def _check_master_parts(document: Document) -> None:
    """Each is seen by a camera of this station, and it must be clear by which."""
    parts, names = document.get("master_parts", "parts"), []
    for place, source in sources(document):
        name = document.get(*place[:-1], "name")
        names.append(name if isinstance(name, str) else redacted(source))
    for number, part in enumerate(parts if isinstance(parts, list) else []):
        camera = part.get("camera") if isinstance(part, dict) else None
        if camera is None and len(names) > 1:
            document.complain(("master_parts", "parts", number), f"expected camera: one of {', '.join(names)}")
        elif isinstance(camera, str) and camera not in names:
            where: Where = ("master_parts", "parts", number, "camera")
            document.complain(where, f"no camera of this station; expected {' or '.join(names)}; got {camera!r}")


def _check_plc(document: Document) -> None:
    """The camera that a PLC triggers is there, and every camera answers before the PLC's answer is due."""
    place: Where = ("outputs", "modbus", "camera")
    wanted = document.get(*place)
    shown = [document.get(*at[:-1], "name") or redacted(source) for at, source in sources(document)]
    if isinstance(wanted, str) and wanted not in shown:
        document.complain(place, f"no camera is called {wanted!r}; there are: {', '.join(map(str, shown))}")
    within_s = document.get("outputs", "modbus", "answer_within_s") or ANSWER_WITHIN_S
    for at, _ in sources(document) if document.get("outputs", "modbus") is not None else ():
        deadline: Where = (*at[:-1], "trigger", "deadline_s")
        deadline_s = document.get(*deadline)
        if isinstance(deadline_s, int | float) and isinstance(within_s, int | float) and deadline_s > within_s:
            document.complain(deadline, f"is more than outputs.modbus.answer_within_s, {within_s:g}; raise that too")


def _named(document: Document, place: Where) -> str:
    return f"{dotted(place)} in line {document.line(place)}"
