"""Basler cameras against pylon's own emulation, with its pictures and its failures."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from edge_processes import wait_for

from edge.cameras.basler import BaslerCapture
from edge.cameras.device import DeviceSettings
from edge.cameras.frames import Frame, Frames, NoFrame
from edge.cameras.live import LiveCamera
from edge.cameras.sources import open_camera
from edge.cameras.triggered import TriggeredCamera, TriggerSettings
from edge.errors import CameraError, UsageError
from edge.station.control import Control

os.environ["PYLON_CAMEMU"] = "2"  # read once, when pypylon is first imported
pytestmark = pytest.mark.skipif(find_spec("pypylon") is None, reason="needs pip install 'oddkind[basler]'")
NEVER = threading.Event()
LOST_AFTER_S = 1.0
SECOND = "0815-0001"


@contextmanager
def camera_at(
    serial: str = "", trigger_source: str | None = None, keep: int = 1, **settings: Any
) -> Iterator[LiveCamera]:
    device = DeviceSettings(**settings)
    with open_camera(f"basler:{serial}", LOST_AFTER_S, False, device, trigger_source, keep) as camera:
        assert isinstance(camera, LiveCamera)
        yield camera


def nodes(camera: LiveCamera) -> Any:
    """The features of the open device."""
    capture = camera._grabbers[-1]._capture
    assert isinstance(capture, BaslerCapture)
    return capture._camera


def first(camera: LiveCamera) -> Frame:
    frame = next(camera.frames(NEVER))
    assert isinstance(frame, Frame)
    return frame


def next_frame(frames: Frames) -> Frame:
    return next(item for item in frames if isinstance(item, Frame))


class Taker(threading.Thread):
    """Takes whatever comes, as the loop does."""

    def __init__(self, camera: LiveCamera) -> None:
        super().__init__(daemon=True)
        self.items: list[Frame | NoFrame] = []
        self.stop = threading.Event()
        self._camera = camera
        self.start()

    def run(self) -> None:
        for item in self._camera.frames(self.stop):
            self.items.append(item)

    def wait_for(self, count: int) -> None:
        deadline_s = monotonic() + 5
        while len(self.items) < count and monotonic() < deadline_s:
            sleep(0.02)

    def __enter__(self) -> Taker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()


def test_frames_say_the_number_that_the_camera_gave_them() -> None:
    with camera_at(SECOND) as camera:
        stream = camera.frames(NEVER)
        frames = [next_frame(stream) for _ in range(3)]
    numbers = [frame.provenance.device.frame_id for frame in frames if frame.provenance.device]
    assert len(numbers) == 3
    gaps = [after - before - 1 for before, after in itertools.pairwise(numbers) if after and before is not None]
    assert gaps == [frame.dropped_before for frame in frames[1:]]


def test_all_settings_are_applied() -> None:
    asked = {"exposure_us": 5000.0, "gain_db": 6.0, "roi_xywh": [16, 8, 320, 200], "pixel_format": "BayerRG8"}
    with camera_at(**asked) as camera:
        frame = first(camera)
        assert frame.frame_bgr.shape == (200, 320, 3)
    capture = BaslerCapture("", DeviceSettings(**asked))
    try:
        device = capture._camera
        assert device.ExposureTime.Value == pytest.approx(5000, rel=0.01)
        assert device.Gain.Value == pytest.approx(6, abs=0.1)
        region = [device.GetNodeMap().GetNode(name).GetValue() for name in ("OffsetX", "OffsetY", "Width", "Height")]
        assert region == [16, 8, 320, 200]
        assert device.PixelFormat.Value == "BayerRG8"
        assert (device.ExposureAuto.Value, device.GainAuto.Value) == ("Off", "Off")
    finally:
        capture.release()


REFUSED = {
    "too long": (
        {"exposure_us": 5e7},
        "exposure_us: 50000000 is refused by ExposureTime, which is 10000; allow",
    ),
    "too strong": ({"gain_db": 90}, "gain_db: 90 is refused by Gain"),
    "too wide": ({"roi_xywh": [0, 0, 9000, 200]}, "roi_xywh: width: 9000 is refused by Width"),
    "beside it": ({"roi_xywh": [4000, 0, 4000, 200]}, "roi_xywh: x: 4000 is refused by OffsetX"),
    "no format": ({"pixel_format": "Mono9"}, "pixel_format: Mono9 is refused by PixelFormat, which is "),
    "no line": ({"trigger_source": "Line9"}, "trigger: Line9 is refused by TriggerSource"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_camera_cannot_do_is_one_clear_line_at_the_start(case: str) -> None:
    settings, says = REFUSED[case]
    with pytest.raises(CameraError) as refused, camera_at(**settings) as camera:
        first(camera)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypylon.pylon", None)
    with pytest.raises(UsageError, match=r"pip install 'oddkind\[basler\]'$"):
        open_camera("basler:")


def test_a_camera_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(CameraError, match="no camera 7; cameras there: 0815-0000, 0815-0001"), camera_at("7") as camera:
        first(camera)


@pytest.mark.parametrize("pixel_format", ["RGB8Packed", "BGR8Packed", "BayerRG8"])
def test_pictures_of_a_folder_keep_their_colours(tmp_path: Path, pixel_format: str) -> None:
    bgr = (40, 90, 200)
    assert cv2.imwrite(str(tmp_path / "part.png"), np.full((64, 96, 3), bgr, np.uint8))
    capture = BaslerCapture("", DeviceSettings(pixel_format=pixel_format, roi_xywh=[0, 0, 96, 64]))
    try:
        capture._camera.StopGrabbing()
        capture._camera.TestImageSelector.Value = "Off"
        capture._camera.ImageFilename.Value = str(tmp_path)
        capture._camera.ImageFileMode.Value = "On"
        capture._camera.StartGrabbing()
        well, frame_bgr = capture.read()
    finally:
        capture.release()
    assert well and frame_bgr is not None
    assert np.abs(np.median(frame_bgr.reshape(-1, 3), axis=0) - bgr).max() <= 3


def test_a_frame_comes_with_each_software_trigger_and_none_without() -> None:
    with camera_at(trigger_source="software", keep=8) as camera, Taker(camera) as taker:
        sleep(3 * LOST_AFTER_S)  # silence is no fault of a camera that waits
        assert taker.items == []
        assert camera.trouble is None
        for count in (1, 2, 3):
            assert camera.fire()
            taker.wait_for(count)
            assert len(taker.items) == count
        sleep(0.3)
    assert [item.provenance.frame_id for item in taker.items] == [0, 1, 2]
    assert all(isinstance(item, Frame) for item in taker.items)


def test_each_trigger_of_the_station_fires_the_device_and_has_its_own_picture() -> None:
    control, answers, stop = Control(), [], threading.Event()
    with camera_at(trigger_source="software") as device:
        camera = TriggeredCamera(device, TriggerSettings(fire=True, deadline_s=3.0), control, pytest.fail)
        taker = threading.Thread(target=lambda: [answers.append(item) for item in camera.frames(stop)])
        taker.start()
        wait_for(lambda: control.takes_triggers and device.fire(), timeout_s=20)  # the device is open
        for number in range(1, 6):
            assert control.trigger("test").trigger_id == number
            wait_for(lambda number=number: len(answers) == number, timeout_s=10)
        stop.set()
        taker.join(10)
    assert all(isinstance(answer, Frame) for answer in answers), answers
    assert [answer.provenance.trigger.trigger_id for answer in answers] == [1, 2, 3, 4, 5]
    numbers = [answer.provenance.device.frame_id for answer in answers]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert all(answer.grabbed_at_s >= answer.due.asked_at_s for answer in answers)


def test_a_camera_that_waits_for_its_line_gives_nothing_and_cannot_be_fired() -> None:
    with camera_at(trigger_source="Line1") as camera, Taker(camera) as taker:
        sleep(0.5)
        assert not camera.fire()
        assert camera.trouble is None
        sleep(2 * LOST_AFTER_S)
        assert taker.items == []


def test_a_camera_that_runs_free_cannot_be_fired() -> None:
    with camera_at() as camera:
        first(camera)
        assert not camera.fire()


def test_frames_that_arrive_broken_are_counted_as_dropped() -> None:
    with camera_at() as camera:
        frames = camera.frames(NEVER)
        next_frame(frames)
        device = nodes(camera)
        device.ForceFailedBufferCount.Value = 3
        device.ForceFailedBuffer.Execute()
        dropped = itertools.accumulate(next_frame(frames).dropped_before for _ in range(50))
        assert any(count >= 3 for count in dropped)
    assert camera.reconnects == 0


def test_a_camera_that_sends_only_broken_frames_is_lost_and_comes_back() -> None:
    with camera_at() as camera:
        frames = camera.frames(NEVER)
        next_frame(frames)
        device = nodes(camera)
        device.ForceFailedBufferCount.Value = 200
        device.ForceFailedBuffer.Execute()
        lost = next(item for item in frames if isinstance(item, NoFrame))
        assert lost.reason == f"camera lost: no frame for {LOST_AFTER_S:g} s"
        assert isinstance(next_frame(frames), Frame)
        assert (camera.reconnects, camera.trouble) == (1, None)
