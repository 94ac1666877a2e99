"""Basler cameras through pylon. The only file that imports pypylon."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import numpy as np

from edge.cameras.device import SOFTWARE, DeviceCapture, DeviceRefusal, DeviceSettings
from edge.cameras.features import apply
from edge.errors import CameraError, UsageError
from edge.pictures import FrameBgr
from edge.result import Device

READ_MS = 200


def require() -> None:
    """UsageError when pypylon is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of how the package was built
            import pypylon.pylon  # noqa: F401
    except ImportError as exc:
        raise UsageError("Basler cameras need pypylon; pip install 'oddkind[basler]'") from exc


class BaslerCapture(DeviceCapture):
    """An open Basler camera. serial: its serial number or user defined name; empty: the first one found."""

    def __init__(self, serial: str, settings: DeviceSettings, trigger_source: str | None = None) -> None:
        require()
        from pypylon import pylon

        self.waits, self._fires = trigger_source is not None, trigger_source == SOFTWARE
        self._lost_frames = 0
        self._pylon = pylon
        self._camera: Any = None
        self._to_bgr = pylon.ImageFormatConverter()
        self._to_bgr.OutputPixelFormat = pylon.PixelType_BGR8packed
        try:
            self._camera = _open(serial)
            nodes = _Nodes(self._camera.GetNodeMap())
            apply(settings, trigger_source, nodes)
            self.pixel_format = str(nodes.get("PixelFormat"))
            self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
        except BaseException as exc:
            self.release()
            if isinstance(exc, CameraError) or not isinstance(exc, Exception):
                raise
            raise CameraError(f"it cannot be opened ({_one_line(exc)})") from exc

    def read(self) -> tuple[bool, FrameBgr | None]:
        """The next whole frame; one that arrived incomplete is counted as lost."""
        result = self._camera.RetrieveResult(READ_MS, self._pylon.TimeoutHandling_Return)
        if result is None or not result.IsValid():
            return self._camera.IsGrabbing() and not self._camera.IsCameraDeviceRemoved(), None
        try:
            self._lost_frames += result.GetNumberOfSkippedImages()
            if not result.GrabSucceeded():
                self._lost_frames += 1
                return True, None
            self.device = Device(result.BlockID, result.TimeStamp or None)
            self.lost_frames, self._lost_frames = self._lost_frames, 0
            return True, self._converted(result)
        finally:
            result.Release()

    def fire(self) -> None:
        """Trigger by software."""
        if not self._fires:
            raise DeviceRefusal("the camera does not wait for a trigger by software")
        self._camera.ExecuteSoftwareTrigger()

    def release(self) -> None:
        """Close the camera; what an unplugged one complains of is nobody's business any more."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with suppress(Exception):
                camera.StopGrabbing()
            with suppress(Exception):
                camera.Close()
            with suppress(Exception):
                camera.DestroyDevice()

    def _converted(self, result: Any) -> FrameBgr:
        if not self._pylon.ImageFormatConverter.IsSupportedInputFormat(result.PixelType):
            raise DeviceRefusal("pixel format is not supported; set pixel_format to another, such as Mono8 or BayerRG8")
        return np.array(self._to_bgr.Convert(result).GetArray(), dtype=np.uint8)


class _Nodes:
    """Features of a pylon node map."""

    def __init__(self, node_map: Any) -> None:
        self._map = node_map

    def has(self, name: str) -> bool:
        from pypylon import genicam

        node = self._map.GetNode(name)
        return node is not None and bool(genicam.IsAvailable(node))

    def get(self, name: str) -> Any:
        node = self._map.GetNode(name)
        return node.GetValue() if hasattr(node, "GetSymbolics") else node.GetValue(False, True)  # not from the cache

    def set(self, name: str, value: Any) -> None:
        self._map.GetNode(name).SetValue(value)

    def allowed(self, name: str) -> str:
        node = self._map.GetNode(name)
        if hasattr(node, "GetSymbolics"):
            return ", ".join(node.GetSymbolics())
        steps = f" in steps of {node.GetInc()}" if isinstance(node.GetMin(), int) else ""
        return f"{node.GetMin():.10g} to {node.GetMax():.10g}{steps}"


def _open(serial: str) -> Any:
    """CameraError, with what is there, when it is not."""
    from pypylon import pylon

    factory = pylon.TlFactory.GetInstance()
    infos = factory.EnumerateDevices()
    found = [info for info in infos if not serial or serial in (info.GetSerialNumber(), _user_name(info))]
    if not found:
        there = ", ".join(info.GetSerialNumber() for info in infos) or "none"
        raise CameraError(f"no camera {serial}; cameras there: {there}".replace("camera ;", "camera;"))
    camera = pylon.InstantCamera(factory.CreateDevice(found[0]))
    camera.Open()
    return camera


def _user_name(info: Any) -> str | None:
    return str(info.GetUserDefinedName()) if info.IsUserDefinedNameAvailable() else None


def _one_line(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]
