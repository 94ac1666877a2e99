"""Master parts: shown and judged as expected before a station may be armed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from calling_sink import CallingSink
from edge_processes import wait_for
from pydantic import ValidationError

from edge.cameras.frames import Camera, Due, Frame, Frames
from edge.cameras.sources import open_camera
from edge.cameras.triggered import TriggeredCamera, TriggerSettings
from edge.errors import ControlError
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.sinks import Sink
from edge.result import Inspection, Provenance, Trigger
from edge.station.control import Asked, Control
from edge.station.master_parts import MasterPartEntry, MasterParts, MasterPartSettings

GOOD = {"name": "good-1", "expect": "good"}
BAD = {"name": "bad-1", "expect": "defect", "defect_class": "scratch"}
HOUR_S = 3600.0


class Clock:
    """The wall's, which may be set, and the one that never jumps."""

    now_s = 1_000_000.0
    run_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def steady(self) -> float:
        return self.run_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.run_s += seconds


def settings(*parts: dict[str, Any], **options: Any) -> MasterPartSettings:
    return MasterPartSettings.model_validate({"parts": list(parts), **options})


def masters(
    given: MasterPartSettings,
    control: Control,
    notes: list[str] | None = None,
    clock: Clock | None = None,
    bundle: str = "b1",
    cameras: tuple[str, ...] = ("camera",),
) -> MasterParts:
    notify, clock = [].append if notes is None else notes.append, clock or Clock()
    return MasterParts(given, cameras, bundle, control, notify, clock, clock.steady)


def inspection(verdict: str, defect_class: str | None = None, trigger: Trigger | None = None) -> Inspection:
    score = None if verdict == "no_verdict" else 2.0
    provenance = Provenance("camera", 0, "2026-11-28T00:00:00.000Z", trigger=trigger)
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
    clock.wait(8 * HOUR_S - 1)
    parts.came_round()
    assert control.is_armed
    clock.wait(2)
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
    clock.wait(9 * HOUR_S)
    assert masters(given, Control(), clock=clock).due == ["good-1"]


UNDATED = '{"bundle_id": "b1", "passed": {"good-1": {"at": "yesterday", "expected": "good", "camera": "camera"}}}'


@pytest.mark.parametrize("content", ["", "[]", UNDATED, "\0"])
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


# --- which picture is the part's


def triggered() -> tuple[Control, MasterParts, list[Asked], list[str]]:
    """A station with one camera that software triggers, and what it was asked for."""
    control, asked, notes = Control(), list[Asked](), list[str]()
    control.take_triggers("camera", asked.append)
    return control, masters(settings(GOOD), control, notes), asked, notes


def test_only_the_record_of_its_own_trigger_passes_a_part() -> None:
    control, parts, asked, _ = triggered()
    before = control.trigger("plc", part_id="production")
    parts.show("good-1", "page")
    after = control.trigger("plc", part_id="production")
    own = asked[1].trigger
    assert own.by == "page"
    for trigger in (before, after):
        assert not control.inspects("camera", trigger_id=trigger.trigger_id)
        judged = parts.judged("camera", inspection("good", trigger=trigger), monotonic() + 60)
        assert judged.master_part is None
    assert parts.due == ["good-1"]
    assert control.inspects("camera", trigger_id=own.trigger_id)
    assert parts.judged("camera", inspection("good", trigger=own)).master_part is not None
    assert parts.due == []


def test_a_trigger_without_a_picture_has_not_passed_and_no_later_one_can() -> None:
    control, parts, asked, notes = triggered()
    parts.show("good-1", "page")
    lost = parts.judged("camera", inspection("no_verdict", trigger=asked[0].trigger))
    assert lost.master_part is not None and not lost.master_part.passed
    assert notes == ["master part good-1: expected good, got dark picture"]
    later = control.trigger("gpio", part_id="production")
    assert not control.inspects("camera", trigger_id=later.trigger_id)
    assert parts.judged("camera", inspection("good", trigger=later)).master_part is None
    assert parts.due == ["good-1"]


def test_two_announcements_one_after_the_other_have_a_record_each() -> None:
    _, parts, asked, _ = triggered()
    parts.show("good-1", "page")
    parts.show("good-1", "page")
    assert all(parts.judged("camera", inspection("good", trigger=a.trigger)).master_part for a in asked)


def test_what_cannot_be_triggered_is_not_announced() -> None:
    control, parts, _, _ = triggered()

    def refuse(asked: Asked) -> None:
        raise ControlError("no more of them")

    control.take_triggers("camera", refuse)
    with pytest.raises(ControlError, match="no more"):
        parts.show("good-1", "page")
    assert not parts.is_awaited("camera") and not parts.is_awaited("camera", trigger_id=1)


