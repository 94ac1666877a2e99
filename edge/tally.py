"""What became of each camera of a run: counts, losses, its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge.cameras.feeds import Ended
from edge.cameras.frames import Camera, Frame, NoFrame
from edge.errors import CameraError
from edge.judging import Judged
from edge.notify import Notify, one_line
from edge.run_summary import CameraSummary
from edge.station.control import Control


class Tally:
    """Counts one camera's records, and tells when it is lost, comes back, ends or fails."""

    def __init__(self, camera: Camera, notify: Notify, control: Control) -> None:
        self.camera, self._notify, self._control = camera, notify, control
        self.name = camera.name
        self._fault: str | None = None
        self._counts: Counter[str] = Counter()
        self.is_lost = False
        self.has_ended = False
        self.error: Exception | None = None

    def add(self, item: Frame | NoFrame, judged: Judged) -> None:
        """Count one record and what was dropped before it."""
        self._counts.update({"frames": 1, judged.inspection.verdict: 1})
        self._fault = judged.fault
        if isinstance(item, Frame):
            self.see(item)
        elif item.lost:
            self.is_lost = True
            self._notify(f"{self.name}: {item.reason}; trying to reconnect")

    def see(self, frame: Frame) -> None:
        """A picture has come, judged or not."""
        self._counts.update({"dropped": frame.dropped_before, "reconnects": self.is_lost})
        if self.is_lost:
            self._notify(f"{self.name}: the camera is back")
        self.is_lost = False

    def tell_trouble(self) -> None:
        """Let `control` know why this camera gives nothing that could be judged, or that it does."""
        ended = ("it has ended" if self.error is None else one_line(self.error)) if self.has_ended else None
        self._control.set_trouble(self.name, ended or self.camera.trouble or self._fault, self.camera.reconnects)

    def end(self, ended: Ended, tallies: Sequence[Tally]) -> None:
        """No more from this camera; a single one needs no words, the end of the run says it."""
        self.has_ended, self.error = True, ended.error
        if len(tallies) > 1:
            what = one_line(ended.error) if ended.error else f"{self.name}: no more frames"
            self._notify(f"{what}; cameras that go on: {sum(not tally.has_ended for tally in tallies)}")

    def summary(self) -> CameraSummary:
        """What was counted."""
        self._counts["reconnects"] = max(self._counts["reconnects"], self.camera.reconnects)
        return CameraSummary.of(self.name, self._counts, one_line(self.error) if self.error else None)


def in_words(tallies: Sequence[Tally]) -> str:
    """The cameras in one line."""
    lost = [tally.name for tally in tallies if tally.is_lost and not tally.has_ended]
    ended = [tally.name for tally in tallies if tally.has_ended]
    parts = [f"cameras: {len(tallies)}"]
    if lost:
        parts.append(f"lost: {', '.join(lost)}")
    if ended:
        parts.append(f"ended: {', '.join(ended)}")
    if len(lost) + len(ended) == len(tallies):
        parts.append("nothing is inspected")
    return "; ".join(parts)


def raise_if_all_failed(tallies: Sequence[Tally]) -> None:
    errors = [tally.error for tally in tallies if tally.error]
    if len(errors) < len(tallies):
        return
    if len(errors) == 1:
        raise errors[0]
    raise CameraError(f"all {len(errors)} cameras failed, each for the reason told above; check them and run again")
