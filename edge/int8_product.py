"""A matrix product in integers, through ONNX Runtime: with VNNI four times as fast as in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.backend import Arrays, OnnxRuntimeBackend

Floats = npt.NDArray[np.float32]

# rows (N, D) float32 / scale, constants (N, C) uint8 beside them, times columns (D + C, W) int8 -> (N, W) int32.
# There is no product in it and no pack, so it ships with the code; `python -m export.int8_product` writes it.
PRODUCT_GRAPH = Path(__file__).with_name("int8_product.onnx")
QUERY_LEVELS = 127
ZERO_POINT = 128  # of rows and constants: unsigned times signed is the fast pair on x86
# Seven bits: with eight, the 16-bit sums of x86 CPUs without VNNI overflow.
KEY_LEVELS = 63


class Int8Product:
    """Rows times fixed columns.

    columns: (D + C, W) whole numbers up to KEY_LEVELS. scale: of a row's numbers to levels, QUERY_LEVELS at most; what
    is beyond is cut off. meets: (C,) the levels that the last C numbers of every column are multiplied by. graph:
    PRODUCT_GRAPH, opened; many products may share it, for opening it takes milliseconds and mebibytes.
    """

    def __init__(
        self,
        columns: Floats,
        scale: float,
        meets: Sequence[int] = (0,),
        threads: int = 1,
        graph: OnnxRuntimeBackend | None = None,
    ) -> None:
        self._graph = graph or OnnxRuntimeBackend(PRODUCT_GRAPH, threads)
        self._columns = np.ascontiguousarray(columns, dtype=np.int8)
        self._scale = np.array(scale, dtype=np.float32)
        self._meets = np.array(meets, dtype=np.int16) + ZERO_POINT
        self._constants = np.empty((0, len(meets)), dtype=np.uint8)  # as many rows as were ever asked about

    def of(self, rows: Floats) -> npt.NDArray[np.int32]:
        """(N, D) -> (N, W), in units of `scale` times those of the columns."""
        if len(self._constants) < len(rows):
            self._constants = np.tile(self._meets.astype(np.uint8), (len(rows), 1))
        inputs: Arrays = {
            "rows": rows,
            "scale": self._scale,
            "constants": self._constants[: len(rows)],
            "columns": self._columns,
        }
        return np.asarray(self._graph.run(inputs), dtype=np.int32)