def test_arming_ends_an_announcement() -> None:
    control = Control()
    parts = masters(settings(GOOD), control)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    parts.show("good-1", "page")
    control.arm("page")
    control.pause("page")
    assert not parts.is_awaited("camera")
    assert parts.judged("camera", inspection("good")).master_part is None


def test_a_part_that_is_not_seen_in_time_is_not_awaited_any_longer() -> None:
    clock, notes = Clock(), list[str]()
    parts = masters(settings(GOOD, announce_s=20.0), Control(), notes, clock)
    parts.show("good-1", "page")
    clock.wait(20)
    parts.came_round()
    assert parts.is_awaited("camera") and notes == []
    clock.wait(1)
    parts.came_round()
    assert not parts.is_awaited("camera")
    assert notes == ["master part good-1: no picture of camera within 20 s; announce it again"]


class LineOfParts(Camera):
    """Sends a part that was seen long ago, and one seen now, once `go` is set; as one with an input line does."""

    name, is_triggered = "camera", True

    def __init__(self, picture: Frame) -> None:
        self.picture, self.go = picture, threading.Event()

    def frames(self, stop: threading.Event) -> Frames:
        self.go.wait(10)
        for number, age_s in enumerate([5.0, 0.0]):
            at_s = monotonic() - age_s
            seen = Provenance("camera", number, "2026-11-28T00:00:00.000Z", trigger=Trigger(number + 1, "", "camera"))
            yield replace(self.picture, provenance=seen, grabbed_at_s=at_s, due=Due(at_s, at_s + 60))


def test_a_part_seen_before_the_announcement_is_production(bundle_dir: Path, good_dir: Path) -> None:
    with open_camera(str(good_dir)) as folder:
        picture = next(folder.frames(threading.Event()))
    assert isinstance(picture, Frame)
    camera, control, sink = LineOfParts(picture), Control(), AnySink()
    parts = MasterParts(settings(GOOD), ["camera"], "b1", control, lambda text: None)
    parts.show("good-1", "page")
    camera.go.set()
    run([camera], Inspector.load(bundle_dir), [sink], control=control)
    assert [i.verdict for i in sink.inspections] == ["good", "good"]
    assert [i.master_part is not None for i in sink.inspections] == [False, True]


class AnySink(Sink):
    def __init__(self) -> None:
        self.inspections: list[Inspection] = []

    def write(self, inspection: Inspection, frame_bgr: Any, heat_map: Any = None) -> None:
        self.inspections.append(inspection)


# --- clocks, other files, other people


def test_a_clock_that_is_set_changes_nothing_within_a_run() -> None:
    control, clock = Control(), Clock()
    parts = masters(settings(GOOD, every_h=8.0), control, clock=clock)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    for jump_s in (-240 * HOUR_S, 480 * HOUR_S, -240 * HOUR_S):
        clock.now_s += jump_s
        assert parts.due == []
    clock.now_s -= 240 * HOUR_S
    clock.wait(8 * HOUR_S)
    assert parts.due == ["good-1"]


@pytest.mark.parametrize("every_h", [8.0, None])
def test_a_pass_that_is_dated_later_than_now_is_none(tmp_path: Path, every_h: float | None) -> None:
    given, clock = settings(GOOD, every_h=every_h, file=tmp_path / "parts.json"), Clock()
    parts = masters(given, Control(), clock=clock)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    clock.now_s -= 240 * HOUR_S
    assert masters(given, Control(), clock=clock).due == ["good-1"]


def test_a_remembered_pass_grows_old_by_whichever_clock_says_more(tmp_path: Path) -> None:
    given, clock = settings(GOOD, every_h=8.0, file=tmp_path / "parts.json"), Clock()
    parts = masters(given, Control(), clock=clock)
    parts.show("good-1", "page")
    parts.judged("camera", inspection("good"))
    clock.wait(5 * HOUR_S)
    again = masters(given, Control(), clock=clock)
    assert again.due == []
    clock.run_s += 3 * HOUR_S
    assert again.due == ["good-1"]
    clock.run_s -= 3 * HOUR_S
    clock.now_s += 3 * HOUR_S
    assert again.due == ["good-1"]


