"""Tries one runtime on a bundle's graphs in a process of its own, for `edge.auto_backend`.

`python -m edge.probe_worker PROBE`, with PROBE as JSON, prints one JSON line, {"p50_ms"} or {"error"}, and leaves
the embeddings of the probe picture in the file it was told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backend import load_backend
from edge.bench_worker import generate_frame
from edge.bundle import Bundle
from edge.errors import OddkindError
from edge.inspector import limit_threads
from edge.manifest import BackendName, Embedding, Precision
from edge.preprocess import to_network_input

WARM_UP_RUNS, TIMED_RUNS = 5, 40
PROBE_WH = (1280, 720)

Embeddings = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Probe:
    """One runtime to try. embeddings_path: where an .npz with the array of each graph goes. threads: 1 or more."""

    bundle: str
    backend: BackendName
    precision: Precision
    threads: int
    embeddings_path: str


def run_probe(probe: Probe) -> dict[str, Any]:
    """Run both graphs, keep what they give, time the backbone."""
    limit_threads(probe.threads)
    bundle = Bundle.open(Path(probe.bundle))
    manifest = bundle.manifest
    looks = {
        "backbone": (manifest.graphs, manifest.embedding),
        "second_look": (manifest.second_look.graphs, manifest.second_look.embedding),
    }
    runners = {name: _runner(bundle.folder, *look, probe) for name, look in looks.items()}
    embeddings = {name: run() for name, run in runners.items()}
    np.savez(probe.embeddings_path, backbone=embeddings["backbone"], second_look=embeddings["second_look"])
    return {"p50_ms": round(_p50_ms(runners["backbone"]), 3)}


def _runner(
    folder: Path, graphs: dict[str, str], embedding: Embedding, probe: Probe
) -> Callable[[], npt.NDArray[np.float32]]:
    backend = load_backend(folder, graphs, probe.backend, probe.precision, probe.threads)
    inputs = {"images": to_network_input(generate_frame(PROBE_WH), embedding)}
    return lambda: backend.run(inputs)


def _p50_ms(work: Callable[[], object]) -> float:
    latencies_ms = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        started_s = perf_counter()
        work()
        latencies_ms.append((perf_counter() - started_s) * 1e3)
    return median(latencies_ms[WARM_UP_RUNS:])


def main(probe_json: str) -> int:
    """Run the probe and print its figure; the exit code."""
    try:
        print(json.dumps(run_probe(Probe(**json.loads(probe_json))), allow_nan=False))
    except OddkindError as exc:
        print(json.dumps({"error": str(exc)}))
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
