"""Running a graph. The only file that imports ONNX Runtime and OpenVINO; their errors become BackendError."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge.errors import BackendError
from edge.manifest import BackendName, Precision, graph_key

Arrays = dict[str, npt.NDArray[Any]]

BACKEND_NAMES: tuple[BackendName, ...] = ("onnxruntime", "openvino")


class Backend(ABC):
    """One loaded graph: named arrays in, the graph's single output out, float32 unless the graph says otherwise."""

    name: BackendName
    version: str

    @abstractmethod
    def run(self, inputs: Arrays) -> npt.NDArray[Any]:
        """Output of the graph; the array belongs to the caller. BackendError if the runtime refuses."""


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime on the CPU, spinning off: a camera box needs its cores for grabbing too."""

    name: BackendName = "onnxruntime"

    def __init__(self, graph: Path, threads: int = 1) -> None:
        import onnxruntime as ort

        self.version = ort.__version__
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # ONNX Runtime raises a different type for every cause
            raise BackendError(f"ONNX Runtime cannot load {graph}: {_first_line(exc)}; export the pack again") from exc

    def run(self, inputs: Arrays) -> npt.NDArray[Any]:
        try:
            return cast(npt.NDArray[Any], self._session.run(None, inputs)[0])
        except Exception as exc:
            raise BackendError(f"ONNX Runtime failed: {_first_line(exc)}") from exc


class OpenVINOBackend(Backend):
    """OpenVINO on the CPU, pinned to f32: left alone it picks BF16 on some CPUs and scores differ."""

    name: BackendName = "openvino"

    def __init__(self, graph: Path | Callable[[], Any], threads: int = 1) -> None:
        """graph: a file, or what builds an OpenVINO model once the runtime is known to be there."""
        if not is_installed("openvino"):
            raise BackendError(
                "OpenVINO is not installed; pip install 'oddkind[openvino]' or use --backend onnxruntime"
            )
        import openvino as ov

        self.version = ov.__version__.split("-")[0]
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            compiled = ov.Core().compile_model(str(graph) if isinstance(graph, Path) else graph(), "CPU", config)
            self._request = compiled.create_infer_request()
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot load {graph}: {_first_line(exc)}; export the pack again") from exc

    def run(self, inputs: Arrays) -> npt.NDArray[Any]:
        return np.array(self.run_in_place(inputs), dtype=np.float32)

    def run_in_place(self, inputs: Arrays) -> npt.NDArray[Any]:
        """The same without a copy: the array is the request's own and holds until the next call."""
        try:
            return cast(npt.NDArray[Any], self._request.infer(inputs, share_inputs=True, share_outputs=True)[0])
        except (RuntimeError, TypeError) as exc:
            raise BackendError(f"OpenVINO failed: {_first_line(exc)}") from exc


@dataclass(frozen=True)
class IntegerStep:
    """Rows rounded to -128..127 after division by `scale`, times (D, W) int8. offsets: (W,) whole numbers to add."""

    scale: float
    levels: npt.NDArray[np.int8]
    offsets: npt.NDArray[np.int64] | None = None


def openvino_product(steps: Sequence[IntegerStep], rows_count: int, threads: int = 1) -> OpenVINOBackend:
    """`rows` (rows_count, D) float32 -> through one step after the other -> (rows_count, W) float32, whole numbers.

    OpenVINO multiplies in INT8 only what is constant in the graph, and fastest for a known number of rows, so the graph
    is made here.
    """

    def build() -> Any:
        import openvino as ov
        from openvino import opset13 as ops

        rows = ops.parameter([rows_count, len(steps[0].levels)], np.float32, name="rows")
        rows.output(0).set_names({"rows"})
        numbers = rows
        for step in steps:
            low, high = (ops.constant(np.float32(level * step.scale)) for level in (-128, 127))
            whole = (ops.constant(np.float32(level)) for level in (-128, 127))
            rounded = ops.fake_quantize(numbers, low, high, *whole, 256)
            # Weights count as integers only with a scale beside them.
            levels = ops.multiply(ops.convert(ops.constant(step.levels), np.float32), ops.constant(np.float32(1)))
            numbers = ops.matmul(rounded, levels, False, False)
            if step.offsets is not None:
                numbers = ops.add(numbers, ops.constant(step.offsets[np.newaxis].astype(np.float32)))
        return ov.Model([numbers], [rows], "integer_product")

    return OpenVINOBackend(build, threads)


def load_backend(
    folder: Path, graphs: dict[str, str], backend: BackendName, precision: Precision, threads: int = 1
) -> Backend:
    """Load the graph for `backend` and `precision` out of a pack or bundle folder."""
    key = graph_key(backend, precision)
    if key not in graphs:
        raise BackendError(f"{folder} has no {key} graph; it has {', '.join(sorted(graphs))}")
    runtime = OnnxRuntimeBackend if backend == "onnxruntime" else OpenVINOBackend
    return runtime(folder / graphs[key], threads if threads > 0 else os.cpu_count() or 1)


def is_installed(backend: str) -> bool:
    """Whether the runtime's package can be imported here."""
    return importlib.util.find_spec(backend) is not None


def installed_backends() -> list[BackendName]:
    """Runtimes that can be imported here, ONNX Runtime first."""
    return [name for name in BACKEND_NAMES if is_installed(name)]


def _first_line(exc: BaseException) -> str:
    text = str(exc).strip()
    return text.splitlines()[0][:200] if text else type(exc).__name__
