"""Reading a station file: everything that is wrong with it at once, each with its line.

Two kinds of questions. What the file says, keys, types, combinations: asked whenever it is read. And whether what it
names is there, bundle, classes, pictures: asked by `oddkind station check`; `run` finds out by using them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydantic

from edge.errors import StationError
from edge.station.combinations import check_combinations
from edge.station.file import Station
from edge.station.things import check_things
from edge.station.words import complaints
from edge.station.yaml_file import Document, Problem, read_yaml


@dataclass(frozen=True)
class Checked:
    """A file's station, None when there are problems, and the problems in the order of lines."""

    path: Path
    station: Station | None
    problems: list[Problem]

    def lines(self) -> list[str]:
        """`station.yaml:12: cameras[0].source: ...`, which editors can jump to."""
        return [f"{self.path}:{problem}" for problem in self.problems]


def load_station(path: Path) -> Station:
    """The station in a file; StationError, one line, when it describes none that could run."""
    checked = check_station(path, look_around=False)
    if checked.station:
        return checked.station
    first, *more = checked.lines()
    raise StationError(first + (f"; and {len(more)} more, see 'oddkind station check {path}'" if more else ""))


def check_station(path: Path, look_around: bool = True) -> Checked:
    """Read and check a file. look_around: also whether everything it names is there.

    StationError when there is no such file.
    """
    try:
        document = read_yaml(path)
    except OSError as exc:
        hint = "; 'oddkind station init' writes an example" if isinstance(exc, FileNotFoundError) else ""
        raise StationError(f"{path}: cannot be read ({exc.strerror or exc}){hint}") from exc
    if document.data is None:
        return Checked(path, None, sorted(document.problems))
    station = _validated(document)
    check_combinations(document)
    if look_around:
        check_things(document)
    problems = sorted(document.problems)
    return Checked(path, None if problems else station, problems)


def _validated(document: Document) -> Station | None:
    if not isinstance(document.data, dict):
        document.complain((), f"expected keys: {', '.join(Station.model_fields)}")
        return None
    try:
        return Station.model_validate(document.data, context={"folder": document.folder})
    except pydantic.ValidationError as exc:
        complaints(exc, Station, document)
        return None
