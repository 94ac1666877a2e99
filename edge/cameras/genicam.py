"""GenICam cameras (GigE Vision, USB3 Vision, ...) through any GenTL producer. The only file that imports harvesters.

A producer (.cti) can be loaded once a process: cameras share it, and it is let go of with the last of them.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from edge.cameras.device import DeviceCapture, DeviceRefusal, DeviceSettings
from edge.cameras.features import apply
from edge.cameras.pixels import to_bgr
from edge.errors import CameraError, UsageError
from edge.pictures import FrameBgr
from edge.result import Device

SEARCH_PATH = "GENICAM_GENTL64_PATH"
READ_S = 0.2
# While it waits inside the library no other thread of Python runs, so it looks for a moment and sleeps in between.
LOOK_S, SLEEP_S = 0.00005, 0.003
BUFFERS = 8  # 0.2 s at 40 frames a second, when the machine is busy
SOFTWARE_TRIGGER = "TriggerSoftware"
_lock = threading.RLock()
_producers: dict[str, _Producer] = {}


def require() -> None:
    """UsageError when harvesters is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of how the package was built
            import harvesters.core  # noqa: F401
    except ImportError as exc:
        raise UsageError("GenICam cameras need harvesters; pip install 'oddkind[genicam]'") from exc


def producer_file(given: Path | None) -> Path:
    """The GenTL producer: the one given, or the only one in GENICAM_GENTL64_PATH; UsageError when there is none."""
    if given is not None:
        if not given.is_file():
            raise UsageError(f"producer {given}: no such file; expected the .cti file of the camera's maker")
        return given
    folders = [Path(each) for each in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if each]
    found = [path for folder in folders for path in sorted(folder.glob("*.cti"))]
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise UsageError(f"GenTL producers in {SEARCH_PATH}: {names}; name one .cti file as device.producer")
    return found[0]


class GenicamCapture(DeviceCapture):
    """An open GenICam camera. device_id: its id, serial number or name; empty: the only one there is."""

    def __init__(self, device_id: str, settings: DeviceSettings, trigger_source: str | None = None) -> None:
        self.waits = trigger_source is not None
        self._last_id: int | None = None
        self._producer = _Producer.take(str(producer_file(settings.producer)))
        self._acquirer: Any = None
        try:
            self._acquirer = self._producer.connect(device_id)
            self._nodes = _Nodes(self._acquirer.remote_device.node_map)
            apply(settings, trigger_source, self._nodes)
            self.pixel_format = str(self._nodes.get("PixelFormat"))
            self._acquirer.start()
        except BaseException as exc:
            self.release()
            if isinstance(exc, CameraError) or not isinstance(exc, Exception):
                raise
            raise CameraError(f"it cannot be opened ({_one_line(exc)})") from exc

    def read(self) -> tuple[bool, FrameBgr | None]:
        """The next whole frame; broken ones are skipped. Waits READ_S at most."""
        deadline_s = monotonic() + READ_S
        while True:
            buffer = self._acquirer.try_fetch(timeout=LOOK_S)
            if buffer is not None:
                break
            if monotonic() > deadline_s:
                return self._is_there(), None
            sleep(SLEEP_S)
        try:
            self._note(buffer)
            return True, _frame(buffer)
        finally:
            buffer.queue()

    def fire(self) -> None:
        """Trigger by software."""
        if not self._nodes.has(SOFTWARE_TRIGGER):
            raise DeviceRefusal(f"the camera has no {SOFTWARE_TRIGGER}")
        self._nodes.execute(SOFTWARE_TRIGGER)

    def release(self) -> None:
        """Close the camera; what an unplugged one complains of is nobody's business any more."""
        acquirer, self._acquirer = self._acquirer, None
        with _lock:
            if acquirer is not None:
                with suppress(Exception):
                    acquirer.destroy()
            self._producer.give_back(acquirer)

    def _note(self, buffer: Any) -> None:
        """Number and clock of the frame. Producers that have none raise, or say 0."""
        frame_id, timestamp_ns = _said(buffer, "frame_id"), _said(buffer, "timestamp_ns")
        self.device = Device(frame_id, timestamp_ns or None) if frame_id is not None or timestamp_ns else None
        skipped = frame_id - self._last_id - 1 if frame_id is not None and self._last_id is not None else 0
        self.lost_frames = max(0, skipped)  # a number that begins anew is no loss
        self._last_id = frame_id

    def _is_there(self) -> bool:
        """A camera that waits for a trigger is asked whether it still answers; silence of others is loss enough."""
        if not self.waits:
            return True
        try:
            self._nodes.get("Width")
        except Exception:
            return False
        return True


