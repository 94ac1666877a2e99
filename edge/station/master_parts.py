"""Master parts: known good and known bad ones that must be judged as expected before the station may inspect.

A lamp that fails or a lens that turns does not make every part odd at once. Parts whose verdict is known show it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic, time
from typing import Annotated, Any, Literal

import pydantic

from edge.errors import ControlError
from edge.notify import Notify
from edge.result import Inspection, MasterPart
from edge.station.control import Control
from edge.station.master_passes import MasterPasses, Wanted
from edge.station.parts import StationPart, StationPath

BY, BY_ALL_PASSED = "master", "master parts"
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
    """Parts to show before arming, and every_h hours again; None: once a start. file: remembers them over restarts.

    announce_s: how long a part is awaited by a camera that takes its pictures by itself; a trigger has its deadline.
    """

    parts: list[MasterPartEntry] = pydantic.Field(min_length=1)
    every_h: float | None = pydantic.Field(default=None, gt=0, le=8760)
    file: StationPath | None = None
    announce_s: float = pydantic.Field(default=30.0, gt=0, le=3600)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> MasterPartSettings:
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{len(names)} parts share names: {', '.join(twice)}; give each a name of its own")
        return self


@dataclass(frozen=True)
class _Announced:
    """A part that is about to be seen. at_s: since when, on the clock of `time.monotonic`. trigger_id: shows it."""

    part: MasterPartEntry
    camera: str
    at_s: float
    trigger_id: int | None

    def is_shown_by(self, camera: str, grabbed_at_s: float | None, trigger_id: int | None) -> bool:
        """Whether it is on that picture: its own trigger's, or the first one taken after it was announced."""
        if camera != self.camera:
            return False
        if self.trigger_id is None and grabbed_at_s is not None:
            return grabbed_at_s >= self.at_s
        return trigger_id == self.trigger_id


