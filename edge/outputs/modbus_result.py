"""What a PLC is told of one part, and of one part that several cameras looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edge.result import Inspection, Verdict

BY = "modbus"  # who gave a trigger, in its record
OVERRUN = "overrun"  # how the reason of a record begins whose trigger found a full queue
_BADNESS: dict[Verdict, int] = {"good": 0, "defect": 1, "no_verdict": 2}


@dataclass(frozen=True)
class PlcResult:
    """One verdict. trigger_id: None of a camera that runs freely. score and threshold: None without a verdict.

    age_ms: from the grab to the verdict. latency_ms: from the trigger to the moment it is shown, or else the age.
    is_foreign: of a trigger that the PLC did not give. number: 1, 2, 3, ... as results came, those without room too.
    """

    verdict: Verdict
    trigger_id: int | None = None
    defect_class: str | None = None
    score: float | None = None
    threshold: float | None = None
    age_ms: float | None = None
    latency_ms: float | None = None
    part_id: str | None = None
    result_id: str = ""
    is_overrun: bool = False
    is_foreign: bool = False
    number: int = 0

    @classmethod
    def of(cls, inspection: Inspection) -> PlcResult:
        """The part of a record that fits into registers. A class is that of a defect alone."""
        trigger, is_defect = inspection.provenance.trigger, inspection.verdict == "defect"
        return cls(
            verdict=inspection.verdict,
            trigger_id=trigger.trigger_id if trigger else None,
            defect_class=inspection.defect_class if is_defect else None,
            score=inspection.anomaly_score,
            threshold=None if inspection.anomaly_score is None else inspection.image_threshold,
            age_ms=inspection.age_ms,
            latency_ms=inspection.age_ms if inspection.trigger_ms is None else inspection.trigger_ms,
            part_id=trigger.part_id if trigger else None,
            result_id=inspection.result_id,
            is_foreign=trigger is not None and trigger.by != BY,
            is_overrun=inspection.verdict == "no_verdict" and (inspection.error or "").startswith(OVERRUN),
        )


def shown_at(now_s: float, inspection: Inspection) -> PlcResult:
    """The result as it is shown from `now_s` on: after the deadline of its trigger there is no verdict any more."""
    i, result = inspection, PlcResult.of(inspection)
    if i.asked_at_s is not None:
        result = replace(result, latency_ms=(now_s - i.asked_at_s) * 1e3)
    if i.deadline_at_s is None or now_s <= i.deadline_at_s:
        return result
    return replace(result, verdict="no_verdict", defect_class=None, score=None, threshold=None)


def worst(results: Iterable[PlcResult]) -> PlcResult:
    """The one verdict on a part: good only if every camera says so; the slowest camera says how long it took.

    Of several defects the one whose score is the furthest above its threshold. At least one result is needed.
    """
    results = list(results)
    chosen = max(results, key=lambda result: (_BADNESS[result.verdict], _ratio(result)))
    slowest_ms = max((r.latency_ms for r in results if r.latency_ms is not None), default=None)
    return replace(chosen, latency_ms=slowest_ms, is_overrun=any(r.is_overrun for r in results))


def _ratio(result: PlcResult) -> float:
    return 0.0 if result.score is None else result.score / max(result.threshold or 0.0, 1e-12)
