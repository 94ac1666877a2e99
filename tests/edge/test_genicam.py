"""GenICam cameras against the simulated producer of the `genicam` package, which is a real GenTL library."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from genicam_simulator import BLUE, GREEN, RED, needs_simulator, producer

from edge.cameras import genicam
from edge.cameras.device import DeviceSettings
from edge.cameras.frames import Frame, NoFrame
from edge.cameras.live import LiveCamera
from edge.cameras.sources import open_camera
from edge.errors import CameraError, UsageError
from edge.result import Device

pytestmark = needs_simulator
NEVER = threading.Event()
LOST_AFTER_S = 1.5  # opening may take twice as long, on a busy machine too


@contextmanager
def camera_at(source: str = RED, trigger_source: str | None = None, **settings: Any) -> Iterator[LiveCamera]:
    device = DeviceSettings(producer=producer(), **settings)
    with open_camera(f"genicam:{source}", LOST_AFTER_S, device=device, trigger_source=trigger_source) as camera:
        assert isinstance(camera, LiveCamera)
        yield camera


def first(camera: LiveCamera, count: int = 1) -> list[Frame]:
    frames = list(itertools.islice(camera.frames(NEVER), count))
    assert all(isinstance(frame, Frame) for frame in frames)
    return frames  # type: ignore[return-value]


def mute(camera: LiveCamera) -> None:
    """The device stays open and sends nothing more, as one does whose sensor board hangs."""
    capture = camera._grabbers[-1]._capture
    assert isinstance(capture, genicam.GenicamCapture)
    capture._nodes.execute("AcquisitionStop")


@pytest.mark.parametrize(("name", "channel"), [(BLUE, 0), (GREEN, 1), (RED, 2)])
def test_colours_arrive_in_the_order_blue_green_red(name: str, channel: int) -> None:
    with camera_at(name) as camera:
        (frame,) = first(camera)
    ball = frame.frame_bgr[(frame.frame_bgr < 255).any(axis=2)]
    assert len(ball) > 50
    assert (ball[:, channel] == 255).all()
    assert (np.delete(ball, channel, axis=1) == 0).all()


def test_a_frame_says_the_number_that_the_camera_gave_it_and_no_clock_where_there_is_none() -> None:
    with camera_at() as camera:
        frames = first(camera, 3)
    devices = [frame.provenance.device for frame in frames]
    assert all(isinstance(device, Device) and device.timestamp_ns is None for device in devices)
    numbers = [device.frame_id for device in devices if device and device.frame_id]
    gaps = [after - before - 1 for before, after in itertools.pairwise(numbers)]
    assert gaps == [frame.dropped_before for frame in frames[1:]]


def test_pictures_stay_when_the_next_one_comes() -> None:
    with camera_at() as camera:
        frames = camera.frames(NEVER)
        kept = next(frames)
        assert isinstance(kept, Frame)
        before = kept.frame_bgr.copy()
        assert len(list(itertools.islice(frames, 6))) == 6  # more than there are buffers
    assert (kept.frame_bgr == before).all()


def test_region_and_pixel_format_are_applied() -> None:
    with camera_at(roi_xywh=[0, 0, 240, 160], pixel_format="Mono8") as camera:
        (frame,) = first(camera)
    assert frame.frame_bgr.shape == (160, 240, 3)
    assert (frame.frame_bgr[..., 0] == frame.frame_bgr[..., 2]).all()


REFUSED = {
    "too wide": (
        {"roi_xywh": [0, 0, 900, 200]},
        "roi_xywh: width: 900 is refused by Width, which is 400; allowed: 1",
    ),
    "no offset": ({"roi_xywh": [8, 0, 200, 200]}, "roi_xywh: x: the camera has no feature OffsetX"),
    "no exposure": ({"exposure_us": 500}, "exposure_us: the camera has no feature ExposureTime"),
    "no gain": ({"gain_db": 1}, "gain_db: the camera has no feature Gain"),
    "no format": ({"pixel_format": "BayerRG8"}, "pixel_format: BayerRG8 is refused by PixelFormat, which is RGBa8; al"),
    "no trigger": ({"trigger_source": "software"}, "trigger: the camera has no feature TriggerMode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_camera_cannot_do_is_one_clear_line_at_the_start(case: str) -> None:
    settings, says = REFUSED[case]
    with pytest.raises(CameraError) as refused, camera_at(**settings) as camera:
        first(camera)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_that_reads_back_otherwise_is_told_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genicam._Nodes, "set", lambda self, name, value: None)  # the camera ignores it
    with (
        pytest.raises(CameraError, match="roi_xywh: width: 240 asked for, Width reads back 400"),
        camera_at(roi_xywh=[0, 0, 240, 160]) as camera,
    ):
        first(camera)


def test_a_camera_that_waits_for_no_trigger_cannot_be_fired() -> None:
    with camera_at() as camera:
        assert not camera.fire()
        first(camera)
        assert not camera.fire()


def test_firing_executes_a_command_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genicam, "SOFTWARE_TRIGGER", "AcquisitionStop")  # the simulator has no trigger to execute
    with camera_at() as camera:
        frames = camera.frames(NEVER)
        assert isinstance(next(frames), Frame)
        assert camera.fire()
        assert any(isinstance(item, NoFrame) for item in frames)


@pytest.mark.parametrize("wanted", ["nobody", ""])
def test_a_camera_that_is_not_clear_is_told_with_those_that_are_there(wanted: str) -> None:
    with pytest.raises(CameraError, match=f"cameras there: {RED}, {GREEN}, {BLUE}"), camera_at(wanted) as camera:
        first(camera)


def test_a_camera_that_gives_nothing_is_lost_and_comes_back_while_another_goes_on() -> None:
    with camera_at(RED) as camera, camera_at("2") as other:
        frames, others = camera.frames(NEVER), other.frames(NEVER)
        assert isinstance(next(frames), Frame) and isinstance(next(others), Frame)
        mute(camera)
        lost = next(item for item in frames if isinstance(item, NoFrame))
        assert camera.trouble == lost.reason == f"camera lost: no frame for {LOST_AFTER_S:g} s"
        assert isinstance(next(frames), Frame)
        assert (camera.reconnects, camera.trouble) == (1, None)
        assert isinstance(next(others), Frame)
        assert other.reconnects == 0


def test_settings_that_fail_after_a_reconnect_are_the_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    with camera_at(roi_xywh=[0, 0, 240, 160]) as camera:
        frames = camera.frames(NEVER)
        assert isinstance(next(frames), Frame)
        with monkeypatch.context() as reset:
            reset.setattr(genicam._Nodes, "set", lambda self, name, value: None)
            mute(camera)
            assert any(isinstance(item, NoFrame) for item in frames)
            waiting = threading.Thread(target=lambda: next(frames))
            waiting.start()
            for _ in range(200):
                if "reads back" in (camera.trouble or ""):
                    break
                waiting.join(0.05)
            assert camera.trouble == "camera lost: roi_xywh: width: 240 asked for, Width reads back 400"
        waiting.join(5)
        assert camera.trouble is None


def test_a_camera_that_comes_back_in_another_pixel_format_is_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    with camera_at() as camera:
        frames = camera.frames(NEVER)
        assert isinstance(next(frames), Frame)
        with monkeypatch.context() as reset:
            reset.setattr(genicam, "apply", lambda settings, trigger, nodes: nodes.set("PixelFormat", "Mono8"))
            mute(camera)
            assert any(isinstance(item, NoFrame) for item in frames)
            waiting = threading.Thread(target=lambda: next(frames))
            waiting.start()
            for _ in range(200):
                if "before" in (camera.trouble or ""):
                    break
                waiting.join(0.05)
            assert (camera.trouble or "").startswith("camera lost: pixel format RGBa8 before, Mono8 now")
            reset.setattr(genicam, "apply", lambda settings, trigger, nodes: nodes.set("PixelFormat", "RGBa8"))
            waiting.join(5)
        assert camera.trouble is None


def test_the_producer_is_let_go_of_with_its_last_camera() -> None:
    with camera_at() as camera:
        first(camera)
        assert genicam._producers
    assert not genicam._producers


def test_the_only_producer_of_the_search_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cti = producer()
    assert cti
    monkeypatch.setenv(genicam.SEARCH_PATH, f"{tmp_path}:")
    with pytest.raises(UsageError, match=r"name one \.cti file"):
        genicam.producer_file(None)
    shutil.copy(cti, tmp_path / "one.cti")
    assert genicam.producer_file(None) == tmp_path / "one.cti"
    (tmp_path / "two.cti").touch()
    with pytest.raises(UsageError, match=r"one.cti, .*two.cti; name one"):
        genicam.producer_file(None)


def test_a_file_that_is_no_producer_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "no.cti").write_text("hello")
    with pytest.raises(CameraError, match="cameras there: none"):
        genicam.GenicamCapture("1", DeviceSettings(producer=tmp_path / "no.cti"))
    assert not genicam._producers


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harvesters.core", None)
    with pytest.raises(UsageError, match=r"pip install 'oddkind\[genicam\]'$"):
        open_camera("genicam:1")
