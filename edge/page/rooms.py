"""Everything that the routes show and do, in one place, and the news of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from edge import __version__
from edge.outputs.health import Health
from edge.outputs.metrics import Metrics
from edge.page.admission import Admission
from edge.page.enrolment import Enrolment
from edge.page.line import Line
from edge.result import utc_now
from edge.station.control import Control

LOOK_S, HEARTBEAT_S = 0.1, 0.5


@dataclass(frozen=True)
class Rooms:
    """enrolment: None where no bundle is known. page: whether people are served too."""

    line: Line
    health: Health
    metrics: Metrics
    control: Control
    admission: Admission
    enrolment: Enrolment | None
    page: bool
    stale_after_s: float

    def state(self, trend_after: int = 0) -> dict[str, Any]:
        """What the page shows but the pictures, ready for JSON; points of the trend with numbers over `trend_after`."""
        return {
            "at": utc_now(),
            "station": self.control.station,
            "version": __version__,
            "stale_after_s": self.stale_after_s,
            "triggered": self.control.takes_triggers,
            "sporadic": sorted(self.control.sporadic),
            "master_parts": self.control.master_parts.report() if self.control.master_parts else [],
            "can_enrol": self.enrolment is not None,
            "undo": self.enrolment.undoable if self.enrolment else None,
            **self.line.state(trend_after),
        }

    async def events(self, is_over: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events: numbers of new `pictures`; the state when it has changed, and as a heartbeat.

        Of the trend the first has all, the others what is new.
        """
        shown, pictures, quiet_s, last = 0, [0], HEARTBEAT_S, None
        while not is_over():
            if pictures != self.line.pictures:
                pictures = self.line.pictures
                yield f"event: pictures\ndata: {json.dumps(pictures)}\n\n"
            state = self.state(shown)
            what = [state[key] for key in ("state", "reason", "counts", "rejects", "undo", "triggered", "master_parts")]
            if what != last or quiet_s >= HEARTBEAT_S:
                state["trend_is_whole"] = shown == 0
                shown = max((point["n"] for point in state["trend"]), default=shown)
                quiet_s, last = 0.0, what
                yield f"data: {json.dumps(state, ensure_ascii=False)}\n\n"
            await asyncio.sleep(LOOK_S)
            quiet_s += LOOK_S
