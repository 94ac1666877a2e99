"""Same frames through torch, ONNX FP32, ONNX INT8 and OpenVINO: how far apart are the embeddings?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge.backend import load_backend
from edge.errors import ExportError
from edge.manifest import BackendName, Precision, graph_key

Infer = Callable[[np.ndarray], np.ndarray]

FP32_TOLERANCE = 1e-3
# The deepest stage is read by typing alone, and averaged over a window: it may stray a little further.
INT8_MIN_MEAN_COSINE = {"backbone": 0.97, "second_look": 0.9}
RUNTIMES: tuple[tuple[BackendName, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)


def measure_parity(
    reference: Infer, folder: Path, graphs: dict[str, str], frames: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Per graph, against `reference` (torch): mean and worst cosine over patches, largest relative error.

    frames: network inputs (1, 3, S, S). The relative error is |a - b| over the reference's largest value.
    """
    expected = [reference(frame) for frame in frames]
    report = {}
    for backend, precision in RUNTIMES:
        runtime = load_backend(folder, graphs, backend, precision)
        got = [runtime.run({"images": frame}) for frame in frames]
        report[graph_key(backend, precision)] = compare(np.concatenate(expected), np.concatenate(got))
    return report


def compare(expected: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """Two (..., D) arrays -> cosine_mean, cosine_worst, largest_relative_error."""
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(got, axis=-1)
    cosines = (expected * got).sum(-1) / np.maximum(lengths, 1e-12)
    error = np.abs(expected - got).max() / max(float(np.abs(expected).max()), 1e-12)
    return {
        "cosine_mean": round(float(cosines.mean()), 6),
        "cosine_worst": round(float(cosines.min()), 6),
        "largest_relative_error": round(float(error), 6),
    }


def check_parity(report: dict[str, dict[str, float]], stem: str) -> None:
    """ExportError when a graph of `stem` strays further than a bundle may rest on (NaN strays)."""
    min_cosine = INT8_MIN_MEAN_COSINE[stem]
    for key, figures in report.items():
        if key.endswith("fp32") and not figures["largest_relative_error"] <= FP32_TOLERANCE:
            raise ExportError(
                f"{stem}, {key}: differs from torch by {figures['largest_relative_error']:.2g} of the largest value, "
                f"allowed {FP32_TOLERANCE:g}; nothing was written"
            )
        if key.endswith("int8") and not figures["cosine_mean"] >= min_cosine:
            raise ExportError(
                f"{stem}, {key}: mean cosine to torch is {figures['cosine_mean']:.4f}, at least {min_cosine} needed; "
                "nothing was written; give --good pictures of the product to calibrate on"
            )