class MasterParts:
    """Which parts were judged as expected, and when. It keeps `control` from arming while one is due.

    cameras: names. clock: seconds since the epoch. steady: seconds that never jump. Another bundle makes every part
    due, and so does a part of which something else is expected now.
    """

    def __init__(
        self,
        settings: MasterPartSettings,
        cameras: Sequence[str],
        bundle_id: str,
        control: Control,
        notify: Notify,
        clock: Callable[[], float] = time,
        steady: Callable[[], float] = monotonic,
    ) -> None:
        self._settings, self._control, self._notify, self._steady = settings, control, notify, steady
        self._camera_of = {part.name: _camera_of(part, cameras) for part in settings.parts}
        self._announced: list[_Announced] = []
        self._is_announcing = False
        self._lock = threading.Lock()  # taken before that of `control`, never within it
        wanted = {part.name: Wanted(part.expected, self._camera_of[part.name]) for part in settings.parts}
        self._passes = MasterPasses(settings.file, bundle_id, wanted, notify, clock, steady)
        control.master_parts = self
        self.came_round()

    @property
    def due(self) -> list[str]:
        """Names of the parts that must be shown now."""
        with self._lock:
            return self._due()

    def _due(self) -> list[str]:
        every_s = None if self._settings.every_h is None else self._settings.every_h * 3600
        return [part.name for part in self._settings.parts if self._passes.is_due(part.name, every_s)]

    def report(self) -> list[dict[str, Any]]:
        """Every part for those who show them: `name`, `expected`, `camera`, `is_due`, `passed_at`."""
        due = self.due
        return [
            {
                "name": part.name,
                "expected": part.expected,
                "camera": self._camera_of[part.name],
                "is_due": part.name in due,
                "passed_at": self._passes.passed_at(part.name),
            }
            for part in self._settings.parts
        ]

    def show(self, name: str, by: str) -> None:
        """The next picture of its camera shows this part. ControlError for a name that is none, or while inspecting."""
        part = next((part for part in self._settings.parts if part.name == name), None)
        if part is None:
            names = ", ".join(part.name for part in self._settings.parts)
            raise ControlError(f"no master part is called {name!r}; there are: {names}")
        with self._lock:  # nobody can arm meanwhile, nor ask about the trigger before its number is known
            if self._control.is_armed:
                raise ControlError(
                    f"pause the station before master part {name} is shown: it would count as production"
                )
            self._announce(part, self._camera_of[name], by)

    def _announce(self, part: MasterPartEntry, camera: str, by: str) -> None:
        self._announced = [a for a in self._announced if a.camera != camera or a.trigger_id is not None]
        at_s, trigger_id = self._steady(), None
        if camera in self._control.takes_triggers:
            self._is_announcing = True
            try:
                trigger_id = self._control.trigger(by, camera).trigger_id
            finally:
                self._is_announcing = False
        self._announced.append(_Announced(part, camera, at_s, trigger_id))

    @property
    def expects_any(self) -> bool:
        """Whether some part is announced, or just being so. Takes no lock: asked by who takes a trigger."""
        return self._is_announcing or bool(self._announced)

    def is_awaited(self, camera: str, grabbed_at_s: float | None = None, trigger_id: int | None = None) -> bool:
        """Whether such a picture shows a part that was announced; see `Control.inspects`."""
        with self._lock:
            return any(a.is_shown_by(camera, grabbed_at_s, trigger_id) for a in self._announced)

    def judged(self, camera: str, inspection: Inspection, grabbed_at_s: float | None = None) -> Inspection:
        """The inspection, with how the part did if it shows one that was announced. A part not seen has not passed."""
        trigger = inspection.provenance.trigger
        with self._lock:
            part = self._taken(camera, grabbed_at_s, trigger.trigger_id if trigger else None)
            if part is None:
                return inspection
            passed = part.is_passed_by(inspection)
            self._passes.note(part.name, passed)
        self._passes.save()
        found = inspection.error or ": ".join(filter(None, (inspection.verdict, inspection.defect_class)))
        self._notify(
            f"master part {part.name}: {'as expected' if passed else f'expected {part.expected}, got {found}'}"
        )
        self.came_round()
        return replace(inspection, master_part=MasterPart(part.name, part.expected, passed))

    def _taken(self, camera: str, grabbed_at_s: float | None, trigger_id: int | None) -> MasterPartEntry | None:
        """The part on that picture; it is not awaited any more."""
        shown = next((a for a in self._announced if a.is_shown_by(camera, grabbed_at_s, trigger_id)), None)
        if shown is None:
            return None
        self._announced.remove(shown)
        return shown.part

    def came_round(self) -> None:
        """Pause the station when a part has become due; called several times a second."""
        self._expire()
        if due := self.due:
            why = f"master parts to be shown: {', '.join(due)}"
            self._control.pause(BY, why, only_if=(None, BY, BY_ALL_PASSED))
        else:
            why = "master parts were judged as expected; arm the station"
            self._control.pause(BY_ALL_PASSED, why, only_if=(BY,))

    def _expire(self) -> None:
        """A trigger always has its answer; where there is none, somebody may have walked away with the part."""
        oldest_s = self._steady() - self._settings.announce_s
        with self._lock:
            expired = [a for a in self._announced if a.trigger_id is None and a.at_s < oldest_s]
            self._announced = [a for a in self._announced if a not in expired]
        for each in expired:
            self._notify(
                f"master part {each.part.name}: no picture of {each.camera} within {self._settings.announce_s:g} s; "
                "announce it again"
            )

    @contextmanager
    def arming(self) -> Iterator[None]:
        """While this is held the station is armed; nothing is awaited any more. ControlError while a part is due."""
        with self._lock:
            if due := self._due():
                raise ControlError(f"not armed: master parts to be shown first: {', '.join(due)}")
            self._announced = []
            yield


def _camera_of(part: MasterPartEntry, cameras: Sequence[str]) -> str:
    """ControlError when it is not said which camera sees the part, or that one is not there."""
    if part.camera is None and len(cameras) == 1:
        return cameras[0]
    if part.camera in cameras:
        return str(part.camera)
    got = f"got {part.camera!r}" if part.camera else "none is given"
    raise ControlError(f"master part {part.name}: expected camera: one of {', '.join(cameras)}; {got}")
