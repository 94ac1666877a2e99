"""What Prometheus reads of a station. The only file that uses prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from edge.errors import UsageError
from edge.result import Inspection, Verdict
from edge.station.control import StateName, Status

# Score over threshold: 1 is where a defect begins, so the buckets are narrow there.
SCORE_BUCKETS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters of one run in a registry of their own, from any thread. UsageError without prometheus-client.

    ages_s: seconds since the last record of each camera, None before the first, asked for at every reading.
    """

    def __init__(self, cameras: Sequence[str], ages_s: Callable[[], dict[str, float | None]]) -> None:
        check_installed()
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self._registry = r = CollectorRegistry()
        self._ages_s = ages_s
        self._next_ids = dict.fromkeys(cameras, 0)
        self._inspections = Counter("oddkind_inspections", "Records.", ["camera", "verdict"], registry=r)
        self._defects = Counter("oddkind_defects", "Records of defects.", ["camera", "defect_class"], registry=r)
        self._dropped = Counter("oddkind_frames_dropped", "Gaps in the frame numbers.", ["camera"], registry=r)
        self._scores = Histogram(
            "oddkind_anomaly_score_ratio",
            "Anomaly score over threshold.",
            ["camera"],
            registry=r,
            buckets=SCORE_BUCKETS,
        )
        self._latencies = Histogram(
            "oddkind_latency_seconds", "Duration of a stage.", ["stage"], registry=r, buckets=LATENCY_BUCKETS_S
        )
        self._ages = Histogram(
            "oddkind_frame_age_seconds",
            "From the grab to the verdict.",
            ["camera"],
            registry=r,
            buckets=LATENCY_BUCKETS_S,
        )
        self._reconnects = Counter("oddkind_reconnects", "How often a camera came back.", ["camera"], registry=r)
        self._counted: dict[str, int] = {}
        self._state = Gauge("oddkind_state", "1 for the state of the station.", ["state"], registry=r)
        self._master_parts = Counter("oddkind_master_parts", "Master parts shown.", ["part", "passed"], registry=r)
        self._threshold = Gauge("oddkind_image_threshold", "Scores above it are defects.", ["bundle_id"], registry=r)
        self._age = Gauge("oddkind_last_record_age_seconds", "Infinite before the first.", ["camera"], registry=r)
        ProcessCollector(registry=r)
        self._begin(cameras)

    def note(self, inspection: Inspection) -> None:
        """Count one record."""
        camera, threshold = inspection.provenance.source, inspection.image_threshold
        self._dropped.labels(camera).inc(self._dropped_before(inspection))
        if inspection.master_part:
            self._master_parts.labels(inspection.master_part.name, str(inspection.master_part.passed).lower()).inc()
            return
        self._inspections.labels(camera, inspection.verdict).inc()
        self._threshold.labels(inspection.bundle_id).set(threshold)
        if inspection.verdict == "defect":
            self._defects.labels(camera, inspection.defect_class or "").inc()
        if inspection.anomaly_score is not None and threshold > 0:
            self._scores.labels(camera).observe(inspection.anomaly_score / threshold)
        for stage, took_ms in inspection.latency_ms.items():
            self._latencies.labels(stage).observe(took_ms / 1e3)
        if inspection.age_ms is not None:
            self._ages.labels(camera).observe(inspection.age_ms / 1e3)

    def came_round(self, status: Status) -> None:
        """How often cameras have come back, and whether the station inspects."""
        for camera, count in status.reconnects.items():
            self._reconnects.labels(camera).inc(count - self._counted.get(camera, 0))
        self._counted = dict(status.reconnects)
        for state in get_args(StateName):
            self._state.labels(state).set(status.state == state)

    def text(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        for camera, age_s in self._ages_s().items():
            self._age.labels(camera).set(float("inf") if age_s is None else age_s)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _begin(self, cameras: Sequence[str]) -> None:
        """What is counted is there from the start, as 0: a rate needs two readings."""
        from prometheus_client import Info

        from edge import __version__

        for camera in cameras:
            self._dropped.labels(camera)
            self._reconnects.labels(camera)
            for verdict in get_args(Verdict):
                self._inspections.labels(camera, verdict)
        Info("oddkind_build", "What runs here.", registry=self._registry).info({"version": __version__})

    def _dropped_before(self, inspection: Inspection) -> int:
        """Every frame takes a number, those that nobody inspects too; a sink is told no more than that."""
        p = inspection.provenance
        gap = p.frame_id - self._next_ids.get(p.source, 0)
        self._next_ids[p.source] = p.frame_id + 1
        return max(0, gap)


def check_installed() -> None:
    """UsageError without prometheus-client."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as exc:
        raise UsageError(
            "http needs prometheus-client, which is not installed; pip install 'oddkind[station]'"
        ) from exc
