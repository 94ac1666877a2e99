"""Master parts: shown and judged as expected before a station may be armed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from calling_sink import CallingSink
from edge_processes import wait_for
from pydantic import ValidationError

from edge.cameras.sources import open_camera
from edge.cameras.triggered import TriggeredCamera, TriggerSettings
from edge.errors import ControlError
from edge.inspector import Inspector
from edge.loop import run
from edge.result import Inspection, Provenance
from edge.station.control import Control
from edge.station.master_parts import MasterPartEntry, MasterParts, MasterPartSettings

GOOD = {"name": "good-1", "expect": "good"}
BAD = {"name": "bad-1", "expect": "defect", "defect_class": "scratch"}
HOUR_S = 3600.0


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def settings(*parts: dict[str, Any], **options: Any) -> MasterPartSettings:
    return MasterPartSettings.model_validate({"parts": list(parts), **options})


def masters(
    given: MasterPartSettings,
    control: Control,
    notes: list[str] | None = None,
    clock: Clock | None = None,
    bundle: str = "b1",
) -> MasterParts:
    notify = [].append if notes is None else notes.append
    return MasterParts(given, ["camera"], bundle, control, notify, clock or Clock())


def inspection(verdict: str, defect_class: str | None = None) -> Inspection:
    score = None if verdict == "no_verdict" else 2.0
    provenance = Provenance("camera", 0, "2026-11-28T00:00:00.000Z")
    error = "dark picture" if verdict == "no_verdict" else None
    return Inspection(provenance, "0" * 16, verdict, score, 1.0, defect_class=defect_class, error=error)  # type: ignore[arg-type]


def test_a_station_with_master_parts_begins_paused_and_names_them() -> None:
    control = Control()
    masters(settings(GOOD, BAD), control)
    assert control.status.state == "paused"
    assert control.status.reason == "master parts to be shown: good-1, bad-1"
    with pytest.raises(ControlError, match="not armed: master parts to be shown first: good-1, bad-1"):
        control.arm("page")


def test_when_all_were_judged_as_expected_it_may_be_armed() -> None:
    control, notes = Control(), []
    parts = masters(settings(GOOD, BAD), control, notes)
    parts.show("good-1", "page")
    first = parts.judged("camera", inspection("good"))
    parts.show("bad-1", "page")
    second = parts.judged("camera", inspection("defect", "scratch"))
    assert [vars(i.master_part) for i in (first, second)] == [
        {"name": "good-1", "expected": "good", "passed": True},
        {"name": "bad-1", "expected": "defect: scratch", "passed": True},
    ]
    assert not control.is_armed
    assert control.status.reason == "master parts were judged as expected; arm the station"
    control.arm("page")
    parts.came_round()
    assert control.is_armed
    assert notes == ["master part good-1: as expected", "master part bad-1: as expected"]


@pytest.mark.parametrize(
    ("verdict", "defect_class", "found"),
    [("good", None, "good"), ("defect", "dent", "defect: dent"), ("no_verdict", None, "dark picture")],
)
def test_a_part_judged_otherwise_stays_due(verdict: str, defect_class: str | None, found: str) -> None:
    control, notes = Control(), []
    parts = masters(settings(BAD), control, notes)
    parts.show("bad-1", "page")
    judged = parts.judged("camera", inspection(verdict, defect_class))
    assert judged.master_part is not None
    assert not judged.master_part.passed
    assert parts.due == ["bad-1"]
    assert notes == [f"master part bad-1: expected defect: scratch, got {found}"]


def test_after_some_hours_they_are_due_again_and_the_station_pauses() -> None:
    control, clock = Control(), Clock()
    parts = masters(settings(GOOD, every_h=8.0), control, clock=clock)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    control.arm("page")
    clock.now_s += 8 * HOUR_S - 1
    parts.came_round()
    assert control.is_armed
    clock.now_s += 2
    parts.came_round()
    assert control.status.reason == "master parts to be shown: good-1"


def test_what_was_shown_is_remembered_for_the_same_bundle_alone(tmp_path: Path) -> None:
    given = settings(GOOD, every_h=8.0, file=tmp_path / "parts.json")
    clock = Clock()
    parts = masters(given, Control(), clock=clock)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    assert masters(given, Control(), clock=clock).due == []
    assert masters(given, Control(), clock=clock, bundle="b2").due == ["good-1"]
    clock.now_s += 9 * HOUR_S
    assert masters(given, Control(), clock=clock).due == ["good-1"]


@pytest.mark.parametrize("content", ["", "[]", '{"bundle_id": "b1", "passed_at": {"good-1": "yesterday"}}', "\0"])
def test_a_file_that_is_none_makes_every_part_due(tmp_path: Path, content: str) -> None:
    (tmp_path / "parts.json").write_text(content)
    notes: list[str] = []
    parts = masters(settings(GOOD, file=tmp_path / "parts.json"), Control(), notes)
    assert parts.due == ["good-1"]
    assert "every part is due" in notes[0]


def test_a_file_that_cannot_be_written_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    notes: list[str] = []
    parts = masters(settings(GOOD, file=tmp_path / "absent" / "parts.json"), Control(), notes)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    assert parts.due == []
    assert any("not remembered" in note for note in notes)


def test_wrong_names_and_moments_are_refused_in_one_line() -> None:
    control = Control()
    parts = masters(settings(GOOD), control)
    with pytest.raises(ControlError, match="no master part is called 'x'; there are: good-1"):
        parts.show("x", "page")
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    control.arm("page")
    with pytest.raises(ControlError, match="pause the station before"):
        parts.show("good-1", "page")
    with pytest.raises(ControlError, match="expected camera: one of left, right; none is given"):
        MasterParts(settings(GOOD), ["left", "right"], "b1", Control(), pytest.fail)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([GOOD, GOOD], "share names: good-1"),
        ([{**GOOD, "defect_class": "dent"}], "a good part has no defect_class"),
        ([], "at least 1 item"),
    ],
)
def test_impossible_settings_are_refused(parts: list[dict[str, str]], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        settings(*parts)


def test_expected_is_said_in_words() -> None:
    assert MasterPartEntry.model_validate(BAD).expected == "defect: scratch"


@pytest.mark.parametrize("is_triggered", [True, False])
def test_a_station_shows_its_parts_and_only_those_while_paused(
    tmp_path: Path, bundle_dir: Path, good_dir: Path, defects_dir: Path, is_triggered: bool
) -> None:
    for number, source in enumerate([*sorted(defects_dir.rglob("*.png"))[:1], *sorted(good_dir.iterdir())[:3]]):
        (tmp_path / f"{number}.png").write_bytes(source.read_bytes())
    control, sink, stop = Control(), CallingSink(), threading.Event()
    inspector = Inspector.load(bundle_dir)
    camera = open_camera(str(tmp_path))
    if is_triggered:
        camera = TriggeredCamera(camera, TriggerSettings(deadline_s=10), control, pytest.fail)
    given = settings({"name": "bad", "expect": "defect"}, GOOD)
    parts = MasterParts(given, [camera.name], inspector.manifest.bundle_id, control, lambda text: None)
    thread = threading.Thread(target=run, args=([camera], inspector, [sink], None, stop), kwargs={"control": control})
    thread.start()
    wait_for(lambda: control.takes_triggers or not is_triggered)
    for count, name in enumerate(["bad", "good-1"], start=1):
        parts.show(name, "page")
        wait_for(lambda count=count: len(sink.records) == count)
    assert sink.of("path") == ["0.png", "1.png"]
    assert [record["passed"] for record in sink.of("master_part")] == [True, True]
    control.arm("page")
    if is_triggered:
        control.trigger("page")
    wait_for(lambda: len(sink.records) >= 3)
    stop.set()
    thread.join(5)
    assert sink.of("master_part")[2] is None
    assert json.dumps(parts.report()).count('"is_due": false') == 2
