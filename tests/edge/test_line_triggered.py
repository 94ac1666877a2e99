"""A camera whose own line triggers it, behind a real grabber: no part goes without a record, whatever happens."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np
from edge_processes import wait_for

from edge.cameras.device import DeviceCapture
from edge.cameras.frames import Frame, NoFrame
from edge.cameras.line_triggered import LineTriggeredCamera
from edge.cameras.live import LiveCamera
from edge.cameras.triggered import TriggerSettings
from edge.result import Device
from edge.station.control import Control

QUEUE = 4
LOST = "camera lost: its picture never arrived"
FULL = f"overrun: {QUEUE} pictures were waiting already"


class LineDevice(DeviceCapture):
    """Sends a picture for each number; a driver that knows says how many were lost before it."""

    waits = True

    def __init__(self, *numbers: int, knows_losses: bool = True) -> None:
        self._numbers: queue.Queue[int | None] = queue.Queue()
        self._knows_losses, self.read_all = knows_losses, threading.Event()
        self.send(*numbers)

    def send(self, *numbers: int) -> None:
        self.read_all.clear()
        for number in numbers:
            self._numbers.put(number)

    def die(self) -> None:
        self._numbers.put(None)

    def read(self) -> tuple[bool, np.ndarray | None]:
        try:
            number = self._numbers.get(timeout=0.01)
        except queue.Empty:
            self.read_all.set()
            return True, None
        if number is None:
            return False, None
        last = self.device.frame_id if self.device else None
        gap = number - last - 1 if last is not None else 0
        self.lost_frames, self.device = max(0, gap) if self._knows_losses else 0, Device(number, None)
        return True, np.full((8, 8, 3), number % 250, np.uint8)

    def release(self) -> None: ...

    def fire(self) -> None: ...


class Taker:
    """Takes what a station's line-triggered camera gives, one item at a time."""

    def __init__(self, *devices: LineDevice) -> None:
        opened = iter(devices)
        self.notes: list[str] = []
        self.stop = threading.Event()
        live = LiveCamera("line", lambda: next(opened), lost_after_s=0.5, keep=QUEUE)
        settings = TriggerSettings(by="camera", line="Line1", queue=QUEUE)
        self.frames = LineTriggeredCamera(live, settings, Control(), self.notes.append).frames(self.stop)

    def take(self, count: int) -> list[Frame | NoFrame]:
        return [next(self.frames) for _ in range(count)]

    def rest(self) -> list[Frame | NoFrame]:
        """What comes after a stop."""
        self.stop.set()
        return list(self.frames)


def reasons(items: list[Any]) -> list[str]:
    return [item.reason if isinstance(item, NoFrame) else "picture" for item in items]


# --- what was lost, and what had no room


def test_pictures_lost_in_transport_are_lost_whether_the_driver_knows_or_the_numbers_say_so() -> None:
    for knows_losses in (True, False):
        taker = Taker(LineDevice(1, 2, 5, knows_losses=knows_losses))
        assert reasons(taker.take(5)) == ["picture", "picture", LOST, LOST, "picture"]
        taker.rest()


def test_losses_and_overruns_are_told_apart() -> None:
    device = LineDevice(1)
    taker = Taker(device)
    taker.take(1)
    device.send(2, 3, 4, 5, 6, 9)  # 6 finds no room; 7 and 8 never come, and 9 finds no room
    wait_for(device.read_all.is_set)
    assert reasons(taker.take(4)) == ["picture"] * 4
    device.send(10)
    assert reasons(taker.take(5)) == [LOST, LOST, FULL, FULL, "picture"]
    taker.rest()


# --- what ends a connection


def test_pictures_that_wait_when_the_station_stops_have_their_records() -> None:
    device = LineDevice(1)
    taker = Taker(device)
    taker.take(1)
    device.send(2, 3, 4)
    wait_for(device.read_all.is_set)
    assert reasons(taker.rest()) == ["stopped"] * 3


def test_overruns_without_a_picture_after_them_have_their_records_at_a_stop() -> None:
    device = LineDevice(1)
    taker = Taker(device)
    taker.take(1)
    device.send(2, 3, 4, 5, 6, 7)
    wait_for(device.read_all.is_set)
    items = taker.rest()
    assert reasons(items) == ["stopped"] * 4 + [FULL] * 2
    assert [item.provenance.frame_id for item in items] == [1, 2, 3, 4, 5, 6]


def test_overruns_before_a_loss_have_their_records() -> None:
    device, second = LineDevice(1), LineDevice(1)
    taker = Taker(device, second)
    taker.take(1)
    device.send(2, 3, 4, 5, 6, 7)
    wait_for(device.read_all.is_set)
    device.die()
    assert reasons(taker.take(7)) == ["picture"] * 4 + [FULL] * 2 + ["picture"]
    assert [note.rpartition(": ")[2] for note in taker.notes][-1] == "the camera is back"
    taker.rest()


# --- a camera that was reset, and the moment of a part


def test_numbers_that_jump_ahead_are_one_record_and_a_message() -> None:
    for knows_losses in (True, False):
        taker = Taker(LineDevice(1, 2**63, 2**63 + 1, knows_losses=knows_losses))
        assert reasons(taker.take(4)) == ["picture", LOST, "picture", "picture"]
        (note,) = taker.notes
        assert f"numbering jumped by {2**63 - 1} to {2**63}" in note
        taker.rest()


def test_parts_without_a_picture_are_due_when_the_picture_after_them_is() -> None:
    device = LineDevice(1)
    taker = Taker(device)
    taker.take(1)
    device.send(4, 5)
    wait_for(device.read_all.is_set)
    *lost, picture = taker.take(3)
    assert {item.due for item in lost} == {picture.due} != {None}
    (waiting,) = taker.rest()
    assert waiting.due and picture.due and waiting.due.asked_at_s >= picture.due.asked_at_s
    assert waiting.due.deadline_at_s - waiting.due.asked_at_s == 1.0
