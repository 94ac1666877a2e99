"""A small network per product that tells painted marks from good patches, where distance alone cannot.

Distance asks how far a patch is from anything good; a faint crack is not far. At calibration this network saw marks
painted on the product's good pictures and learned which departures look like marks (`calibration.train_discriminator`).
Its map is added to the distance's. One hidden layer: H1 units over the patch's features, its residual to the nearest
good patch, and the distances around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import UNREADABLE_NPZ, BundleError
from edge.int8_product import Int8Matrix
from edge.manifest import BackendName, Precision

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DISCRIMINATOR_FILE = "discriminator.npz"
# Widths, in patches, at which the distances around a patch are seen.
SURROUNDINGS_PATCHES = (1.5, 4.0)
DISTANCE_FEATURES = 2 + len(SURROUNDINGS_PATCHES)
# A feature beyond this many times the largest number in the bank is cut off in INT8: it is odd as it is.
PATCH_REACH = 2.0


@dataclass(frozen=True)
class DiscriminatorArrays:
    """What `discriminator.npz` holds.

    patch, residual: (D, H1) weights of standardised features and of their residual. distance: (DISTANCE_FEATURES, H1).
    bias: (H1,). output: (H1,) weights of the hidden units. mean, std: (h, w) of the smoothed logit on good parts.
    """

    patch: Floats
    residual: Floats
    distance: Floats
    bias: Floats
    output: Floats
    mean: Floats
    std: Floats

    def save(self, path: Path) -> None:
        """Write without pickle."""
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path, dim: int, grid_hw: tuple[int, int]) -> DiscriminatorArrays:
        """Read without pickle; BundleError when an array is missing or does not fit D and the patch grid."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except UNREADABLE_NPZ as exc:
            raise BundleError(f"{path}: not a discriminator ({exc}); calibrate again") from exc
        units = arrays.bias.size
        expected = [(dim, units), (dim, units), (DISTANCE_FEATURES, units), (units,), (units,), grid_hw, grid_hw]
        if [array.shape for array in arrays.__dict__.values()] != expected or not (arrays.std > 0).all():
            raise BundleError(f"{path}: does not fit {dim} features on a patch grid of {grid_hw}; calibrate again")
        return arrays


class Discriminator:
    """The network beside the bank whose residuals it was taught on.

    vectors: (M, D) of the bank. sigma_patches: Gaussian that its map is averaged with. precision: of the product with
    the patches, nearly all of its work.
    """

    def __init__(
        self,
        arrays: DiscriminatorArrays,
        vectors: Floats,
        sigma_patches: float,
        precision: Precision = "fp32",
        threads: int = 1,
        backend: BackendName = "onnxruntime",
    ) -> None:
        self._arrays, self._sigma_patches = arrays, sigma_patches
        # residual = patch - row: one product with the patch, and a look-up of what the row contributes.
        of_patch = np.ascontiguousarray(arrays.patch + arrays.residual)  # (D, H1)
        self._times_patch: Callable[[Floats], Floats] = of_patch.__rmatmul__
        if precision == "int8":
            largest = PATCH_REACH * (float(np.abs(vectors).max()) or 1.0)
            self._times_patch = Int8Matrix(of_patch, largest, threads, backend).of
        self._of_row = arrays.bias - vectors @ arrays.residual  # (M, H1)

    def patch_scores(self, standardised: Floats, rows: Ints, distances: Floats, distance_scores: Floats) -> Floats:
        """(N, D), (N,), (N,), (h, w) -> (h, w), in standard deviations over what good parts show at that place."""
        hidden = self._times_patch(standardised)
        hidden += self._of_row[rows]
        hidden += distance_features(distances, distance_scores) @ self._arrays.distance
        np.maximum(hidden, 0, out=hidden)  # NaN stays NaN, and a patch of it has NaN distances
        logits = (hidden @ self._arrays.output).reshape(distance_scores.shape)
        smoothed = cv2.GaussianBlur(logits, (0, 0), self._sigma_patches) if self._sigma_patches else logits
        return np.asarray((smoothed - self._arrays.mean) / self._arrays.std, dtype=np.float32)


def distance_features(distances: Floats, distance_scores: Floats) -> Floats:
    """(N,) distances and (h, w) of them place-normalised -> (N, DISTANCE_FEATURES): both, and the surroundings."""
    around = [cv2.GaussianBlur(distance_scores, (0, 0), sigma).ravel() for sigma in SURROUNDINGS_PATCHES]
    return np.asarray(np.stack([distance_scores.ravel(), distances, *around], axis=1), dtype=np.float32)
