"""What a run did, camera by camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

COUNTS = ("frames", "good", "defect", "no_verdict", "dropped", "reconnects")


@dataclass(frozen=True)
class CameraSummary:
    """One camera. frames: its records, the sum of good, defect and no_verdict. dropped: frames never seen.

    failure: why it gave no frame, None when it did or simply ended.
    """

    camera: str
    frames: int
    good: int
    defect: int
    no_verdict: int
    dropped: int
    reconnects: int
    failure: str | None = None

    @classmethod
    def of(cls, camera: str, counts: Counter[str], failure: str | None) -> CameraSummary:
        """From counts by the names in COUNTS."""
        return cls(camera, **{name: counts[name] for name in COUNTS}, failure=failure)

    def __str__(self) -> str:
        return _in_words(self) + (f"; failed: {self.failure}" if self.failure else "")


@dataclass(frozen=True)
class RunSummary:
    """All cameras of a run, in the order they were given."""

    cameras: tuple[CameraSummary, ...]

    @property
    def frames(self) -> int:
        """Records written."""
        return self._sum("frames")

    @property
    def good(self) -> int:
        """Parts passed."""
        return self._sum("good")

    @property
    def defect(self) -> int:
        """Parts rejected."""
        return self._sum("defect")

    @property
    def no_verdict(self) -> int:
        """Records without a verdict."""
        return self._sum("no_verdict")

    @property
    def dropped(self) -> int:
        """Frames of live cameras that nobody looked at."""
        return self._sum("dropped")

    @property
    def reconnects(self) -> int:
        """How often cameras came back."""
        return self._sum("reconnects")

    @property
    def failed(self) -> Sequence[CameraSummary]:
        """Cameras that failed for good."""
        return [camera for camera in self.cameras if camera.failure]

    def __str__(self) -> str:
        """One line for one camera; else the total, then a line a camera."""
        total = _in_words(self)
        if len(self.cameras) == 1:
            return total
        return "\n".join([f"{len(self.cameras)} cameras, {total}", *(f"  {c.camera}: {c}" for c in self.cameras)])

    def _sum(self, name: str) -> int:
        return sum(getattr(camera, name) for camera in self.cameras)


def _in_words(counts: CameraSummary | RunSummary) -> str:
    verdicts = f"{counts.good} good, {counts.defect} defect, {counts.no_verdict} no_verdict"
    return f"{counts.frames} frames: {verdicts}; {counts.dropped} dropped, {counts.reconnects} reconnects"
