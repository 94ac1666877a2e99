"""What a camera hands over, and the interface every source of frames has."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType

from edge.pictures import FrameBgr
from edge.result import Provenance


@dataclass(frozen=True)
class Due:
    """When a verdict was asked for, and when it must be there; seconds of `time.monotonic`."""

    asked_at_s: float
    deadline_at_s: float


@dataclass(frozen=True)
class Frame:
    """One picture. frame_bgr: (H, W, 3) uint8. dropped_before: frames skipped since the one handed over before it.

    lost_before: how many of those the device or its driver lost; the others arrived and found no room. due: of a
    triggered camera.
    """

    frame_bgr: FrameBgr
    provenance: Provenance
    dropped_before: int = 0
    grabbed_at_s: float = field(default_factory=monotonic)
    due: Due | None = None
    lost_before: int = 0


@dataclass(frozen=True)
class NoFrame:
    """A moment without a picture: a file that cannot be read, or (`lost`) a camera that stopped sending."""

    provenance: Provenance
    reason: str
    lost: bool = False
    due: Due | None = None


Frames = Generator[Frame | NoFrame, None, None]


class Camera(ABC):
    """A source of frames. `with` it; `name` is safe to show, `reconnects` counts how often it came back.

    is_live: sends at its own pace, so that of two frames that wait the older one is dropped. is_triggered: gives one
    item for each trigger. is_sporadic: parts come when they come, so that silence is no fault. trouble: why it gives
    nothing at present, from any thread; None while it is well.
    """

    name: str
    is_live: bool = False
    is_triggered: bool = False
    is_sporadic: bool = False
    reconnects: int = 0
    trouble: str | None = None

    @abstractmethod
    def frames(self, stop: threading.Event) -> Frames:
        """Every frame until the source ends or `stop` is set; CameraError when it cannot be opened at all."""

    def fire(self) -> bool:
        """Have the device take a picture now; False when it cannot, or takes them by itself."""
        return False

    def close(self) -> None:  # noqa: B027  # a picture folder has nothing to let go of
        """Let go of the device; safe to call twice."""

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WrappedCamera(Camera):
    """`camera`, asked part by part: it has that one's name, trouble and reconnects, and closes it."""

    is_sporadic = True

    def __init__(self, camera: Camera) -> None:
        self.name, self._camera = camera.name, camera

    def close(self) -> None:
        """Let go of the device."""
        self._camera.close()

    @property
    def trouble(self) -> str | None:  # type: ignore[override]
        """Of the camera."""
        return self._camera.trouble

    @property
    def reconnects(self) -> int:  # type: ignore[override]
        """Of the camera."""
        return self._camera.reconnects
