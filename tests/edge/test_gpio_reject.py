"""Rejects on a GPIO line: at their time, as long as they should be, and safe when nobody looks.

The line is a fake at the seam of `edge.gpio`: there is no GPIO hardware here, and no gpio-sim in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, perf_counter, sleep
from typing import Any

import pydantic
import pytest
from edge_processes import wait_for
from gpio_lines import FakeOutput
from output_records import an_inspection

from edge.errors import UsageError
from edge.outputs.gpio_reject import RejectOutput, RejectSink
from edge.outputs.station_outputs import Outputs
from edge.result import Inspection
from edge.station.control import Control, Status

ARMED = Status("armed", None, {"left": None, "right": None})
TOLERANCE_S = 0.05  # machines that run tests are busy; what to expect of it stands in docs/outputs.md


def settings(lines: list[dict[str, Any]] | None = None, **keys: Any) -> RejectOutput:
    return RejectOutput.model_validate({"lines": lines or [{"line": 17, "delay_ms": 100.0, "pulse_ms": 40.0}], **keys})


@contextmanager
def opened(
    fake: FakeOutput, given: RejectOutput, told: list[str] | None = None, status: Status | None = ARMED
) -> Iterator[RejectSink]:
    """A sink whose line is idle and whose loop has come round once."""
    tell = (told if told is not None else []).append
    with RejectSink(given, ["left", "right"], tell, fake.open) as sink:
        assert isinstance(sink, RejectSink)
        if status:
            sink.came_round(status)
            wait_for(lambda: not fake.levels[-1], 5)
        fake.sets[:] = fake.sets[-1:]
        yield sink


def a_record(verdict: str = "defect", source: str = "left", **ages: float | None) -> Inspection:
    return replace(an_inspection(0, verdict, source), **ages)  # type: ignore[arg-type]


# --- when, and how long


def test_a_pulse_begins_its_delay_after_the_grab_and_has_its_width() -> None:
    fake = FakeOutput()
    with opened(fake, settings()) as sink:
        now_s = monotonic()
        sink.write(a_record(age_ms=30.0), None)
        wait_for(lambda: fake.pulses, 5)
    ((begin_s, end_s),) = fake.pulses
    assert 0 <= begin_s - (now_s + 0.070) < TOLERANCE_S
    assert 0.040 <= end_s - begin_s < 0.040 + TOLERANCE_S
    assert fake.opened == [("gpiochip0", "17", "high")]


@pytest.mark.parametrize(
    ("delay_from", "age_ms", "trigger_ms", "due_ms"),
    [
        ("grab", 20.0, 60.0, 80),
        ("trigger", 20.0, 60.0, 40),
        ("grab", None, 60.0, 40),  # a trigger without a picture
        ("trigger", 20.0, None, 80),
        ("grab", None, None, 100),  # a camera that was lost: nothing to count from
    ],
)
def test_the_delay_counts_from_what_the_station_says(
    delay_from: str, age_ms: float | None, trigger_ms: float | None, due_ms: float
) -> None:
    fake = FakeOutput()
    with opened(fake, settings([{"line": 17, "delay_ms": 100.0, "delay_from": delay_from, "pulse_ms": 5.0}])) as sink:
        now_s = monotonic()
        sink.write(a_record(age_ms=age_ms, trigger_ms=trigger_ms), None)
        wait_for(lambda: fake.pulses, 5)
    assert 0 <= fake.pulses[0][0] - (now_s + due_ms / 1e3) < TOLERANCE_S


def test_pulses_that_overlap_are_one_and_others_stay_apart() -> None:
    fake = FakeOutput()
    with opened(fake, settings([{"line": 17, "delay_ms": 300.0, "pulse_ms": 100.0}])) as sink:
        now_s = monotonic()
        for age_ms in (200.0, 140.0, 0.0):  # due after 100, 160 and 300 ms
            sink.write(a_record(age_ms=age_ms), None)
        wait_for(lambda: len(fake.pulses) == 2, 5)
    (first, second) = fake.pulses
    assert first[0] - now_s == pytest.approx(0.100, abs=TOLERANCE_S)
    assert first[1] - now_s == pytest.approx(0.260, abs=TOLERANCE_S)
    assert second[0] - now_s == pytest.approx(0.300, abs=TOLERANCE_S)
    assert second[1] - second[0] == pytest.approx(0.100, abs=TOLERANCE_S)


def test_a_pulse_that_is_asked_for_later_may_be_due_earlier() -> None:
    fake = FakeOutput()
    with opened(fake, settings([{"line": 17, "delay_ms": 400.0, "pulse_ms": 10.0}])) as sink:
        now_s = monotonic()
        sink.write(a_record(age_ms=0.0), None)
        sleep(0.02)
        sink.write(a_record(age_ms=330.0), None)
        wait_for(lambda: len(fake.pulses) == 2, 5)
    assert fake.pulses[0][0] - now_s == pytest.approx(0.090, abs=TOLERANCE_S)


def test_a_pulse_that_is_overdue_begins_at_once_and_is_told_and_counted() -> None:
    fake, told = FakeOutput(), list[str]()
    with opened(fake, settings(), told) as sink:
        now_s = monotonic()
        for _ in range(3):
            sink.write(a_record(age_ms=350.0), None)
        wait_for(lambda: fake.pulses, 5)
        assert sink.late == 3
    assert fake.pulses[0][0] - now_s < TOLERANCE_S
    assert told == ["reject line gpiochip0 17: a pulse was due 250 ms before the verdict; late: 1"]


def test_without_a_delay_a_pulse_begins_at_once_and_is_never_late() -> None:
    fake, told = FakeOutput(), list[str]()
    with opened(fake, settings([{"line": 17, "pulse_ms": 5.0}]), told) as sink:
        now_s = monotonic()
        sink.write(a_record(age_ms=350.0), None)
        wait_for(lambda: fake.pulses, 5)
        assert sink.late == 0
    assert fake.pulses[0][0] - now_s < TOLERANCE_S
    assert told == []


# --- which


def test_everything_that_is_not_good_is_rejected() -> None:
    fake = FakeOutput()
    with opened(fake, settings([{"line": 17, "pulse_ms": 1.0}])) as sink:
        for count, (verdict, rejects) in enumerate([("defect", 1), ("good", 1), ("no_verdict", 2)]):
            sink.write(a_record(verdict), None)
            sleep(0.05 if verdict == "good" else 0)
            wait_for(lambda rejects=rejects: len(fake.pulses) == rejects, 5)  # type: ignore[misc]
            assert len(fake.pulses) == rejects, count


def test_each_camera_has_its_line_and_its_verdicts() -> None:
    fakes = {"1": FakeOutput(), "2": FakeOutput()}
    lines = [{"line": "1", "camera": "left", "pulse_ms": 1.0}, {"line": "2", "verdicts": ["good"], "pulse_ms": 1.0}]

    def open_line(chip: str, line: str, active: Any, is_active: bool) -> FakeOutput:
        return fakes[line].open(chip, line, active, is_active)

    with RejectSink(settings(lines), ["left", "right"], print, open_line) as sink:
        sink.came_round(ARMED)
        wait_for(lambda: not any(fake.levels[-1] for fake in fakes.values()), 5)
        for fake in fakes.values():
            fake.sets.clear()
        for source, verdict in (("left", "defect"), ("right", "defect"), ("right", "good")):
            sink.write(a_record(verdict, source), None)
        wait_for(lambda: all(len(fake.pulses) == 1 for fake in fakes.values()), 5)
        sleep(0.05)
        assert [len(fake.pulses) for fake in fakes.values()] == [1, 1]


# --- safe when nobody looks


def test_a_line_is_held_until_the_loop_begins_and_when_it_stalls() -> None:
    fake, told = FakeOutput(), list[str]()
    with opened(fake, settings(stall_after_s=0.5), told, status=None) as sink:
        assert fake.levels == [True]
        last_round_s = monotonic()
        sink.came_round(ARMED)
        wait_for(lambda: not fake.levels[-1], 5)
        wait_for(lambda: fake.levels[-1], 5)
        assert 0.5 < monotonic() - last_round_s < 1.5
        sink.came_round(ARMED)
        wait_for(lambda: not fake.levels[-1], 5)
    label = "reject line gpiochip0 17"
    assert told == [
        f"{label}: the loop that inspects has not come round for 0.5 s",
        f"{label}: the loop comes round again",
    ]


@pytest.mark.parametrize(
    ("status", "is_held"),
    [
        (Status("paused", "paused by page", {"left": None}), True),
        (Status("fault", "left: lost", {"left": "lost", "right": None}), True),
        (Status("fault", "right: lost", {"left": None, "right": "lost"}), False),
        (ARMED, False),
    ],
)
def test_a_line_is_held_while_paused_or_when_its_camera_gives_nothing(status: Status, is_held: bool) -> None:
    fake = FakeOutput()
    with opened(fake, settings([{"line": 17, "camera": "left"}])) as sink:
        sink.came_round(status)
        sleep(0.25)
        assert fake.levels[-1] is is_held
        sink.came_round(ARMED)
        wait_for(lambda: not fake.levels[-1], 5)


def test_what_holds_a_line_is_the_stations_choice() -> None:
    fake = FakeOutput()
    with opened(fake, settings(hold_when=["fault"], stall_after_s=0.5)) as sink:
        sink.came_round(Status("paused", "paused by page"))
        sleep(0.8)  # and stalled
        assert fake.levels == [False]
    assert fake.levels[-1] is False
    assert not fake.is_open


@pytest.mark.parametrize(("hold_when", "left"), [(["stalled"], True), ([], False)])
def test_a_line_is_left_as_a_stalled_loop_would_leave_it(hold_when: list[str], left: bool) -> None:
    fake = FakeOutput()
    with opened(fake, settings(hold_when=hold_when)) as sink:
        sink.write(a_record(age_ms=0.0), None)
    assert fake.levels[-1] is left
    assert not fake.is_open


def test_a_chip_that_goes_is_told_once_and_taken_again_when_it_is_back() -> None:
    fake, told = FakeOutput(), list[str]()
    with opened(fake, settings([{"line": 17, "pulse_ms": 1.0}], stall_after_s=60.0), told) as sink:
        fake.is_broken = True
        sink.write(a_record(), None)
        wait_for(lambda: told, 5)
        sleep(1.5)
        assert len(told) == 1 and "the line cannot be set (OSError: [Errno 19] No such device)" in told[0]
        fake.is_broken = False
        wait_for(lambda: len(told) == 2, 5)
        assert told[1].endswith("it can be set again")
        sink.came_round(ARMED)
        wait_for(lambda: not fake.levels[-1], 5)
        before = len(fake.pulses)
        sink.write(a_record(), None)
        wait_for(lambda: len(fake.pulses) > before, 5)


# --- around


def test_a_reject_costs_the_loop_little() -> None:
    with opened(FakeOutput(), settings()) as sink:
        costs_s = []
        for _ in range(200):
            started_s = perf_counter()
            sink.write(a_record(age_ms=1.0), None)
            costs_s.append(perf_counter() - started_s)
    assert sorted(costs_s)[100] < 0.0005


def test_rejects_are_written_before_every_other_output() -> None:
    fake = FakeOutput()
    outputs = Outputs.model_validate({"records": {"file": "-"}, "reject": {"lines": [{"line": 17}]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "edge.outputs.gpio_reject.RejectOutput.open", lambda self, *_: RejectSink(self, [], print, fake.open)
        )
        sinks = list(outputs.open([], print, Control()))
    assert isinstance(sinks[0], RejectSink) and len(sinks) == 2
    for sink in sinks:
        sink.close()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "twins": ({"lines": [{"line": 3}, {"line": "3", "chip": "/dev/gpiochip0"}]}, "is given twice"),
    "no lines": ({"lines": []}, "at least 1"),
    "no verdicts": ({"lines": [{"line": 3, "verdicts": []}]}, "at least 1"),
    "negative": ({"lines": [{"line": -3}]}, "string"),
    "no width": ({"lines": [{"line": 3, "pulse_ms": 0.0}]}, "greater than or equal to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_mean_nothing_are_refused(case: str) -> None:
    keys, says = BAD[case]
    with pytest.raises(pydantic.ValidationError, match=says):
        RejectOutput.model_validate(keys)


def test_a_line_of_a_camera_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no camera is called middle; there are: left, right"):
        RejectSink(settings([{"line": 1, "camera": "middle"}]), ["left", "right"], print, FakeOutput().open)


def test_when_one_line_cannot_be_had_the_others_are_given_back() -> None:
    fake = FakeOutput()

    def open_line(chip: str, line: str, active: Any, is_active: bool) -> FakeOutput:
        fake.is_broken = line == "2"
        try:
            return fake.open(chip, line, active, is_active)
        finally:
            fake.is_broken = False

    with pytest.raises(OSError):
        RejectSink(settings([{"line": 1}, {"line": 2}]), [], print, open_line)
    assert not fake.is_open


def test_in_words_everything_is_said() -> None:
    given = settings([{"line": "REJECT", "camera": "left", "delay_ms": 350.0, "active": "low"}])
    says = "50 ms low on gpiochip0 line REJECT 350 ms after the grab, for defect and no_verdict of left"
    assert given.in_words() == f"{says}; held while stalled or paused or fault"
