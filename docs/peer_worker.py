"""One side of docs/peer_anomalib.py in a process of its own: `python docs/peer_worker.py JOB_JSON`.

Reads `time`, `scores` or `end` from standard input, answers each with one JSON line. Between them it sleeps.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

SIDE_PX = 256
Frame = np.ndarray  # (S, S, 3) uint8 BGR, decoded and resized
Score = Callable[[Frame], float]


def openvino_config(job: dict[str, Any]) -> dict[str, Any]:
    """One thread; precision only where the job pins it, left alone OpenVINO chooses."""
    pinned = {"INFERENCE_PRECISION_HINT": job["precision"]} if job["precision"] else {}
    return {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", **pinned}


def rgb(frame_bgr: Frame) -> Frame:
    """What anomalib takes, without a copy."""
    return frame_bgr[..., ::-1]


def anomalib_inferencer(job: dict[str, Any]) -> tuple[Score, str]:
    """Its OpenVINOInferencer, as a user runs it."""
    from peer_models import let_torchvision_load

    keep = let_torchvision_load()
    import torch
    from anomalib.deploy import OpenVINOInferencer

    torch.set_num_threads(1)
    inferencer = OpenVINOInferencer(path=job["path"], device="CPU", config=openvino_config(job))

    def score(frame_bgr: Frame, keep: Any = keep) -> float:
        return float(np.asarray(inferencer.predict(rgb(frame_bgr)).pred_score).item())

    return score, str(inferencer.model.get_property("INFERENCE_PRECISION_HINT"))


def bare_openvino(job: dict[str, Any]) -> tuple[Score, str]:
    """The same file in OpenVINO alone: the least that a device would have to load."""
    import openvino as ov

    compiled = ov.Core().compile_model(job["path"], "CPU", openvino_config(job))
    request = compiled.create_infer_request()

    def score(frame_bgr: Frame) -> float:
        pixels = rgb(frame_bgr).astype(np.float32) / 255
        results = request.infer([np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])], share_inputs=True)
        return float(results["pred_score"].item())

    return score, str(compiled.get_property("INFERENCE_PRECISION_HINT"))


def torch_model(job: dict[str, Any]) -> tuple[Score, str]:
    """The fitted model in torch, anomalib's other way to run it."""
    from peer_models import batches, let_torchvision_load, lite_peer

    keep = let_torchvision_load()
    import torch

    torch.set_num_threads(1)
    peer = lite_peer(SIDE_PX)
    peer.model.memory_bank = torch.load(job["path"])

    def score(frame_bgr: Frame, keep: Any = keep) -> float:
        with torch.inference_mode():
            return float(peer(next(batches(frame_bgr[np.newaxis], 1))).pred_score.item())

    return score, "f32"


def our_inspector(job: dict[str, Any]) -> tuple[Score, str]:
    """oddkind: frame -> record, and with `typed` the strongest regions are named whatever the verdict."""
    from edge import Inspector, Provenance

    inspector = Inspector.load(Path(job["path"]), job["backend"], "int8")
    provenance = Provenance("peer", 0, "2026-01-01T00:00:00.000Z")

    def score(frame_bgr: Frame) -> float:
        inspection = inspector.inspect(frame_bgr, provenance, always_type=job["typed"])
        inspection.to_json()
        assert not job["typed"] or inspection.defect_class
        return inspection.anomaly_score

    return score, "int8"


SIDES = {
    "inferencer": anomalib_inferencer,
    "openvino": bare_openvino,
    "torch": torch_model,
    "oddkind": our_inspector,
}


def latencies_ms(score: Score, frames: np.ndarray) -> list[float]:
    """Of each frame, after three that do not count: the other processes' turns have cooled the caches."""
    taken = []
    for frame in [*frames[:3], *frames]:
        started_s = perf_counter()
        score(frame)
        taken.append((perf_counter() - started_s) * 1e3)
    return taken[3:]


def main(job: dict[str, Any]) -> None:
    """Load, then serve until told to end."""
    frames = np.load(job["frames"])
    started_s = perf_counter()
    score, precision = SIDES[job["side"]](job)
    answer({"precision": precision, "load_s": perf_counter() - started_s})
    for line in sys.stdin:
        if line.strip() == "time":
            from edge.machine import peak_rss_mb

            answer({"latencies_ms": latencies_ms(score, frames), "peak_rss_mb": peak_rss_mb()})
        elif line.strip() == "scores":
            answer({"scores": [score(frame) for frame in np.load(job["test"], mmap_mode="r")]})
        else:
            return


def answer(document: dict[str, Any]) -> None:
    """One line, on the standard output that anomalib's own messages are kept away from."""
    os.write(ANSWERS, json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    ANSWERS = os.dup(1)
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(json.loads(sys.argv[1]))