class _Nodes:
    """Features of a GenApi node map."""

    def __init__(self, node_map: Any) -> None:
        self._map = node_map

    def has(self, name: str) -> bool:
        from genicam.genapi import EAccessMode

        try:
            mode = self._map.get_node(name).get_access_mode()
        except Exception:  # no such node
            return False
        return mode in (EAccessMode.RW, EAccessMode.RO, EAccessMode.WO)

    def get(self, name: str) -> Any:
        node = self._map.get_node(name)
        return node.value if hasattr(node, "symbolics") else node.get_value(False, True)  # not from the cache

    def set(self, name: str, value: Any) -> None:
        self._map.get_node(name).value = value

    def execute(self, name: str) -> None:
        self._map.get_node(name).execute()

    def allowed(self, name: str) -> str:
        node = self._map.get_node(name)
        if hasattr(node, "symbolics"):
            return ", ".join(node.symbolics)
        return f"{node.min:.10g} to {node.max:.10g}" + (f" in steps of {node.inc}" if isinstance(node.min, int) else "")


class _Producer:
    """A loaded producer and the cameras connected through it."""

    def __init__(self, path: str) -> None:
        require()
        from harvesters.core import Harvester

        self._path, self._users, self._connected = path, 0, 0
        self._harvester: Any = Harvester()
        self._harvester.add_file(path)

    @staticmethod
    def take(path: str) -> _Producer:
        """The producer of this file, loaded when it is not yet; each `take` needs its `give_back`."""
        with _lock:
            if path not in _producers:
                _producers[path] = _Producer(path)
            _producers[path]._users += 1
            return _producers[path]

    def give_back(self, acquirer: Any) -> None:
        """The user has closed what it had."""
        with _lock:
            self._users -= 1
            self._connected -= acquirer is not None
            if self._users == 0:
                _producers.pop(self._path, None)
                with suppress(Exception):
                    self._harvester.reset()

    def connect(self, device_id: str) -> Any:
        """Open the device; CameraError, with what is there, when it is not."""
        with _lock:
            self._look()
            infos = self._harvester.device_info_list
            found = [info for info in infos if not device_id or device_id in _names(info)]
            if len(found) != 1:
                there = ", ".join(_said(info, "id_") or "?" for info in infos) or "none"
                which = f"no camera {device_id}" if device_id else f"{len(found)} cameras and none is named"
                raise CameraError(f"{which}; cameras there: {there}")
            acquirer = self._harvester.create(found[0])
            self._connected += 1
            acquirer.timeout_period_on_update_event_data_call = 0
            acquirer.num_buffers = BUFFERS
            return acquirer

    def _look(self) -> None:
        """See which cameras are there. `update` would cut off those that are connected."""
        if not self._connected:
            self._harvester.update()
            return
        from harvesters.core import DeviceInfo

        known = {_said(info, "id_") for info in self._harvester.device_info_list}
        for interface in self._harvester._ifaces:  # there is no public way to look again
            interface.update_device_info_list(self._harvester.timeout_for_update)
            for raw in interface.device_info_list:
                if _said(raw, "id_") not in known:
                    self._harvester.device_info_list.append(DeviceInfo(module=raw, parent=interface))


def _names(info: Any) -> Iterator[str]:
    for name in ("id_", "serial_number", "user_defined_name"):
        if said := _said(info, name):
            yield str(said)


def _said(of: Any, name: str) -> Any:
    """What a producer says, None where it does not."""
    try:
        return getattr(of, name)
    except Exception:  # NotAvailable, NotImplemented, NotInitialized, ... as each producer sees fit
        return None


def _frame(buffer: Any) -> FrameBgr:
    components = buffer.payload.components
    if not components:
        raise DeviceRefusal("the camera sends data that is no picture")
    picture = components[0]
    return to_bgr(picture.data, (picture.width, picture.height), picture.data_format)


def _one_line(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:200]
