"""Trained relation head -> ONNX and OpenVINO graphs, FP32 and INT8, each measured against torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.backend import load_backend
from edge.errors import ExportError
from edge.manifest import Target, graph_key
from export.openvino_ir import write_ir
from export.pack import export_onnx
from export.parity import FP32_TOLERANCE, RUNTIMES
from export.quantize import quantise

if TYPE_CHECKING:
    import torch

Inputs = dict[str, np.ndarray]

INPUT_NAMES = ["query", "prototypes"]
OUTPUT_NAME = "relation_scores"
# Relation scores run from 0 to 1; a bundle averages them with the cosine, which has no such error.
INT8_TOLERANCE = 0.05
PARITY_EXAMPLES = 64


def export_head(
    module: torch.nn.Module, examples: Sequence[Inputs], folder: Path, stem: str, target: Target
) -> tuple[dict[str, str], dict[str, float]]:
    """Write `folder/stem.*` and return the graphs by key and each one's largest difference to torch.

    examples: `query` (1, F) and `prototypes` (K, F) float32, K at least 2 in the first one; the INT8 ranges come from
    all but the first PARITY_EXAMPLES, the differences from those. ExportError when a graph strays too far.
    """
    graphs = {
        graph_key(backend, precision): f"{stem}.{precision}.{_suffix(backend)}" for backend, precision in RUNTIMES
    }
    fp32, int8 = folder / graphs["onnxruntime-fp32"], folder / graphs["onnxruntime-int8"]
    _export_fp32(module, examples[0], fp32)
    seen, unseen = examples[PARITY_EXAMPLES:], examples[:PARITY_EXAMPLES]
    quantise(fp32, int8, seen or unseen, target)
    write_ir(fp32, folder / graphs["openvino-fp32"])
    write_ir(int8, folder / graphs["openvino-int8"])
    parity = measure_head_parity(module, unseen, folder, graphs)
    check_head_parity(parity)
    return graphs, parity


def measure_head_parity(
    module: torch.nn.Module, examples: Sequence[Inputs], folder: Path, graphs: dict[str, str]
) -> dict[str, float]:
    """Per graph, the largest difference of a relation score to torch."""
    expected = [_run_torch(module, inputs) for inputs in examples]
    parity = {}
    for backend, precision in RUNTIMES:
        runtime = load_backend(folder, graphs, backend, precision)
        got = [runtime.run(inputs) for inputs in examples]
        worst = max(float(np.abs(g - e).max()) for g, e in zip(got, expected, strict=True))
        parity[graph_key(backend, precision)] = round(worst, 6)
    return parity


def check_head_parity(parity: dict[str, float]) -> None:
    """ExportError when a graph strays further than typing may rest on (NaN strays)."""
    for key, difference in parity.items():
        allowed = FP32_TOLERANCE if key.endswith("fp32") else INT8_TOLERANCE
        if not difference <= allowed:
            raise ExportError(
                f"relation head {key}: scores differ from torch by {difference:.2g}, allowed {allowed:g}; "
                "nothing was written; pretrain with more classes or episodes, or another --seed"
            )


def _export_fp32(module: torch.nn.Module, example: Inputs, path: Path) -> None:
    import torch

    tensors = tuple(torch.from_numpy(example[name]) for name in INPUT_NAMES)
    classes = torch.export.Dim("K", min=2)  # what is traced; the graph broadcasts, so one class works too
    export_onnx(module.eval(), tensors, INPUT_NAMES, OUTPUT_NAME, path, dynamic_shapes=(None, {0: classes}))


def _run_torch(module: torch.nn.Module, inputs: Inputs) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return np.asarray(module(*(torch.from_numpy(inputs[name]) for name in INPUT_NAMES)).numpy())


def _suffix(backend: str) -> str:
    return "onnx" if backend == "onnxruntime" else "xml"
