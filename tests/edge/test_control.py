"""What a running station may be asked for, and what it says of itself."""

from __future__ import annotations

import threading

import pytest

from edge.errors import ControlError
from edge.station.control import Asked, Control, Status


def test_a_station_begins_armed() -> None:
    assert Control().status == Status("armed")


def test_paused_says_by_whom_until_it_is_armed_again() -> None:
    control = Control()
    control.pause("page")
    assert not control.is_armed
    assert control.status == Status("paused", "paused by page")
    control.arm("plc")
    assert control.is_armed
    assert control.status == Status("armed")


def test_a_camera_in_trouble_is_a_fault_that_ends_by_itself() -> None:
    control = Control()
    control.set_trouble("left", None)
    control.set_trouble("right", "camera lost: no frame for 5 s", reconnects=2)
    assert control.is_armed
    lost = {"left": None, "right": "camera lost: no frame for 5 s"}
    counts = {"left": 0, "right": 2}
    assert control.status == Status("fault", "right: camera lost: no frame for 5 s", lost, counts)
    control.set_trouble("right", None)
    assert control.status.state == "armed"


def test_paused_is_told_before_a_fault() -> None:
    control = Control()
    control.set_trouble("left", "dark picture")
    control.pause("page", "cleaning")
    assert (control.status.state, control.status.reason) == ("paused", "cleaning")


def test_a_trigger_reaches_every_camera_that_waits_or_the_one_named() -> None:
    control, left, right = Control(), [], []
    control.take_triggers("left", left.append)
    control.take_triggers("right", right.append)
    first = control.trigger("http", part_id="A-17")
    second = control.trigger("mqtt", camera="right")
    assert (first.trigger_id, first.by, first.part_id) == (1, "http", "A-17")
    assert [asked.trigger for asked in left] == [first]
    assert [asked.trigger for asked in right] == [first, second]
    assert control.takes_triggers == ["left", "right"]


def test_a_trigger_that_nobody_takes_is_refused_and_takes_no_number() -> None:
    control = Control()
    with pytest.raises(ControlError, match="no camera of this station waits for triggers"):
        control.trigger("cli")
    taken: list[Asked] = []
    control.take_triggers("left", taken.append)
    with pytest.raises(ControlError, match="no triggered camera is called 'top'; there are: left"):
        control.trigger("cli", camera="top")
    assert control.trigger("cli").trigger_id == 1
    control.take_triggers("left", None)
    with pytest.raises(ControlError):
        control.trigger("cli")


def test_a_part_id_without_end_is_refused_and_takes_no_number() -> None:
    control, taken = Control(), []
    control.take_triggers("left", taken.append)
    with pytest.raises(ControlError, match="a part id of 201 characters; expected 200 at most"):
        control.trigger("opcua", part_id="x" * 201)
    assert taken == []
    assert control.trigger("opcua", part_id="x" * 200).trigger_id == 1


def test_triggers_of_many_threads_arrive_in_the_order_of_their_numbers() -> None:
    control, taken = Control(), []
    control.take_triggers("left", taken.append)
    threads = [threading.Thread(target=lambda: [control.trigger("http") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [asked.trigger.trigger_id for asked in taken] == list(range(1, 801))
    assert [asked.at_s for asked in taken] == sorted(asked.at_s for asked in taken)
