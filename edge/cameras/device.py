"""What a station may ask of the device behind a camera, and what a grabber needs of an open one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import pydantic

from edge.errors import CameraError
from edge.result import Device
from edge.station.parts import StationPart, StationPath

SOFTWARE = "software"  # the trigger source that `fire` triggers; any other name is a line of the camera
LONGEST_GAP = 1000  # so many frames at most are lost at once; a number further on is no count of anything
Whole = Annotated[int, pydantic.Field(ge=0, le=65_535)]


class DeviceSettings(StationPart):
    """What is written into the camera whenever it is opened, and must read back. None: as the camera has it.

    producer: GenTL file (.cti), of GenICam alone. exposure_us, gain_db: switch the automatic ones off. roi_xywh: left,
    top, width and height in pixels of the sensor. pixel_format: the camera's own word, such as Mono8 or BayerRG8.
    """

    producer: StationPath | None = None
    exposure_us: float | None = pydantic.Field(default=None, ge=1, le=600_000_000)
    gain_db: float | None = pydantic.Field(default=None, ge=-100, le=100)
    roi_xywh: list[Whole] | None = pydantic.Field(default=None, min_length=4, max_length=4)
    pixel_format: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{1,39}$")] | None = None

    @pydantic.field_validator("roi_xywh")
    @classmethod
    def _has_an_area(cls, roi_xywh: list[int] | None) -> list[int] | None:
        if roi_xywh and min(roi_xywh[2:]) < 8:
            raise ValueError(f"the region is {roi_xywh[2]} x {roi_xywh[3]} px; expected [x, y, width, height], 8 px up")
        return roi_xywh

    def in_words(self) -> str:
        """What is asked for, in a few words; empty when nothing is."""
        words = [f"producer {self.producer.name}"] if self.producer else []
        words += [f"exposure {self.exposure_us:.10g} us"] if self.exposure_us is not None else []
        words += [f"gain {self.gain_db:g} dB"] if self.gain_db is not None else []
        words += ["region {2} x {3} px at {0}, {1}".format(*self.roi_xywh)] if self.roi_xywh else []
        return ", ".join(words + ([self.pixel_format] if self.pixel_format else []))


class DeviceRefusal(CameraError):
    """The camera is there and cannot do what it is asked for. At the start that ends the run: waiting will not help."""


def same_format(open_capture: Callable[[], DeviceCapture]) -> Callable[[], DeviceCapture]:
    """Opens as `open_capture` does; DeviceRefusal when a later capture sends another pixel format than the first."""
    first: list[str | None] = []

    def open_the_same() -> DeviceCapture:
        capture = open_capture()
        first.append(capture.pixel_format)
        del first[1:]
        if capture.pixel_format != first[0]:
            capture.release()
            raise DeviceRefusal(
                f"pixel format {first[0]} before, {capture.pixel_format} now; was the camera reset? "
                "Set device.pixel_format, so that it is written at each start"
            )
        return capture

    return open_the_same


class Capture(Protocol):
    """What a grabber needs of an open device; cv2.VideoCapture has it."""

    def read(self) -> tuple[bool, Any]:
        """Whether it is well, and the frame (H, W, 3) uint8 BGR, or None when there is none yet."""

    def release(self) -> None:
        """Close the device."""


class DeviceCapture(ABC):
    """A capture that knows more. `read` returns within about POLL_S, with `(True, None)` when nothing came.

    device: what the camera says of the frame that `read` returned last. lost_frames: how many the camera or its driver
    lost between that frame and the one before. waits: it sends when triggered, so that silence is no fault.
    pixel_format: what it sends.
    """

    device: Device | None = None
    lost_frames: int = 0
    waits: bool = False
    pixel_format: str | None = None

    @abstractmethod
    def read(self) -> tuple[bool, Any]:
        """As `Capture.read`."""

    @abstractmethod
    def release(self) -> None:
        """As `Capture.release`; never raises."""

    @abstractmethod
    def fire(self) -> None:
        """Trigger by software, from any thread; DeviceRefusal when it does not wait for that."""
