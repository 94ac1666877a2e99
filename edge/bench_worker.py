"""Times one runtime in a process of its own, so that start-up and memory are that runtime's alone.

`python -m edge.bench_worker JOB`, with JOB as JSON, prints FIRST_VERDICT when the first verdict is out and
then one JSON line: {"backend_version", "peak_rss_mb", "latency", "search"} or {"error"}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bench_timing import time_frames, time_search
from edge.errors import OddkindError
from edge.inspector import Inspector
from edge.machine import peak_rss_mb
from edge.manifest import BackendName, Precision
from edge.pictures import FrameBgr, read_picture
from edge.result import Provenance, utc_now

FIRST_VERDICT = "first verdict"


@dataclass(frozen=True)
class Job:
    """One runtime to time. picture: a file, or None for a generated frame of `frame_wh` pixels. threads: 1 or more."""

    bundle: str
    backend: BackendName
    precision: Precision
    threads: int
    frames: int
    picture: str | None
    frame_wh: tuple[int, int]
    with_search: bool


def generate_frame(frame_wh: tuple[int, int]) -> FrameBgr:
    """(H, W, 3) uint8: grained texture with a dark blot, the same every time."""
    width, height = frame_wh
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(90, 170, (9, 16, 3), dtype=np.uint8), frame_wh, interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(0, 30, (height, width, 1), dtype=np.uint8)
    frame = cv2.add(coarse, np.repeat(grain, 3, axis=2))
    cv2.circle(frame, (width // 3, height // 2), max(2, height // 12), (30, 40, 50), cv2.FILLED, cv2.LINE_AA)
    return np.asarray(frame, dtype=np.uint8)


def run_job(job: Job) -> dict[str, Any]:
    """Load, inspect once, say so, then time."""
    cv2.setNumThreads(job.threads)
    inspector = Inspector.load(Path(job.bundle), job.backend, job.precision, job.threads)
    frame_bgr = read_picture(Path(job.picture)) if job.picture else generate_frame(job.frame_wh)
    inspector.inspect(frame_bgr, Provenance("bench", 0, utc_now())).to_json()
    print(FIRST_VERDICT, flush=True)
    latency = time_frames(inspector, frame_bgr, job.frames)
    peak_mb = peak_rss_mb()  # before the search opens a second index
    return {
        "backend_version": inspector.backbone.version,
        "peak_rss_mb": peak_mb,
        "latency": asdict(latency),
        "search": asdict(time_search(inspector, frame_bgr)) if job.with_search else None,
    }


def main(job_json: str) -> int:
    """Run the job and print its figures; the exit code."""
    facts = json.loads(job_json)
    try:
        print(json.dumps(run_job(Job(**{**facts, "frame_wh": tuple(facts["frame_wh"])})), allow_nan=False))
    except OddkindError as exc:
        print(json.dumps({"error": str(exc)}))
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
