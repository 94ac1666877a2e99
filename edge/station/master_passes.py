"""When each master part was last judged as expected, also over restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydantic

from edge.errors import OddkindError
from edge.notify import Notify, one_line
from edge.result import iso_utc
from edge.staging import write_bytes_atomically
from edge.station.parts import StationPart


@dataclass(frozen=True)
class Wanted:
    """How a part must be judged, and by which camera. A pass of anything else is none."""

    expected: str
    camera: str


class _Kept(StationPart):
    at: pydantic.AwareDatetime
    expected: str
    camera: str


class _Document(StationPart):
    bundle_id: str
    passed: dict[str, _Kept]


@dataclass(frozen=True)
class _Pass:
    """at_s: seconds since the epoch. steady_s: the same moment on the clock that never jumps, as well as we know it."""

    at_s: float
    steady_s: float
    is_of_this_run: bool


class MasterPasses:
    """Passes by name, in `path` if there is one. One of another bundle, expectation or camera is forgotten."""

    def __init__(
        self,
        path: Path | None,
        bundle_id: str,
        wanted: Mapping[str, Wanted],
        notify: Notify,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._path, self._bundle_id, self._wanted, self._notify = path, bundle_id, wanted, notify
        self._clock, self._steady = clock, steady
        self._passes = self._remembered()

    def is_due(self, name: str, every_s: float | None) -> bool:
        """Whether it has not passed, or longer ago than every_s; None: a pass lasts."""
        found = self._passes.get(name)
        if found is None:
            return True
        run_s, wall_s = self._steady() - found.steady_s, self._clock() - found.at_s
        if found.is_of_this_run:  # a box without a clock battery may have its clock set at any moment
            wall_s = run_s
        return wall_s < 0 or (every_s is not None and max(run_s, wall_s) >= every_s)

    def passed_at(self, name: str) -> str | None:
        """ISO 8601 UTC; None when it has not passed."""
        found = self._passes.get(name)
        return iso_utc(found.at_s) if found else None

    def note(self, name: str, passed: bool) -> None:
        """It was judged just now."""
        if passed:
            self._passes[name] = _Pass(self._clock(), self._steady(), is_of_this_run=True)
        else:
            self._passes.pop(name, None)

    def save(self) -> None:
        """Write the file; one that cannot be written is told of."""
        if self._path is None:
            return
        kept = {name: self._kept(name, found) for name, found in self._passes.items()}
        document = _Document(bundle_id=self._bundle_id, passed=kept)
        try:
            write_bytes_atomically(self._path, document.model_dump_json(indent=1).encode() + b"\n")
        except (OSError, OddkindError) as exc:
            self._notify(f"{self._path}: master parts are not remembered ({one_line(exc)})")

    def _kept(self, name: str, found: _Pass) -> _Kept:
        wanted = self._wanted[name]
        return _Kept(at=datetime.fromtimestamp(found.at_s, UTC), expected=wanted.expected, camera=wanted.camera)

    def _remembered(self) -> dict[str, _Pass]:
        """What the file says; one that cannot be read makes every part due, and is told of."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            document = _Document.model_validate_json(self._path.read_bytes())
        except (OSError, ValueError) as exc:
            self._notify(f"{self._path}: not a file of master parts ({one_line(exc)}); every part is due")
            return {}
        if document.bundle_id != self._bundle_id:
            return {}
        wanted = self._wanted
        return {
            name: self._of_earlier_run(kept.at.timestamp())
            for name, kept in document.passed.items()
            if wanted.get(name) == Wanted(kept.expected, kept.camera)
        }

    def _of_earlier_run(self, at_s: float) -> _Pass:
        return _Pass(at_s, self._steady() - max(0.0, self._clock() - at_s), is_of_this_run=False)
