"""Search in INT8 in fewer columns: keys and patches are projected on a bank's principal directions first.

Patches vary in far fewer directions than they have features. As in `edge.int8_search` only *which* row is nearest is
decided here, so a distance can come out too long, never too short.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import BundleError
from edge.int8_product import KEY_LEVELS, Int8Product, Projection
from edge.int8_search import KeyColumns, level_scale, nearest_rows, rows_at_once
from edge.manifest import BackendName

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Axes = npt.NDArray[np.int8]

AXES_FILE = "memory_bank_axes.npy"


class ProjectedSearch:
    """Nearest projected key by the largest q.k - |k|^2 / 2, in integers."""

    def __init__(self, keys: Floats, axes: Axes, threads: int = 1, backend: BackendName = "onnxruntime") -> None:
        """keys: (M, d). axes: (d, p) whole numbers up to KEY_LEVELS, columns of the same length."""
        step = axis_step(axes)
        columns = KeyColumns.of(keys @ (axes * np.float32(step)))
        projection = Projection(axes, step, row_scale=level_scale(float(np.abs(keys).max()) or 1.0))
        self._product = Int8Product(columns.levels, columns.query_scale, columns.meets, projection, threads, backend)
        self._block = rows_at_once(len(keys))

    def nearest_rows(self, queries: Floats) -> Ints:
        """(N, d) -> rows (N,)."""
        return nearest_rows(self._product, queries, self._block)


def axis_step(axes: Axes) -> float:
    """What one level of an axis is worth, so that an axis has length 1."""
    return 1 / float(np.sqrt(np.square(axes, dtype=np.float64).sum(axis=0).mean()))


def load_axes(folder: Path, dim: int, dims: int) -> Axes:
    """(d, p) of a bundle; BundleError when they are not what the manifest says."""
    path = folder / AXES_FILE
    try:
        axes = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as exc:
        raise BundleError(f"{path}: not the axes of a search ({exc}); calibrate again") from exc
    if axes.shape != (dim, dims) or axes.dtype != np.int8 or np.abs(axes).max() > KEY_LEVELS:
        raise BundleError(f"{path}: {axes.shape} {axes.dtype}, the manifest says {dims} axes of {dim}; calibrate again")
    return np.asarray(axes)
