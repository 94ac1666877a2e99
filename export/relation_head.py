"""Trained relation head -> ONNX and OpenVINO graphs, each measured against torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.backend import load_backend
from edge.errors import ExportError
from edge.manifest import graph_key
from export.openvino_ir import write_ir
from export.pack import export_onnx
from export.parity import FP32_TOLERANCE, RUNTIMES

if TYPE_CHECKING:
    import torch

Inputs = dict[str, np.ndarray]

INPUT_NAMES = ["queries", "prototypes"]
OUTPUT_NAME = "relation_scores"


def export_head(
    module: torch.nn.Module, examples: Sequence[Inputs], folder: Path, stem: str
) -> tuple[dict[str, str], dict[str, float]]:
    """Write `folder/stem.*` and return the graphs by key and each one's largest difference to torch.

    examples: `queries` (Q, F) and `prototypes` (K, F) float32, Q and K at least 2 in the first one. ExportError when
    a graph strays too far.
    """
    # An INT8 bundle runs the FP32 head as well: it has a handful of weights and works on FP32 descriptors, so INT8
    # would round the cosines and save no time.
    graphs = {graph_key(backend, precision): f"{stem}.fp32.{_suffix(backend)}" for backend, precision in RUNTIMES}
    onnx = folder / graphs["onnxruntime-fp32"]
    _export_fp32(module, examples[0], onnx)
    write_ir(onnx, folder / graphs["openvino-fp32"])
    parity = measure_head_parity(module, examples, folder, graphs)
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
        if not difference <= FP32_TOLERANCE:
            raise ExportError(
                f"relation head {key}: scores differ from torch by {difference:.2g}, allowed {FP32_TOLERANCE:g}; "
                "nothing was written; compare the versions of torch, onnx and the runtime with constraints.txt"
            )


def _export_fp32(module: torch.nn.Module, example: Inputs, path: Path) -> None:
    import torch

    tensors = tuple(torch.from_numpy(example[name]) for name in INPUT_NAMES)
    shapes = tuple({0: torch.export.Dim(name, min=2)} for name in ("Q", "K"))  # traced with two; one works as well
    export_onnx(module.eval(), tensors, INPUT_NAMES, OUTPUT_NAME, path, dynamic_shapes=shapes)


def _run_torch(module: torch.nn.Module, inputs: Inputs) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return np.asarray(module(*(torch.from_numpy(inputs[name]) for name in INPUT_NAMES)).numpy())


def _suffix(backend: str) -> str:
    return "onnx" if backend == "onnxruntime" else "xml"
