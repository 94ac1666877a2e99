"""What an inspection says: plain frozen data, one record schema for every sink.

The schema is `record.schema.json` beside this file; `Inspection.to_record` gives exactly that.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Literal

RECORD_SCHEMA_VERSION = 2
UNKNOWN = "unknown"
_NAMESPACE = uuid.UUID("6f64646b-696e-4d21-8a57-0d8f5f0c2406")
_THIS_RUN = uuid.uuid4().hex

Verdict = Literal["good", "defect", "no_verdict"]


@dataclass(frozen=True)
class Classification:
    """One class and how well it fits: relation_score in 0..1, larger fits better."""

    defect_class: str
    relation_score: float


@dataclass(frozen=True)
class Region:
    """One odd region. box_xyxy: source pixels, right and bottom exclusive. ranking: best class first."""

    box_xyxy: tuple[int, int, int, int]
    area_px: int
    peak_score: float
    defect_class: str | None = None
    relation_score: float | None = None
    ranking: tuple[Classification, ...] = ()


@dataclass(frozen=True)
class Device:
    """What the camera itself says of a frame: its number and its own clock in ns; None where it says nothing."""

    frame_id: int | None = None
    timestamp_ns: int | None = None


@dataclass(frozen=True)
class Trigger:
    """A request for one verdict. trigger_id: 1, 2, 3, ... in a run. at: ISO 8601 UTC. by: who asked, such as `http`.

    part_id: what the one who asked calls the part.
    """

    trigger_id: int
    at: str
    by: str
    part_id: str | None = None


@dataclass(frozen=True)
class MasterPart:
    """A part whose verdict is known, shown to prove that the station sees. passed: it was judged as expected."""

    name: str
    expected: str
    passed: bool


@dataclass(frozen=True)
class Provenance:
    """Where a frame came from. captured_at: ISO 8601 UTC. path: for files, relative to what was asked for.

    run_id: tells this process from any other; no field of the record, but part of `result_id` where there is no path.
    """

    source: str
    frame_id: int
    captured_at: str
    path: str | None = None
    run_id: str = _THIS_RUN
    device: Device | None = None
    trigger: Trigger | None = None


@dataclass(frozen=True)
class Inspection:
    """The verdict on one frame. anomaly_score is None only with `no_verdict`; regions are strongest first.

    age_ms: from the grab to the verdict. trigger_ms: from the trigger to the verdict. Both None where there is none.
    asked_at_s, deadline_at_s: of the trigger, on the clock of `time.monotonic`; for outputs, never in the record.
    """

    provenance: Provenance
    bundle_id: str
    verdict: Verdict
    anomaly_score: float | None
    image_threshold: float
    regions: tuple[Region, ...] = ()
    defect_class: str | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    age_ms: float | None = None
    trigger_ms: float | None = None
    master_part: MasterPart | None = None
    asked_at_s: float | None = field(default=None, compare=False)
    deadline_at_s: float | None = field(default=None, compare=False)

    @property
    def result_id(self) -> str:
        """The same unchanged file, frame and bundle give the same id; every frame of a camera has one of its own.

        A camera's frame numbers start again with each run and a box without a clock battery may live through the same
        second twice, so time and number alone would not do.
        """
        p = self.provenance
        where = (p.path, "") if p.path else ("", p.run_id)
        return str(uuid.uuid5(_NAMESPACE, "|".join((self.bundle_id, p.source, str(p.frame_id), p.captured_at, *where))))

    def with_latency(self, stage: str, latency_ms: float) -> Inspection:
        """The same inspection with one more stage timed."""
        return replace(self, latency_ms={**self.latency_ms, stage: round(latency_ms, 3)})

    def without_latency(self) -> Inspection:
        """The same inspection without what differs from run to run."""
        return replace(self, latency_ms={}, age_ms=None, trigger_ms=None)

    def to_record(self) -> dict[str, Any]:
        """Plain data in the record schema's order, ready for JSON."""
        return {
            "schema_version": RECORD_SCHEMA_VERSION,
            "result_id": self.result_id,
            "source": self.provenance.source,
            "path": self.provenance.path,
            "frame_id": self.provenance.frame_id,
            "captured_at": self.provenance.captured_at,
            "bundle_id": self.bundle_id,
            "verdict": self.verdict,
            "anomaly_score": _rounded(self.anomaly_score),
            "image_threshold": _rounded(self.image_threshold),
            "regions": [_region_record(region) for region in self.regions],
            "defect_class": self.defect_class,
            "latency_ms": self.latency_ms,
            "age_ms": self.age_ms,
            "device": asdict(self.provenance.device) if self.provenance.device else None,
            "trigger": self._trigger_record(),
            "master_part": asdict(self.master_part) if self.master_part else None,
            "error": self.error,
        }

    def _trigger_record(self) -> dict[str, Any] | None:
        trigger = self.provenance.trigger
        return None if trigger is None else {**asdict(trigger), "latency_ms": self.trigger_ms}

    def to_json(self) -> str:
        """One JSON line, without the line break; never NaN or Infinity, which JSON does not have."""
        return json.dumps(self.to_record(), allow_nan=False, ensure_ascii=False)


def no_verdict(provenance: Provenance, bundle_id: str, image_threshold: float, error: str) -> Inspection:
    """An inspection that could not be made; it is not good and not a defect."""
    return Inspection(provenance, bundle_id, "no_verdict", None, image_threshold, error=error)


def utc_now() -> str:
    """ISO 8601 with milliseconds and Z."""
    return iso_utc(datetime.now(UTC).timestamp())


def iso_utc(timestamp_s: float) -> str:
    """Seconds since the epoch -> ISO 8601 UTC with milliseconds and Z."""
    return datetime.fromtimestamp(timestamp_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_schema() -> dict[str, Any]:
    """The JSON Schema every record follows."""
    schema: dict[str, Any] = json.loads(resources.files("edge").joinpath("record.schema.json").read_text("utf-8"))
    return schema


def _region_record(region: Region) -> dict[str, Any]:
    record = asdict(region)
    record["box_xyxy"] = list(region.box_xyxy)
    record["peak_score"] = _rounded(region.peak_score)
    record["relation_score"] = _rounded(region.relation_score)
    record["ranking"] = [
        {"defect_class": c.defect_class, "relation_score": _rounded(c.relation_score)} for c in region.ranking
    ]
    return record


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
