"""Triggers: each gets one record, in order, by its deadline, whatever the camera does."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from calling_sink import CallingSink
from edge_processes import wait_for
from pydantic import ValidationError

from edge.cameras.faults import FaultLimits, FaultWatch
from edge.cameras.frames import Camera, Due, Frame, Frames, NoFrame
from edge.cameras.line_triggered import LineTriggeredCamera
from edge.cameras.sources import open_camera
from edge.cameras.triggered import TriggeredCamera, TriggerSettings
from edge.errors import CameraError, ControlError
from edge.inspector import Inspector
from edge.judging import judge
from edge.loop import run
from edge.result import Device, Provenance, utc_now
from edge.station.control import Control

BLACK = np.zeros((48, 64, 3), np.uint8)


class Stream(Camera):
    """A live camera that sends when the test says so."""

    is_live = True

    def __init__(self) -> None:
        self.name = "stream"
        self._items: queue.Queue[Frame | NoFrame | Exception | None] = queue.Queue()
        self._sent = 0
        self.fired = 0

    def send(self, grey: int = 100, **options: Any) -> None:
        provenance = Provenance(self.name, self._sent, utc_now(), **options)
        self._items.put(Frame(np.full((48, 64, 3), grey, np.uint8), provenance))
        self._sent += 1

    def send_every(self, period_s: float, stop: threading.Event) -> None:
        """Send from a thread until `stop`."""

        def sending() -> None:
            while not stop.wait(period_s):
                self.send()

        threading.Thread(target=sending, daemon=True).start()

    def lose(self) -> None:
        self.trouble = "camera lost: no frame for 1 s"
        self._items.put(NoFrame(Provenance(self.name, self._sent, utc_now()), self.trouble, lost=True))

    def come_back(self) -> None:
        self.trouble = None
        self.send()

    def end(self, error: Exception | None = None) -> None:
        self._items.put(error)

    def fire(self) -> bool:
        self.fired += 1
        if self.trouble is None:
            self.send(grey=self.fired)
        return self.trouble is None

    def frames(self, stop: threading.Event) -> Frames:
        while not stop.is_set():
            try:
                item = self._items.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item if isinstance(item, NoFrame) else replace(item, grabbed_at_s=monotonic())


@contextmanager
def answering(
    camera: Camera, control: Control, notes: list[str] | None = None, **settings: Any
) -> Iterator[tuple[list[Frame | NoFrame], threading.Event]]:
    """What `camera`, triggered, has answered so far; and the event that stops it."""
    answers: list[Frame | NoFrame] = []
    stop, notes = threading.Event(), [] if notes is None else notes
    triggered = TriggeredCamera(camera, TriggerSettings(**settings), control, notes.append)
    thread = threading.Thread(target=lambda: answers.extend(_each(triggered, stop, answers)), daemon=True)
    thread.start()
    wait_for(lambda: control.takes_triggers)
    try:
        yield answers, stop
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def _each(triggered: Camera, stop: threading.Event, answers: list[Frame | NoFrame]) -> list[Frame | NoFrame]:
    for item in triggered.frames(stop):
        answers.append(item)
    return []


def reasons(answers: list[Frame | NoFrame]) -> list[str]:
    return [answer.reason if isinstance(answer, NoFrame) else "picture" for answer in answers]


def test_a_trigger_gets_the_first_picture_grabbed_after_it() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control) as (answers, _):
        stream.send(grey=1)
        sleep(0.1)
        trigger = control.trigger("http", part_id="A-17")
        sleep(0.1)
        assert answers == []  # the picture before the trigger shows another part
        stream.send(grey=2)
        wait_for(lambda: answers)
    (frame,) = answers
    assert isinstance(frame, Frame)
    assert frame.frame_bgr[0, 0, 0] == 2
    assert frame.provenance.trigger == trigger
    assert frame.due is not None
    assert frame.due.deadline_at_s - frame.due.asked_at_s == pytest.approx(1.0)


def test_no_two_triggers_share_a_picture() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, deadline_s=0.3) as (answers, _):
        control.trigger("http")
        control.trigger("http")
        stream.send()
        wait_for(lambda: len(answers) == 2)
    assert reasons(answers) == [
        "picture",
        "timeout: no picture for this trigger alone; triggers come faster than pictures",
    ]
    assert [answer.provenance.trigger.trigger_id for answer in answers] == [1, 2]


def test_a_delay_waits_until_the_part_is_in_view() -> None:
    stream, control, stop = Stream(), Control(), threading.Event()
    stream.send_every(0.01, stop)
    with answering(stream, control, delay_s=0.2) as (answers, _):
        control.trigger("http")
        wait_for(lambda: answers)
    stop.set()
    assert 0.2 <= answers[0].grabbed_at_s - answers[0].due.asked_at_s < 0.35


def test_without_a_picture_the_answer_comes_at_the_deadline_and_says_why() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, deadline_s=0.2) as (answers, _):
        control.trigger("http")
        wait_for(lambda: answers)
        stream.send()
        sleep(0.1)
        control.trigger("http")
        wait_for(lambda: len(answers) == 2)
        late_ms = (monotonic() - answers[1].due.deadline_at_s) * 1e3
    assert reasons(answers)[0] == "timeout: no picture has come yet"
    assert reasons(answers)[1].startswith("stale frame: the newest picture is ")
    assert late_ms < 150


def test_a_lost_camera_is_not_waited_for_and_told_of_when_it_happens() -> None:
    stream, control, notes = Stream(), Control(), []
    with answering(stream, control, notes, deadline_s=30.0) as (answers, _):
        stream.lose()
        wait_for(lambda: notes)
        control.trigger("http")
        wait_for(lambda: answers, timeout_s=2)
        stream.come_back()
        wait_for(lambda: len(notes) == 2)
        control.trigger("http")
        stream.send()
        wait_for(lambda: len(answers) == 2)
    assert reasons(answers) == ["camera lost: no frame for 1 s", "picture"]
    assert notes == [
        "stream: camera lost: no frame for 1 s; trying to reconnect",
        "stream: the camera is back",
    ]


def test_more_triggers_than_may_wait_are_overruns_in_their_place() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, deadline_s=0.5, queue=2) as (answers, _):
        for _ in range(6):
            control.trigger("http")
        wait_for(lambda: len(answers) == 6)
    assert [answer.provenance.trigger.trigger_id for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert [reason.partition(":")[0] for reason in reasons(answers)].count("overrun") in (3, 4)  # one may be in hand
    assert reasons(answers)[-1] == "overrun: 2 triggers were waiting already"


def test_while_paused_every_trigger_is_answered_without_a_verdict() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, deadline_s=30.0) as (answers, _):
        control.pause("page", "cleaning")
        control.trigger("plc")
        wait_for(lambda: answers, timeout_s=2)
    assert reasons(answers) == ["paused: cleaning"]


def test_triggers_before_a_stop_are_answered_and_later_ones_refused() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, deadline_s=30.0) as (answers, stop):
        for _ in range(3):
            control.trigger("http")
        stop.set()
        wait_for(lambda: len(answers) == 3, timeout_s=2)
        with pytest.raises(ControlError):
            control.trigger("http")
    assert reasons(answers) == ["stopped"] * 3


def test_a_device_that_waits_is_fired_once_a_trigger() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, fire=True) as (answers, _):
        for _ in range(3):
            control.trigger("http")
        wait_for(lambda: len(answers) == 3)
        stream.trouble = "camera lost: pulled"
        control.trigger("http")
        wait_for(lambda: len(answers) == 4)
    assert stream.fired == 3  # a device that is known to be lost is not fired
    assert [answer.frame_bgr[0, 0, 0] for answer in answers[:3]] == [1, 2, 3]
    assert reasons(answers)[3] == "camera lost: pulled"


def test_files_give_their_next_picture_with_each_trigger(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), BLACK + number)
    (tmp_path / "1.png").write_text("no picture")
    control = Control()
    with answering(open_camera(str(tmp_path)), control) as (answers, _):
        for _ in range(3):
            control.trigger("http")
        wait_for(lambda: len(answers) == 3)
    assert [answer.provenance.path for answer in answers] == ["0.png", "1.png", "2.png"]
    assert isinstance(answers[1], NoFrame)


@pytest.mark.parametrize("error", [None, CameraError("gone for good")])
def test_a_camera_that_ends_answers_what_waits_and_takes_no_more(error: Exception | None) -> None:
    stream, control, answers = Stream(), Control(), []
    triggered = TriggeredCamera(stream, TriggerSettings(deadline_s=30), control, pytest.fail)
    caught: list[Exception] = []

    def answer() -> None:
        try:
            answers.extend(triggered.frames(threading.Event()))
        except CameraError as exc:
            caught.append(exc)

    thread = threading.Thread(target=answer)
    thread.start()
    wait_for(lambda: control.takes_triggers)
    control.trigger("http")
    stream.end(error)
    thread.join(5)
    assert not thread.is_alive()
    assert control.takes_triggers == []
    assert caught == ([error] if error else [])
    assert error or reasons(answers) == ["camera lost: it gives no more pictures"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"delay_s": 2.0}, "delay_s 2 is not less than deadline_s 1"),
        ({"by": "camera"}, "by: camera and the line of the camera, such as line: Line1, belong together"),
        ({"line": "Line1"}, "by: camera and the line of the camera, such as line: Line1, belong together"),
        ({"by": "camera", "line": "Line1", "fire": True}, "by: camera goes without fire, gpio and delay_s"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        TriggerSettings(**settings)


def test_a_trigger_has_its_picture_even_when_those_before_it_take_long() -> None:
    stream, control, stop = Stream(), Control(), threading.Event()
    stream.send_every(0.02, stop)
    answers = []
    triggered = TriggeredCamera(stream, TriggerSettings(deadline_s=5.0), control, pytest.fail)
    frames = triggered.frames(stop)
    thread = threading.Thread(target=lambda: answers.extend(_slowly(frames, 0.2)))
    thread.start()
    wait_for(lambda: control.takes_triggers)
    for _ in range(6):
        control.trigger("http")
        sleep(0.05)
    wait_for(lambda: stream_is_quiet(control, answers, 6), timeout_s=5)
    stop.set()
    thread.join(5)
    lags_s = [answer.grabbed_at_s - answer.due.asked_at_s for answer in answers]
    assert max(lags_s) < 0.15, lags_s  # the first picture after the trigger, not the newest one when its turn came


def _slowly(frames: Frames, pause_s: float) -> Iterator[Frame | NoFrame]:
    for item in frames:
        sleep(pause_s)
        yield item


def stream_is_quiet(control: Control, answers: list[Frame | NoFrame], count: int) -> bool:
    return len(answers) == count or bool(sleep(0.02))


def test_a_picture_that_comes_too_late_is_not_taken_for_the_next_part() -> None:
    class Slow(Stream):
        delay_s = 0.4

        def fire(self) -> bool:
            self.fired += 1
            grey, delay_s = self.fired, self.delay_s
            threading.Timer(delay_s, lambda: self.send(grey=grey)).start()
            return True

    stream, control = Slow(), Control()
    with answering(stream, control, fire=True, deadline_s=0.2) as (answers, _):
        control.trigger("http", part_id="1")
        wait_for(lambda: len(answers) == 1)
        stream.delay_s = 0.05
        control.trigger("http", part_id="2")
        wait_for(lambda: len(answers) == 2)
        sleep(0.3)
        control.trigger("http", part_id="3")
        wait_for(lambda: len(answers) == 3)
    assert reasons(answers)[0] == "timeout: no picture has come yet"
    second, third = answers[1:]
    assert isinstance(second, NoFrame) or second.frame_bgr[0, 0, 0] == 2
    assert isinstance(third, Frame)
    assert third.frame_bgr[0, 0, 0] == stream.fired


def test_a_device_is_fired_when_the_part_is_in_view() -> None:
    stream, control = Stream(), Control()
    with answering(stream, control, fire=True, delay_s=0.2) as (answers, _):
        control.trigger("http")
        wait_for(lambda: answers)
    assert 0.2 <= answers[0].grabbed_at_s - answers[0].due.asked_at_s < 0.4


def test_what_is_wrong_between_triggers_is_seen_too() -> None:
    stream, control, notes = Stream(), Control(), []
    limits = FaultLimits(frozen_after_s=0.2).for_source(True)
    watch = FaultWatch("stream", limits, True, notes.append)
    camera, stop, answers = (
        TriggeredCamera(stream, TriggerSettings(), control, pytest.fail, watch),
        threading.Event(),
        [],
    )
    thread = threading.Thread(target=lambda: answers.extend(camera.frames(stop)))
    thread.start()
    stream.send_every(0.02, stop)  # the same picture again and again
    wait_for(lambda: camera.trouble)
    control.trigger("http")
    sleep(0.2)
    stop.set()
    thread.join(5)
    assert camera.trouble is not None and camera.trouble.startswith("frozen picture")
    assert reasons(answers)[0].startswith("frozen picture")
    assert len(notes) == 1


def test_triggers_in_a_row_without_a_picture_are_a_trouble_until_one_comes() -> None:
    stream, control, stop = Stream(), Control(), threading.Event()
    camera, answers = TriggeredCamera(stream, TriggerSettings(deadline_s=0.05), control, pytest.fail), []
    thread = threading.Thread(target=lambda: [answers.append(item) for item in camera.frames(stop)])
    thread.start()
    wait_for(lambda: control.takes_triggers)
    for count in range(1, 4):
        assert camera.trouble is None
        control.trigger("http")
        wait_for(lambda count=count: len(answers) == count)
    assert camera.trouble == "no picture for the last 3 triggers"
    stream.send_every(0.01, stop)
    wait_for(lambda: control.trigger("http") and not sleep(0.1) and camera.trouble is None)
    stop.set()
    thread.join(5)


@pytest.mark.parametrize("broken_at", [0, 2])
def test_a_source_that_breaks_answers_whoever_asked(broken_at: int) -> None:
    class Breaking(Camera):
        name = "breaking"

        def frames(self, stop: threading.Event) -> Frames:
            for number in range(broken_at):
                yield Frame(BLACK, Provenance(self.name, number, utc_now()))
            raise CameraError("broken")

    control, answers, caught = Control(), [], []
    camera = TriggeredCamera(Breaking(), TriggerSettings(deadline_s=30), control, pytest.fail)

    def answer() -> None:
        try:
            for item in camera.frames(threading.Event()):
                answers.append(item)
        except CameraError as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=answer)
    thread.start()
    asked = 0
    while thread.is_alive() and asked < 5:
        try:
            control.trigger("http")
            asked += 1
        except ControlError:  # not yet, or no more
            sleep(0.01)
    thread.join(5)
    assert not thread.is_alive()
    assert len(answers) == asked
    assert caught == ["broken"]
    assert control.takes_triggers == []


# --- a device triggered by its own line


def line_triggered(stream: Stream, control: Control, **settings: Any) -> tuple[LineTriggeredCamera, list[str]]:
    notes: list[str] = []
    return LineTriggeredCamera(
        stream, TriggerSettings(by="camera", line="Line1", **settings), control, notes.append
    ), notes


def test_every_picture_of_a_line_triggered_camera_is_a_part() -> None:
    stream, control = Stream(), Control()
    camera, notes = line_triggered(stream, control)
    for number in (7, 8):
        stream.send(device=Device(frame_id=number))
    stream.lose()
    stream.come_back()
    stream.end()
    answers = list(camera.frames(threading.Event()))
    assert reasons(answers) == ["picture"] * 3
    assert [answer.provenance.trigger.trigger_id for answer in answers] == [1, 2, 3]
    assert [answer.provenance.frame_id for answer in answers] == [0, 1, 2]
    assert len(notes) == 2


def test_pictures_that_were_numbered_and_never_came_have_a_record_each() -> None:
    stream, control = Stream(), Control()
    camera, _ = line_triggered(stream, control)
    for number in (7, 10):
        stream.send(device=Device(frame_id=number))
    stream.end()
    answers = list(camera.frames(threading.Event()))
    lost = "camera lost: its picture never arrived"
    assert reasons(answers) == ["picture", lost, lost, "picture"]
    assert len({answer.provenance.frame_id for answer in answers}) == 4


def test_a_paused_line_triggered_camera_says_so_for_each_part() -> None:
    stream, control = Stream(), Control()
    control.pause("page", "cleaning")
    camera, _ = line_triggered(stream, control)
    stream.send()
    stream.end()
    assert reasons(list(camera.frames(threading.Event()))) == ["paused: cleaning"]


# --- in the loop


def test_records_say_which_trigger_they_answer_and_how_long_it_took(bundle_dir: Path) -> None:
    stream, control, sink, stop = Stream(), Control(), CallingSink(), threading.Event()
    stream.send_every(0.01, stop)
    sink.then = lambda count: stop.set() if count == 5 else None
    camera = TriggeredCamera(stream, TriggerSettings(), control, pytest.fail)
    thread = threading.Thread(target=run, args=([camera], Inspector.load(bundle_dir), [sink], None, stop))
    thread.start()
    wait_for(lambda: control.takes_triggers)
    for number in range(5):
        control.trigger("mqtt", part_id=f"part {number}")
        wait_for(lambda number=number: len(sink.records) > number)
    thread.join(5)
    triggers = sink.of("trigger")
    assert [trigger["part_id"] for trigger in triggers] == [f"part {number}" for number in range(5)]
    assert all(0 < trigger["latency_ms"] < 1000 for trigger in triggers)
    assert all(0 < age < 1000 for age in sink.of("age_ms"))
    assert [trigger["by"] for trigger in triggers] == ["mqtt"] * 5


def test_a_verdict_after_the_deadline_is_none(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, control, sink, stop = Stream(), Control(), CallingSink(lambda count: stop.set()), threading.Event()
    inspector = Inspector.load(bundle_dir)
    examine = inspector.examine

    def slowly(*arguments: Any) -> Any:
        sleep(0.3)
        return examine(*arguments)

    monkeypatch.setattr(inspector, "examine", slowly)
    stream.send_every(0.01, stop)
    camera = TriggeredCamera(stream, TriggerSettings(deadline_s=0.2), control, pytest.fail)
    thread = threading.Thread(target=run, args=([camera], inspector, [sink], None, stop))
    thread.start()
    wait_for(lambda: control.takes_triggers)
    control.trigger("http")
    thread.join(5)
    assert sink.of("verdict") == ["no_verdict"]
    (error,) = sink.of("error")
    assert re.fullmatch(r"timeout: the verdict came \d+ ms after the trigger, 200 ms allowed", error)


def test_one_whose_deadline_has_passed_is_not_inspected(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = Inspector.load(bundle_dir)
    monkeypatch.setattr(inspector, "examine", pytest.fail)
    due = Due(monotonic() - 1.0, monotonic() - 0.5)
    judged = judge(Frame(BLACK, Provenance("stream", 0, utc_now()), due=due), inspector, False)
    assert judged.inspection.verdict == "no_verdict"
    assert re.fullmatch(r"timeout: 1\d\d\d ms after the trigger its turn had not come", judged.inspection.error or "")


def test_after_the_last_record_whoever_has_asked_is_answered(bundle_dir: Path) -> None:
    stream, control, sink, stop = Stream(), Control(), CallingSink(), threading.Event()
    stream.send_every(0.01, stop)
    camera = TriggeredCamera(stream, TriggerSettings(queue=50), control, pytest.fail)
    thread = threading.Thread(target=run, args=([camera], Inspector.load(bundle_dir), [sink], 2, stop))
    thread.start()
    wait_for(lambda: control.takes_triggers)
    for _ in range(9):
        control.trigger("http")
    thread.join(10)
    assert [trigger["trigger_id"] for trigger in sink.of("trigger")] == list(range(1, 10))


def test_what_was_asked_before_a_stop_has_its_records(bundle_dir: Path) -> None:
    stream, control, sink, stop = Stream(), Control(), CallingSink(), threading.Event()
    camera = TriggeredCamera(stream, TriggerSettings(deadline_s=30.0), control, pytest.fail)
    thread = threading.Thread(target=run, args=([camera], Inspector.load(bundle_dir), [sink], None, stop))
    thread.start()
    wait_for(lambda: control.takes_triggers)
    for _ in range(7):
        control.trigger("http")
    stop.set()
    thread.join(5)
    assert sink.of("error") == ["stopped"] * 7


def test_while_paused_pictures_are_shown_and_not_judged_and_files_wait(bundle_dir: Path, good_dir: Path) -> None:
    class Watching(CallingSink):
        seen = 0

        def see(self, camera: str, frame_bgr: np.ndarray) -> None:
            self.seen += 1

        def came_round(self, status: Any) -> None:
            states.append(status.state)

    states: list[str] = []
    stream, control, sink, stop = Stream(), Control(), Watching(), threading.Event()
    control.pause("page")
    stream.send_every(0.01, stop)
    cameras = [stream, open_camera(str(good_dir))]
    thread = threading.Thread(
        target=run, args=(cameras, Inspector.load(bundle_dir), [sink], None, stop), kwargs={"control": control}
    )
    thread.start()
    wait_for(lambda: sink.seen >= 10)
    assert sink.records == []
    assert set(states) == {"paused"}
    control.arm("page")
    count = len(list(good_dir.iterdir()))
    wait_for(lambda: sum(source != "stream" for source in sink.of("source")) == count)
    stop.set()
    thread.join(5)
    assert sink.of("path").count(None) > 0
    assert "armed" in states
