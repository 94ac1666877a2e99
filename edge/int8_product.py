"""A matrix product in integers, by the runtime at hand: with VNNI four times as fast as in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.backend import Arrays, IntegerStep, OnnxRuntimeBackend, OpenVINOBackend, openvino_product
from edge.manifest import BackendName

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int8]
WholeNumbers = npt.NDArray[Any]  # int32 from ONNX Runtime, float32 from OpenVINO

# rows (N, D) float32 / scale, constants (N, C) uint8 beside them, times columns (D + C, W) int8 -> (N, W) int32.
# There is no product in it and no pack, so it ships with the code; `python -m export.int8_product` writes it.
PRODUCT_GRAPH = Path(__file__).with_name("int8_product.onnx")
# The same after rows / scale times axes (D, p) int8, divided by projected_scale.
PROJECTED_GRAPH = Path(__file__).with_name("int8_projected_product.onnx")
OPENVINO_GRAPHS = 4  # one for each number of rows that is asked about, the latest ones
QUERY_LEVELS = 127
ZERO_POINT = 128  # of rows and constants: unsigned times signed is the fast pair on x86
# Seven bits: with eight, the 16-bit sums of x86 CPUs without VNNI overflow.
KEY_LEVELS = 63


@dataclass(frozen=True)
class Projection:
    """What rows are projected on before the product.

    axes: (D, p) whole numbers up to KEY_LEVELS, in units of axis_step. row_scale: of a row's own numbers to levels.
    """

    axes: Levels
    axis_step: float
    row_scale: float

    def scale_of_whole(self, scale: float) -> float:
        """What the product's whole numbers are divided by, to be levels of `scale`."""
        return scale / (self.row_scale * self.axis_step)


class Int8Product:
    """Rows times fixed columns.

    columns: (D + C, W) whole numbers up to KEY_LEVELS. scale: of a row's numbers (or its projection's) to levels,
    QUERY_LEVELS at most; what is beyond is cut off. meets: (C,) the levels that the last C numbers of every column are
    multiplied by.
    """

    def __init__(
        self,
        columns: Floats,
        scale: float,
        meets: Sequence[int] = (0,),
        projection: Projection | None = None,
        threads: int = 1,
        backend: BackendName = "onnxruntime",
    ) -> None:
        levels = np.ascontiguousarray(columns, dtype=np.int8)
        make = _by_onnxruntime if backend == "onnxruntime" else _by_openvino
        self._product = make(levels, scale, np.array(meets, dtype=np.int64), projection, threads)

    def of(self, rows: Floats) -> WholeNumbers:
        """(N, D) -> (N, W), in units of `scale` times those of the columns; holds until the next call."""
        return self._product(rows)


class Int8Matrix:
    """Rows times a fixed matrix, both rounded: some hundredths of a standard deviation off, in a third of the time.

    matrix: (D, W) float32, each column rounded by its own scale. largest: of a row's numbers, or it is cut off.
    """

    def __init__(self, matrix: Floats, largest: float, threads: int = 1, backend: BackendName = "onnxruntime") -> None:
        steps = np.maximum(np.abs(matrix).max(axis=0), np.finfo(np.float32).tiny) / KEY_LEVELS
        row_scale, levels = largest / QUERY_LEVELS, np.rint(matrix / steps)
        columns = np.vstack([levels, np.zeros_like(levels[:1])])
        self._product = Int8Product(columns, row_scale, threads=threads, backend=backend)
        self._steps = (steps * row_scale).astype(np.float32)

    def of(self, rows: Floats) -> Floats:
        """(N, D) -> (N, W)."""
        return np.asarray(np.multiply(self._product.of(rows), self._steps, dtype=np.float32))


def _by_onnxruntime(
    levels: Levels, scale: float, meets: npt.NDArray[np.int64], projection: Projection | None, threads: int
) -> Callable[[Floats], WholeNumbers]:
    backend = _opened(PROJECTED_GRAPH if projection else PRODUCT_GRAPH, threads)
    fixed: Arrays = {"columns": levels, "scale": np.array(scale, dtype=np.float32)}
    if projection:
        fixed["axes"] = projection.axes
        fixed["scale"] = np.array(projection.row_scale, dtype=np.float32)
        fixed["projected_scale"] = np.array(projection.scale_of_whole(scale), dtype=np.float32)
    met = (meets + ZERO_POINT).astype(np.uint8)
    constants = np.empty((0, len(met)), dtype=np.uint8)  # as many rows as were ever asked about

    def product(rows: Floats) -> WholeNumbers:
        nonlocal constants
        if len(constants) < len(rows):
            constants = np.tile(met, (len(rows), 1))
        return backend.run({**fixed, "rows": rows, "constants": constants[: len(rows)]})

    return product


@cache
def _opened(graph: Path, threads: int) -> OnnxRuntimeBackend:
    """One for all products: opening it takes milliseconds and mebibytes, and what is multiplied is among its inputs."""
    return OnnxRuntimeBackend(graph, threads)


def _by_openvino(
    levels: Levels, scale: float, meets: npt.NDArray[np.int64], projection: Projection | None, threads: int
) -> Callable[[Floats], WholeNumbers]:
    columns, constant = levels[: -len(meets)], levels[-len(meets) :]
    steps = [IntegerStep(scale, columns, meets @ constant.astype(np.int64))]
    if projection:
        steps[:1] = [
            IntegerStep(projection.row_scale, projection.axes),
            IntegerStep(projection.scale_of_whole(scale), columns, steps[0].offsets),
        ]

    @lru_cache(maxsize=OPENVINO_GRAPHS)
    def graph_for(rows_count: int) -> OpenVINOBackend:
        return openvino_product(steps, rows_count, threads)

    return lambda rows: graph_for(len(rows)).run_in_place({"rows": rows})
