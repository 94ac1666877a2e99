"""Whether the station inspects: every camera gave a verdict not long ago. An open port alone says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from edge.result import Inspection
from edge.station.control import Status

OK = "ok"


@dataclass(frozen=True)
class _Last:
    """The last record of a camera. at_s: when it came, on the clock of `Health`."""

    at_s: float
    verdict: str
    error: str | None


class Health:
    """The last record of each camera, from any thread. stale_after_s: older ones count as none. clock: in seconds."""

    def __init__(self, cameras: Sequence[str], stale_after_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._stale_after_s, self._clock = stale_after_s, clock
        self._last: dict[str, _Last | None] = dict.fromkeys(cameras)
        self._lock = threading.Lock()

    def note(self, inspection: Inspection) -> None:
        """A record has come."""
        last = _Last(self._clock(), inspection.verdict, inspection.error)
        with self._lock:
            self._last[inspection.provenance.source] = last

    def ages_s(self) -> dict[str, float | None]:
        """Seconds since the last record of each camera, None before the first."""
        with self._lock:
            last = dict(self._last)
        now_s = self._clock()
        return {name: None if one is None else max(0.0, now_s - one.at_s) for name, one in last.items()}

    def report(self, status: Status | None = None, loop_age_s: float = 0.0) -> dict[str, Any]:
        """`state` (`ok`, or what is wrong first), `reason` (None when ok) and `cameras`, ready for JSON.

        Cameras that `status` calls sporadic have no records while no part comes, and are well as long as they have no
        trouble. loop_age_s: since the loop that inspects came round.
        """
        with self._lock:
            last = dict(self._last)
        now_s, troubles = self._clock(), status.cameras if status else {}
        sporadic = status.sporadic if status else frozenset()
        cameras = {
            name: self._of_sporadic(one, now_s, troubles.get(name)) if name in sporadic else self._of(one, now_s)
            for name, one in last.items()
        }
        troubled = {name: camera for name, camera in cameras.items() if camera["state"] != OK}
        state = next((camera["state"] for camera in troubled.values()), OK)
        reason = "; ".join(f"{name}: {camera['reason']}" for name, camera in troubled.items()) or None
        if status and status.state == "paused":
            state, reason = "paused", status.reason
        if loop_age_s > self._stale_after_s:
            state, reason = "stalled", f"the loop has stood still for {loop_age_s:.1f} s"
        return {"state": state, "reason": reason, "cameras": cameras}

    def _of(self, last: _Last | None, now_s: float) -> dict[str, Any]:
        if last is None:
            return {"state": "no_record", "reason": "no record yet", "age_s": None, "verdict": None}
        age_s = max(0.0, now_s - last.at_s)
        state, reason = OK, None
        if last.verdict == "no_verdict":
            state, reason = "no_verdict", last.error
        elif age_s > self._stale_after_s:
            state, reason = "stale", f"no record for {age_s:.1f} s, more than {self._stale_after_s:g} s"
        return {"state": state, "reason": reason, "age_s": round(age_s, 3), "verdict": last.verdict}

    def _of_sporadic(self, last: _Last | None, now_s: float, trouble: str | None) -> dict[str, Any]:
        camera = self._of(last, now_s)
        if trouble:
            return {**camera, "state": "fault", "reason": trouble}
        return {**camera, "state": OK, "reason": None} if camera["state"] in ("no_record", "stale") else camera
