"""Master parts: known good and known bad ones that must be judged as expected before the station may inspect.

A lamp that fails or a lens that turns does not make every part odd at once. Parts whose verdict is known show it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic, time
from typing import Annotated, Any, Literal

import pydantic

from edge.errors import ControlError, OddkindError
from edge.notify import Notify, one_line
from edge.result import Inspection, MasterPart, iso_utc
from edge.staging import write_bytes_atomically
from edge.station.control import Control
from edge.station.parts import StationPart, StationPath

BY = "master"
PartName = Annotated[str, pydantic.Field(pattern=r"^[\w][\w .:-]{0,59}$")]


class MasterPartEntry(StationPart):
    """One master part. camera: the one that sees it, needed with several. defect_class: how it must be named too."""

    name: PartName
    expect: Literal["good", "defect"]
    defect_class: str | None = pydantic.Field(default=None, min_length=1)
    camera: str | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> MasterPartEntry:
        if self.expect == "good" and self.defect_class is not None:
            raise ValueError("a good part has no defect_class; leave it out, or expect: defect")
        return self

    @property
    def expected(self) -> str:
        """In words, as in a record."""
        return f"{self.expect}: {self.defect_class}" if self.defect_class else self.expect

    def is_passed_by(self, inspection: Inspection) -> bool:
        """Whether it was judged as expected; no verdict never is."""
        fits = self.defect_class in (None, inspection.defect_class)
        return inspection.verdict == self.expect and fits


class MasterPartSettings(StationPart):
    """Parts to show before arming, and every_h hours again; None: once a start. file: remembers them over restarts."""

    parts: list[MasterPartEntry] = pydantic.Field(min_length=1)
    every_h: float | None = pydantic.Field(default=None, gt=0, le=8760)
    file: StationPath | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> MasterPartSettings:
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{len(names)} parts share names: {', '.join(twice)}; give each a name of its own")
        return self


@dataclass(frozen=True)
class _Announced:
    """A part that is about to be seen. at_s: since when, on the clock of `time.monotonic`."""

    part: MasterPartEntry
    at_s: float


class MasterParts:
    """Which parts were judged as expected, and when. It keeps `control` from arming while one is due.

    cameras: names. clock: seconds since the epoch. Another bundle makes every part due.
    """

    def __init__(
        self,
        settings: MasterPartSettings,
        cameras: Sequence[str],
        bundle_id: str,
        control: Control,
        notify: Notify,
        clock: Callable[[], float] = time,
    ) -> None:
        self._settings, self._bundle_id, self._control, self._notify = settings, bundle_id, control, notify
        self._clock = clock
        self._camera_of = {part.name: _camera_of(part, cameras) for part in settings.parts}
        self._announced: dict[str, _Announced] = {}
        self._lock = threading.Lock()
        self._passed_at_s = self._remembered()
        control.master_parts = self
        self.came_round()

    @property
    def due(self) -> list[str]:
        """Names of the parts that must be shown now."""
        oldest_s = float("-inf") if self._settings.every_h is None else self._clock() - self._settings.every_h * 3600
        with self._lock:
            return [p.name for p in self._settings.parts if self._passed_at_s.get(p.name, float("-inf")) <= oldest_s]

    def report(self) -> list[dict[str, Any]]:
        """Every part for those who show them: `name`, `expected`, `camera`, `is_due`, `passed_at`."""
        due, passed_at_s = set(self.due), dict(self._passed_at_s)
        return [
            {
                "name": part.name,
                "expected": part.expected,
                "camera": self._camera_of[part.name],
                "is_due": part.name in due,
                "passed_at": iso_utc(passed_at_s[part.name]) if part.name in passed_at_s else None,
            }
            for part in self._settings.parts
        ]

    def show(self, name: str, by: str) -> None:
        """The next picture of its camera shows this part. ControlError for a name that is none, or while inspecting."""
        part = next((part for part in self._settings.parts if part.name == name), None)
        if part is None:
            names = ", ".join(part.name for part in self._settings.parts)
            raise ControlError(f"no master part is called {name!r}; there are: {names}")
        if self._control.is_armed:
            raise ControlError(f"pause the station before master part {name} is shown: it would count as production")
        camera = self._camera_of[name]
        with self._lock:
            self._announced[camera] = _Announced(part, monotonic())
        if camera in self._control.takes_triggers:
            self._control.trigger(by, camera)

    def is_awaited(self, camera: str, grabbed_at_s: float | None = None) -> bool:
        """Whether a part was announced to this camera; grabbed_at_s: before the picture was taken."""
        with self._lock:
            announced = self._announced.get(camera)
        return announced is not None and (grabbed_at_s is None or grabbed_at_s >= announced.at_s)

    def judged(self, camera: str, inspection: Inspection) -> Inspection:
        """The inspection of the part that was announced, with how it did."""
        with self._lock:
            announced = self._announced.pop(camera, None)
            if announced is None:
                return inspection
            part = announced.part
            passed = part.is_passed_by(inspection)
            if passed:
                self._passed_at_s[part.name] = self._clock()
            else:
                self._passed_at_s.pop(part.name, None)
        self._remember()
        found = inspection.error or ": ".join(filter(None, (inspection.verdict, inspection.defect_class)))
        self._notify(
            f"master part {part.name}: {'as expected' if passed else f'expected {part.expected}, got {found}'}"
        )
        self.came_round()
        return replace(inspection, master_part=MasterPart(part.name, part.expected, passed))

    def came_round(self) -> None:
        """Pause the station when a part has become due; called several times a second."""
        due = self.due
        if due and (self._control.is_armed or self._control.paused_by == BY):
            self._control.pause(BY, f"master parts to be shown: {', '.join(due)}")
        elif not due and self._control.paused_by == BY:
            self._control.pause("master parts", "master parts were judged as expected; arm the station")

    def refusal(self) -> str | None:
        """Why the station may not be armed; None when it may."""
        due = self.due
        return f"master parts to be shown first: {', '.join(due)}" if due else None

    def _remembered(self) -> dict[str, float]:
        """What the file says; one that cannot be read makes every part due, and is told of."""
        path = self._settings.file
        if path is None or not path.exists():
            return {}
        try:
            document = json.loads(path.read_bytes())
            passed = {name: datetime.fromisoformat(at).timestamp() for name, at in document["passed_at"].items()}
            return passed if document["bundle_id"] == self._bundle_id else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            self._notify(f"{path}: not a file of master parts ({one_line(exc)}); every part is due")
            return {}

    def _remember(self) -> None:
        if self._settings.file is None:
            return
        passed_at = {name: iso_utc(at_s) for name, at_s in self._passed_at_s.items()}
        document = {"bundle_id": self._bundle_id, "passed_at": passed_at}
        try:
            write_bytes_atomically(self._settings.file, json.dumps(document, indent=1).encode() + b"\n")
        except (OSError, OddkindError) as exc:
            self._notify(f"{self._settings.file}: master parts are not remembered ({one_line(exc)})")


def _camera_of(part: MasterPartEntry, cameras: Sequence[str]) -> str:
    """ControlError when it is not said which camera sees the part, or that one is not there."""
    if part.camera is None and len(cameras) == 1:
        return cameras[0]
    if part.camera in cameras:
        return str(part.camera)
    got = f"got {part.camera!r}" if part.camera else "none is given"
    raise ControlError(f"master part {part.name}: expected camera: one of {', '.join(cameras)}; {got}")
