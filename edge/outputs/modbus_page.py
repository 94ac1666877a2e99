"""What stands in the registers of a station at one moment: the handshake's state in the words of the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge.outputs.modbus_map import (
    MAP_VERSION,
    NO_CLASS,
    NO_SCORE,
    OTHER_CLASS,
    STATUS_BITS,
    UNKNOWN_CLASS,
    VERDICT_CODES,
    Value,
    WordOrder,
    word_of,
    words_of,
)
from edge.outputs.modbus_result import PlcResult
from edge.outputs.modbus_signals import Shown, Trouble
from edge.result import UNKNOWN

FailSafe = Literal["reject", "no_verdict"]
_NOTHING: dict[FailSafe, PlcResult] = {"reject": PlcResult("defect"), "no_verdict": PlcResult("no_verdict")}


@dataclass(frozen=True)
class Latest:
    """The last record of whatever camera, and how many of each verdict there were. number: of records.

    camera: 1 for the first of the station. at_s: when it was written.
    """

    result: PlcResult | None = None
    camera: int = 0
    number: int = 0
    at_s: float = 0.0
    counts: Mapping[str, int] = field(default_factory=Counter)

    def after(self, result: PlcResult, camera: int, now_s: float) -> Latest:
        """With one more record."""
        return Latest(result, camera, self.number + 1, now_s, Counter(self.counts) + Counter([result.verdict]))


@dataclass(frozen=True)
class PageStyle:
    """How values are shown. fail_safe: the verdict while there is none; there is no way to make it a good one."""

    class_codes: Mapping[str, int]
    word_order: WordOrder = "big"
    fail_safe: FailSafe = "reject"

    def class_code(self, defect_class: str | None) -> int:
        """0 without a class, 65535 for `unknown`, 65534 for one that has no code."""
        if defect_class is None:
            return NO_CLASS
        return UNKNOWN_CLASS if defect_class == UNKNOWN else self.class_codes.get(defect_class, OTHER_CLASS)


def input_words(shown: Shown, latest: Latest, style: PageStyle, now_s: float) -> list[int]:
    """Every input register, all of the same moment."""
    values = _handshake(shown, style) | _result(shown.result, style) | _latest(shown, latest, style, now_s)
    return words_of(values, style.word_order)


def _handshake(shown: Shown, style: PageStyle) -> dict[str, Value]:
    return {
        "status": word_of(_status(shown, style), STATUS_BITS),
        "acquisition_id": acquisition_id(shown.trigger_id),
        "results_waiting": shown.results_waiting,
        "error_code": shown.trouble.value,
        "heartbeat_count": shown.rounds & 0xFFFF,
        "missed_count": shown.missed & 0xFFFF,
        "overrun_count": shown.overruns & 0xFFFF,
        "void_count": shown.voided & 0xFFFF,
        "map_version": MAP_VERSION,
    }


def _status(shown: Shown, style: PageStyle) -> dict[str, bool]:
    result = shown.result or _NOTHING[style.fail_safe]
    return {
        "online": shown.online,
        "trigger_ready": shown.trigger_ready,
        "trigger_ack": shown.trigger_ack,
        "missed_acquisition": shown.missed_acquisition,
        "system_busy": shown.system_busy,
        "results_valid": shown.results_valid,
        "results_overrun": shown.results_overrun,
        "pass": result.verdict == "good",
        "fail": result.verdict == "defect",
        "unknown": result.defect_class == UNKNOWN,
        "no_verdict": result.verdict == "no_verdict",
        "heartbeat": shown.heartbeat,
        "fault": shown.fault,
        "error": shown.trouble is not Trouble.NONE,
    }


def _result(result: PlcResult | None, style: PageStyle) -> dict[str, Value]:
    r = result or _NOTHING[style.fail_safe]
    return {
        "result_acquisition_id": acquisition_id(r.trigger_id),
        "result_number": r.number & 0xFFFF,
        "verdict": VERDICT_CODES[r.verdict],
        "class_code": style.class_code(r.defect_class),
        "anomaly_score": _or_none(r.score),
        "threshold": _or_none(r.threshold),
        "age_ms": r.age_ms or 0,
        "latency_ms": r.latency_ms or 0,
        "result_part_id": r.part_id or "",
        "result_id": r.result_id,
    }


def _latest(shown: Shown, latest: Latest, style: PageStyle, now_s: float) -> dict[str, Value]:
    """Of a station that is not online no verdict is the latest: what it judged last says nothing of this part."""
    r = latest.result if latest.result and shown.online else _NOTHING[style.fail_safe]
    is_of_camera = r is latest.result
    return {
        "good_count": latest.counts["good"],
        "defect_count": latest.counts["defect"],
        "no_verdict_count": latest.counts["no_verdict"],
        "latest_number": latest.number & 0xFFFF,
        "latest_camera": latest.camera if is_of_camera else 0,
        "latest_verdict": VERDICT_CODES[r.verdict],
        "latest_class_code": style.class_code(r.defect_class),
        "latest_anomaly_score": _or_none(r.score),
        "latest_threshold": _or_none(r.threshold),
        "latest_age_ms": (r.age_ms or 0) + (now_s - latest.at_s) * 1e3 if is_of_camera else 0,
    }


def _or_none(value: float | None) -> float:
    return NO_SCORE if value is None else value


def acquisition_id(trigger_id: int | None) -> int:
    """The number of a trigger in 16 bits: 1 to 65535, then 1 again; 0 is none."""
    return 0 if trigger_id is None else (trigger_id - 1) % 0xFFFF + 1
