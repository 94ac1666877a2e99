"""Device settings written into a camera's GenICam features and read back, by the names that SFNC gives them.

Both GenICam and Basler cameras have these features; what differs is how a feature is reached, see `Nodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from edge.cameras.device import SOFTWARE, DeviceRefusal, DeviceSettings

# Newer name first. A gain without a unit (GainRaw) is no gain in dB.
EXPOSURE, GAIN = ("ExposureTime", "ExposureTimeAbs"), ("Gain",)
EXPOSURE_WITHIN, GAIN_WITHIN_DB = 0.01, 0.1  # a sensor exposes whole lines: so much may be rounded


class Nodes(Protocol):
    """The features of one camera. Each method raises its library's own error for what the camera does not take."""

    def has(self, name: str) -> bool:
        """Whether there is such a feature, and it is available now."""

    def get(self, name: str) -> Any:
        """Its value, read from the device."""

    def set(self, name: str, value: Any) -> None:
        """Write it."""

    def allowed(self, name: str) -> str:
        """What it may be, in words: `1 to 10000000`, `Mono8, Mono12`."""


def apply(settings: DeviceSettings, trigger_source: str | None, nodes: Nodes) -> None:
    """Write all settings and read them back; DeviceRefusal says which one is otherwise, and both values.

    trigger_source: `software` or a line of the camera such as Line1; None: the camera runs free.
    """
    if settings.pixel_format is not None:
        _demand("pixel_format", ("PixelFormat",), settings.pixel_format, nodes)
    if settings.roi_xywh is not None:
        _apply_region(settings.roi_xywh, nodes)
    if settings.exposure_us is not None:
        _switch(nodes, ExposureAuto="Off", ExposureMode="Timed")
        _demand("exposure_us", EXPOSURE, settings.exposure_us, nodes, settings.exposure_us * EXPOSURE_WITHIN)
    if settings.gain_db is not None:
        _switch(nodes, GainAuto="Off")
        _demand("gain_db", GAIN, settings.gain_db, nodes, GAIN_WITHIN_DB)
    _apply_trigger(trigger_source, nodes)


def _apply_region(roi_xywh: Sequence[int], nodes: Nodes) -> None:
    """Offsets go to 0 first, or the new width might not fit beside the old offset."""
    x, y, width, height = roi_xywh
    _switch(nodes, OffsetX=0, OffsetY=0)
    _demand("roi_xywh: width", ("Width",), width, nodes)
    _demand("roi_xywh: height", ("Height",), height, nodes)
    for key, name, value in (("roi_xywh: x", "OffsetX", x), ("roi_xywh: y", "OffsetY", y)):
        if value or nodes.has(name):
            _demand(key, (name,), value, nodes)


def _apply_trigger(trigger_source: str | None, nodes: Nodes) -> None:
    if trigger_source is None:
        _switch(nodes, TriggerMode="Off")  # it may have been left waiting
        return
    word = "Software" if trigger_source == SOFTWARE else trigger_source
    _switch(nodes, TriggerSelector="FrameStart", AcquisitionMode="Continuous")
    _demand("trigger", ("TriggerMode",), "On", nodes)
    _demand("trigger", ("TriggerSource",), word, nodes)


def _switch(nodes: Nodes, **values: Any) -> None:
    """Write what is there; a camera without such a feature needs no switching, and one that refuses is found out."""
    for name, value in values.items():
        if nodes.has(name) and nodes.get(name) != value:
            _written(name, name, value, nodes)


def _demand(key: str, names: Sequence[str], value: Any, nodes: Nodes, within: float = 0.0) -> None:
    """Write the first feature that the camera has; it must read back the same, `within` its rounding."""
    name = next((name for name in names if nodes.has(name)), None)
    if name is None:
        raise DeviceRefusal(f"{key}: the camera has no feature {' or '.join(names)}; leave it out")
    got = _written(key, name, value, nodes)
    is_same = got == value if isinstance(value, str) else abs(got - value) <= within
    if not is_same:
        raise DeviceRefusal(f"{key}: {_shown(value)} asked for, {name} reads back {_shown(got)}")


def _written(key: str, name: str, value: Any, nodes: Nodes) -> Any:
    """What the feature reads after `value` was written into it."""
    try:
        nodes.set(name, value)
    except Exception as exc:
        allowed = _or_unknown(nodes.allowed, name)
        raise DeviceRefusal(
            f"{key}: {_shown(value)} is refused by {name}, which is {_or_unknown(nodes.get, name)}; allowed: {allowed}"
        ) from exc
    return nodes.get(name)


def _or_unknown(ask: Any, name: str) -> str:
    try:
        return _shown(ask(name))
    except Exception:
        return "unknown"


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