@pytest.mark.parametrize(
    "now",
    [
        {"name": "m", "expect": "good", "camera": "left"},
        {"name": "m", "expect": "defect", "camera": "left"},
        {"name": "m", "expect": "defect", "defect_class": "dent", "camera": "left"},
        {"name": "m", "expect": "defect", "defect_class": "scratch", "camera": "right"},
    ],
)
def test_a_part_of_which_something_else_is_expected_now_is_due(tmp_path: Path, now: dict[str, str]) -> None:
    file, cameras = tmp_path / "parts.json", ("left", "right")
    then = {"name": "m", "expect": "defect", "defect_class": "scratch", "camera": "left"}
    parts = masters(settings(then, file=file), Control(), cameras=cameras)
    parts.show("m", "page")
    parts.judged("left", inspection("defect", "scratch"))
    assert masters(settings(then, file=file), Control(), cameras=cameras).due == []
    assert masters(settings(now, file=file), Control(), cameras=cameras).due == ["m"]


class ArmedMeanwhile(Control):
    """Somebody arms it just before the next pause takes effect."""

    is_armed_meanwhile = False

    def pause(self, *what: Any, **more: Any) -> None:
        if self.is_armed_meanwhile:
            self.is_armed_meanwhile = False
            self.arm("page")
        super().pause(*what, **more)


def test_an_arming_is_never_undone_by_the_parts_that_have_passed() -> None:
    control = ArmedMeanwhile()
    parts = masters(settings(GOOD), control)
    parts.show("good-1", "page")
    control.is_armed_meanwhile = True
    parts.judged("camera", inspection("good"))
    assert control.is_armed


def test_a_part_that_fails_after_all_had_passed_is_named_again() -> None:
    control = Control()
    parts = masters(settings(GOOD), control)
    for verdict in ("good", "defect"):
        parts.show("good-1", "page")
        parts.judged("camera", inspection(verdict))
    assert control.status.reason == "master parts to be shown: good-1"


# --- a station


@contextmanager
def running(camera: Camera, inspector: Inspector, sink: Sink, control: Control) -> Iterator[None]:
    """The loop on a thread of its own."""
    stop = threading.Event()
    what = {"args": ([camera], inspector, [sink], None, stop), "kwargs": {"control": control}}
    thread = threading.Thread(target=run, daemon=True, **what)  # type: ignore[arg-type]
    thread.start()
    try:
        wait_for(lambda: control.takes_triggers or not camera.is_triggered)
        yield
    finally:
        stop.set()
        thread.join(5)


def test_a_triggered_part_without_a_picture_has_its_record_and_stays_due(tmp_path: Path, bundle_dir: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    (tmp_path / "1.png").write_bytes(b"no picture")
    control, sink = Control(), CallingSink()
    camera = TriggeredCamera(open_camera(str(tmp_path)), TriggerSettings(deadline_s=10), control, pytest.fail)
    parts = MasterParts(settings(GOOD), [camera.name], "b1", control, lambda text: None)
    with running(camera, Inspector.load(bundle_dir), sink, control):
        parts.show("good-1", "page")
        wait_for(lambda: len(sink.records) == 1)
        control.trigger("plc")
        wait_for(lambda: len(sink.records) == 2)
    assert [record["master_part"] for record in sink.records] == [
        {"name": "good-1", "expected": "good", "passed": False},
        None,
    ]
    assert "paused: master parts to be shown" in sink.of("error")[1]
    assert parts.due == ["good-1"]


@pytest.mark.parametrize("is_triggered", [True, False])
def test_a_station_shows_its_parts_and_only_those_while_paused(
    tmp_path: Path, bundle_dir: Path, good_dir: Path, defects_dir: Path, is_triggered: bool
) -> None:
    for number, source in enumerate([*sorted(defects_dir.rglob("*.png"))[:1], *sorted(good_dir.iterdir())[:3]]):
        (tmp_path / f"{number}.png").write_bytes(source.read_bytes())
    control, sink = Control(), CallingSink()
    inspector = Inspector.load(bundle_dir)
    camera = open_camera(str(tmp_path))
    if is_triggered:
        camera = TriggeredCamera(camera, TriggerSettings(deadline_s=10), control, pytest.fail)
    given = settings({"name": "bad", "expect": "defect"}, GOOD)
    parts = MasterParts(given, [camera.name], inspector.manifest.bundle_id, control, lambda text: None)
    with running(camera, inspector, sink, control):
        for count, name in enumerate(["bad", "good-1"], start=1):
            parts.show(name, "page")
            wait_for(lambda count=count: len(sink.records) == count)
        assert sink.of("path") == ["0.png", "1.png"]
        assert [record["passed"] for record in sink.of("master_part")] == [True, True]
        control.arm("page")
        if is_triggered:
            control.trigger("page")
        wait_for(lambda: len(sink.records) >= 3)
    assert sink.of("master_part")[2] is None
    assert json.dumps(parts.report()).count('"is_due": false') == 2
