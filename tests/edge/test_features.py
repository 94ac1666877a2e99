"""Device settings as features: what is written, in which order, and what counts as the same."""

from __future__ import annotations

from typing import Any

import pytest

from edge.cameras.device import DeviceRefusal, DeviceSettings
from edge.cameras.features import apply


class Features:
    """The features of a camera that writes down what it is asked. rounds: what it makes of a value."""

    def __init__(self, rounds: dict[str, Any] | None = None, **values: Any) -> None:
        self.values, self.rounds = values, rounds or {}
        self.written: list[str] = []

    def has(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str) -> Any:
        return self.values[name]

    def set(self, name: str, value: Any) -> None:
        width = value if name == "Width" else self.values.get("Width", 0)
        if name in ("Width", "OffsetX") and width + (value if name == "OffsetX" else self.values["OffsetX"]) > 1000:
            raise ValueError("beyond the sensor")
        self.written.append(name)
        self.values[name] = self.rounds.get(name, value)

    def allowed(self, name: str) -> str:
        return "1 to 1000"


def region(**values: int) -> dict[str, int]:
    return {"Width": 500, "Height": 500, "OffsetX": 0, "OffsetY": 0, **values}


def test_nothing_asked_for_is_nothing_written() -> None:
    camera = Features(**region(), ExposureAuto="Continuous", GainAuto="Continuous", TriggerMode="Off")
    apply(DeviceSettings(), None, camera)
    assert camera.written == []


def test_a_wider_region_fits_beside_an_old_offset() -> None:
    camera = Features(**region(OffsetX=400))
    apply(DeviceSettings(roi_xywh=[100, 20, 900, 300]), None, camera)
    assert {key: camera.values[key] for key in region()} == region(Width=900, Height=300, OffsetX=100, OffsetY=20)


def test_the_format_comes_before_the_region_and_automatic_ones_are_switched_off_first() -> None:
    camera = Features(**region(), PixelFormat="Mono8", ExposureAuto="Once", ExposureTime=1.0, GainAuto="Once", Gain=1.0)
    apply(DeviceSettings(exposure_us=500, gain_db=3, roi_xywh=[0, 0, 90, 90], pixel_format="Mono12"), None, camera)
    order = [name for name in camera.written if not name.startswith("Offset")]
    assert order == ["PixelFormat", "Width", "Height", "ExposureAuto", "ExposureTime", "GainAuto", "Gain"]


def test_older_cameras_have_another_name_for_exposure() -> None:
    camera = Features(ExposureTimeAbs=1.0)
    apply(DeviceSettings(exposure_us=500), None, camera)
    assert camera.values == {"ExposureTimeAbs": 500}


@pytest.mark.parametrize(("reads", "is_fine"), [(504.9, True), (495.1, True), (506.0, False), (300.0, False)])
def test_exposure_may_be_rounded_by_one_percent(reads: float, is_fine: bool) -> None:
    camera = Features({"ExposureTime": reads}, ExposureTime=1.0)
    if is_fine:
        apply(DeviceSettings(exposure_us=500), None, camera)
        return
    with pytest.raises(DeviceRefusal, match=f"exposure_us: 500 asked for, ExposureTime reads back {reads:g}$"):
        apply(DeviceSettings(exposure_us=500), None, camera)


@pytest.mark.parametrize(
    ("settings", "rounds", "says"),
    [
        ({"roi_xywh": [0, 0, 90, 90]}, {"Width": 96}, "roi_xywh: width: 90 asked for, Width reads back 96"),
        (
            {"pixel_format": "Mono12"},
            {"PixelFormat": "Mono8"},
            "pixel_format: Mono12 asked for, PixelFormat reads",
        ),
        ({"gain_db": 3}, {"Gain": 3.2}, "gain_db: 3 asked for, Gain reads back 3.2"),
    ],
)
def test_everything_else_must_be_the_same(settings: dict[str, Any], rounds: dict[str, Any], says: str) -> None:
    camera = Features(rounds, **region(), PixelFormat="Mono8", Gain=0.0)
    with pytest.raises(DeviceRefusal, match=says):
        apply(DeviceSettings(**settings), None, camera)


def test_what_the_camera_raises_is_told_with_what_it_allows() -> None:
    with pytest.raises(DeviceRefusal, match="width: 2000 is refused by Width, which is 500; allowed: 1 to 1000"):
        apply(DeviceSettings(roi_xywh=[0, 0, 2000, 90]), None, Features(**region()))


@pytest.mark.parametrize(("source", "word"), [("software", "Software"), ("Line1", "Line1")])
def test_a_trigger_is_for_each_frame(source: str, word: str) -> None:
    camera = Features(TriggerSelector="FrameBurstStart", TriggerMode="Off", TriggerSource="Line3")
    apply(DeviceSettings(), source, camera)
    assert camera.values == {"TriggerSelector": "FrameStart", "TriggerMode": "On", "TriggerSource": word}


def test_a_camera_left_waiting_for_triggers_runs_free_again() -> None:
    camera = Features(TriggerSelector="FrameStart", TriggerMode="On")
    apply(DeviceSettings(), None, camera)
    assert camera.values["TriggerMode"] == "Off"
