"""One frame, or the lack of one, becomes one inspection: whatever happens on the way, there is a record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic

from edge.cameras.faults import FaultWatch
from edge.cameras.frames import Due, Frame, NoFrame
from edge.inspector import Inspector
from edge.notify import one_line
from edge.outputs.sinks import HeatMap
from edge.result import Inspection, no_verdict


@dataclass(frozen=True)
class Judged:
    """An inspection that can be written. heat_map: (h', w'), 1 where a pixel begins to be odd. fault: why its
    camera gives nothing that can be judged."""

    inspection: Inspection
    heat_map: HeatMap | None = None
    fault: str | None = None


def judge(item: Frame | NoFrame, inspector: Inspector, always_type: bool, watch: FaultWatch | None = None) -> Judged:
    """The inspection of `item`. A verdict that comes after the deadline is none: the part has gone."""
    if isinstance(item, NoFrame):
        return Judged(_timed(_without_verdict(item, inspector, item.reason), item))
    waited_ms = (monotonic() - item.grabbed_at_s) * 1e3
    if item.due and monotonic() > item.due.deadline_at_s:  # not inspected: those behind it would be late too
        late = f"timeout: {_since_ms(item.due.asked_at_s):.0f} ms after the trigger its turn had not come"
        return Judged(_timed(_without_verdict(item, inspector, late), item))
    try:
        if watch and (fault := watch.fault(item)):
            return Judged(_timed(_without_verdict(item, inspector, fault), item), fault=fault)
        inspection, seen = inspector.examine(item.frame_bgr, item.provenance, always_type)
        inspection = _timed(inspection.with_latency("wait", waited_ms), item)
        inspection.to_json()  # refuses NaN, which a broken head could put anywhere
        heat_map = seen.anomaly_map / max(inspector.manifest.thresholds.pixel_threshold, 1e-12)
    except Exception as exc:  # one strange frame must not stop the line
        reason = f"this frame cannot be inspected: {one_line(exc)}"
        return Judged(_timed(_without_verdict(item, inspector, reason), item), fault=reason)
    if item.due and monotonic() > item.due.deadline_at_s:
        allowed_ms = (item.due.deadline_at_s - item.due.asked_at_s) * 1e3
        late = (
            f"timeout: the verdict came {inspection.trigger_ms:.0f} ms after the trigger, {allowed_ms:.0f} ms allowed"
        )
        return Judged(_timed(_without_verdict(item, inspector, late), item))
    return Judged(inspection, heat_map)


def _without_verdict(item: Frame | NoFrame, inspector: Inspector, reason: str) -> Inspection:
    return no_verdict(item.provenance, inspector.manifest.bundle_id, inspector.image_threshold, reason)


def _timed(inspection: Inspection, item: Frame | NoFrame) -> Inspection:
    """With the age of the frame, and the time since its trigger, at this moment."""
    age_ms = _since_ms(item.grabbed_at_s) if isinstance(item, Frame) else None
    due: Due | None = item.due
    if due is None:
        return replace(inspection, age_ms=age_ms)
    timed = replace(inspection, age_ms=age_ms, trigger_ms=_since_ms(due.asked_at_s))
    return replace(timed, asked_at_s=due.asked_at_s, deadline_at_s=due.deadline_at_s)


def _since_ms(moment_s: float) -> float:
    return round(max(0.0, monotonic() - moment_s) * 1e3, 3)
