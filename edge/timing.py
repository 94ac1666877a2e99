"""How fast a run was. It stands beside the rows, never in them: rows must not depend on the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

# Percentiles are of the newest pictures; a run of millions must not fill the memory with its own times.
SAMPLE = 10_000


@dataclass
class Stopwatch:
    """Counts pictures and keeps the newest SAMPLE latencies. jobs: processes that worked side by side."""

    jobs: int = 1
    pictures: int = 0
    started_s: float = field(default_factory=perf_counter)
    newest: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=SAMPLE))

    def add(self, latency_ms: Mapping[str, float]) -> None:
        """Count a picture. latency_ms: per stage, empty for a file without a verdict."""
        self.pictures += 1
        if latency_ms:
            self.newest.append(dict(latency_ms))

    def timing(self) -> dict[str, Any]:
        """Figures of the run so far, plain data for `run.json` and the summary."""
        took_s = perf_counter() - self.started_s
        totals = [sum(latency_ms.values()) for latency_ms in self.newest]
        stages = list(dict.fromkeys(stage for latency_ms in self.newest for stage in latency_ms))
        return {
            "pictures": self.pictures,
            "jobs": self.jobs,
            "took_s": round(took_s, 2),
            "pictures_per_s": round(self.pictures / took_s, 1) if took_s else None,
            "latency_p50_ms": _percentile(totals, 50),
            "latency_p95_ms": _percentile(totals, 95),
            "stage_p50_ms": {
                stage: _percentile([ms[stage] for ms in self.newest if stage in ms], 50) for stage in stages
            },
        }


def _percentile(values: list[float], percentile: float) -> float | None:
    return round(float(np.percentile(values, percentile)), 3) if values else None
