"""FP32 ONNX -> INT8 ONNX, static QDQ: calibrated on frames, loaded and run before it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge.backend import OnnxRuntimeBackend
from edge.errors import ExportError
from edge.manifest import Target

# Only these go to integers: pooling, resizing and concatenation at the end stay in float, they cost little.
QUANTISED_OPS = ("Conv", "Gemm", "MatMul", "Add", "Clip", "Relu")


def quantise(fp32: Path, int8: Path, inputs: Iterable[dict[str, np.ndarray]], target: Target) -> None:
    """Write `int8` from `fp32`; activations U8 on x86 and S8 on ARM, weights S8 per channel.

    `inputs`: what the graph is fed, one dict a frame. x86 without VNNI saturates, so it gets a reduced range.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    frames = list(inputs)
    if not frames:
        raise ExportError("quantisation needs at least one frame")
    try:
        quantize_static(
            str(fp32),
            str(int8),
            _reader(frames),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPS),
            per_channel=True,
            reduce_range=target == "x86-avx2",
            activation_type=QuantType.QInt8 if target == "arm64" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    except (RuntimeError, ValueError, TypeError) as exc:
        raise ExportError(f"quantising {fp32.name} failed: {exc}") from exc
    OnnxRuntimeBackend(int8).run(frames[0])


def simplify(raw: Path, simplified: Path) -> None:
    """Fold constants and fuse what does not change the numbers, so that quantisation sees plain convolutions."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(raw), str(simplified), skip_symbolic_shape=True)


def _reader(frames: list[dict[str, np.ndarray]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.iterator: Iterator[dict[str, np.ndarray]] = iter(frames)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.iterator, None)

    return Frames()
