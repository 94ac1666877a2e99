"""Faults of a camera that sends pictures nobody should judge: frozen, dark, overexposed, of another size.

Cheap: brightness is measured on every 16th pixel of every 16th row, and pictures are compared there first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import pydantic

from edge.cameras.frames import Frame
from edge.notify import Notify
from edge.pictures import FrameBgr
from edge.station.parts import StationPart

STEP_PX = 16
FROZEN_FRAMES = 5  # so many identical pictures at least, or a slow camera would be frozen after two
Grey = Annotated[float, pydantic.Field(ge=0, le=255)]
Side = Annotated[int, pydantic.Field(ge=8, le=65_535)]


class FaultLimits(StationPart):
    """When a frame gets no verdict. Brightness: 0 is black, 255 is white; None: as `for_source` says.

    frozen_after_s: identical pictures for so long, 0: never. dark_below, bright_above: mean brightness beyond which a
    picture is dark or overexposed, if also its standard deviation is under spread_below; dark_below 0 and bright_above
    255: never. size_px: width and height that every picture must have; without it those of the first picture.
    """

    frozen_after_s: float | None = pydantic.Field(default=None, ge=0, le=86_400)
    dark_below: Grey | None = None
    bright_above: Grey | None = None
    spread_below: Grey | None = None
    size_px: list[Side] | None = pydantic.Field(default=None, min_length=2, max_length=2)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> FaultLimits:
        dark, bright = self.for_source(True).dark_below, self.for_source(True).bright_above
        if dark is not None and bright is not None and dark >= bright:
            raise ValueError(f"dark_below {dark:g} is not less than bright_above {bright:g}: every picture would fail")
        return self

    def for_source(self, is_live: bool) -> FaultLimits:
        """All limits: what is not set is the default of a live camera, or off where pictures come from files."""
        defaults = LIVE if is_live else OFF
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


LIVE = FaultLimits.model_construct(frozen_after_s=5.0, dark_below=16.0, bright_above=240.0, spread_below=8.0)
OFF = FaultLimits.model_construct(frozen_after_s=0.0, dark_below=0.0, bright_above=255.0, spread_below=8.0)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a frame. kind: the same word for as long as the same thing is wrong."""

    kind: str
    text: str


class FaultWatch:
    """Looks at every frame of one camera, in order. keeps_size: whether all must be as large as the first one.

    `notify` hears when a fault begins, changes and ends.
    """

    def __init__(self, name: str, limits: FaultLimits, keeps_size: bool, notify: Notify) -> None:
        self._name, self._limits, self._keeps_size, self._notify = name, limits, keeps_size, notify
        self._size_px = tuple(limits.size_px) if limits.size_px else None
        self._still = _StillPicture()
        self._kind: str | None = None

    def fault(self, frame: Frame) -> str | None:
        """Why there can be no verdict on this frame; None when there can."""
        found = self._size(frame.frame_bgr) or self._brightness(frame.frame_bgr) or self._frozen(frame)
        kind = found.kind if found else None
        if kind != self._kind:
            self._notify(f"{self._name}: {found.text if found else 'the picture is as it should be again'}")
        self._kind = kind
        return found.text if found else None

    def _size(self, frame_bgr: FrameBgr) -> Fault | None:
        height, width = frame_bgr.shape[:2]
        if self._size_px is None and self._keeps_size:
            self._size_px = width, height
        if self._size_px in (None, (width, height)):
            return None
        expected = " x ".join(map(str, self._size_px or ()))
        return Fault("size", f"wrong size: the picture is {width} x {height} px, {expected} px expected")

    def _brightness(self, frame_bgr: FrameBgr) -> Fault | None:
        limits = self._limits
        mean, spread = brightness(frame_bgr)
        if spread >= (limits.spread_below or 0.0):
            return None
        measured = f"brightness {mean:.0f} of 255, spread {spread:.1f}"
        if mean < (limits.dark_below or 0.0):
            return Fault("dark", f"dark picture or covered lens: {measured}")
        if limits.bright_above is not None and mean > limits.bright_above:
            return Fault("overexposed", f"overexposed picture: {measured}")
        return None

    def _frozen(self, frame: Frame) -> Fault | None:
        if not self._limits.frozen_after_s:
            return None
        count, for_s = self._still.seen(frame)
        if count < FROZEN_FRAMES or for_s < self._limits.frozen_after_s:
            return None
        return Fault("frozen", f"frozen picture: the same {count} times in {for_s:.1f} s")


class _StillPicture:
    """How often, and for how long, the same picture has come."""

    def __init__(self) -> None:
        self._last_bgr: FrameBgr | None = None
        self._count, self._since_s = 0, 0.0

    def seen(self, frame: Frame) -> tuple[int, float]:
        """(times, seconds) that this very picture has been there, this time included."""
        if self._last_bgr is None or not _identical(self._last_bgr, frame.frame_bgr):
            self._count, self._since_s = 0, frame.grabbed_at_s
        self._last_bgr = frame.frame_bgr
        self._count += 1
        return self._count, frame.grabbed_at_s - self._since_s


def brightness(frame_bgr: FrameBgr) -> tuple[float, float]:
    """(H, W, 3) uint8 -> mean over all channels, and the standard deviation of the channel that has most, 0..255."""
    mean, spread = cv2.meanStdDev(np.ascontiguousarray(frame_bgr[::STEP_PX, ::STEP_PX]))
    return float(mean.mean()), float(spread.max())


def _identical(one: FrameBgr, other: FrameBgr) -> bool:
    """Few pixels first: noise makes nearly every pair differ there, and only a suspect pays for all of them."""
    few = np.s_[::STEP_PX, ::STEP_PX]
    return one.shape == other.shape and np.array_equal(one[few], other[few]) and not cv2.norm(one, other, cv2.NORM_INF)
