"""An odd region as one vector: what its patches are, how they differ from good ones, and a second look at it.

What changes between good parts is no evidence of a defect's kind. So both views are whitened by what they vary in
when the very same regions are laid on good pictures (`Whitening`), and only then compared by direction and length.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly
from edge.errors import UNREADABLE_NPZ, BundleError
from edge.manifest import Embedding
from edge.memory_bank import MemoryBank, standardise
from edge.pictures import FrameBgr
from edge.regions import OddRegion
from edge.second_look import SecondLook

Floats = npt.NDArray[np.float32]

DESCRIPTOR_NAME = "whitened residual-and-raw core, whitened second look"
# A patch of the region counts from this fraction of the peak's height over the picture's median.
CORE = 0.3


def descriptor_dim(embedding: Embedding, second_look: Embedding) -> int:
    """F: residual and raw features of the core, features of the second look."""
    return 2 * embedding.dim + second_look.dim


def view_slices(embedding: Embedding, second_look: Embedding) -> list[slice]:
    """Columns of the core and of the second look; both count the same however long they are."""
    core = 2 * embedding.dim
    return [slice(0, core), slice(core, core + second_look.dim)]


@dataclass(frozen=True)
class Whitening:
    """What regions look like on good parts, per view.

    look_mean, look_std: (D',) of the second look's features. core: (2 D, 2 D) and look: (D', D') symmetric
    matrices, (covariance + shrinkage)^-1/2.
    """

    look_mean: Floats
    look_std: Floats
    core: Floats
    look: Floats

    def apply(self, core: Floats, look: Floats) -> Floats:
        """(..., 2 D) and (..., D') in backbone units -> (..., F)."""
        standard = standardise(look, self.look_mean, self.look_std)
        return np.asarray(np.concatenate([core @ self.core, standard @ self.look], axis=-1), dtype=np.float32)

    def apply_to_support(self, core: Floats, looks: Floats) -> Floats:
        """(..., 2 D) and (..., L, D') of SUPPORT_LOOKS in backbone units -> (..., F): the looks averaged.

        An average is shorter than what it averages; the view keeps the length of the plain look, which is what the
        one look at a query is compared with.
        """
        several = standardise(looks, self.look_mean, self.look_std) @ self.look  # (..., L, D')
        plain_length = np.linalg.norm(several[..., 0, :], axis=-1, keepdims=True)
        mean = several.mean(axis=-2)
        look = mean * (plain_length / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-9))
        return np.asarray(np.concatenate([core @ self.core, look], axis=-1), dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write without pickle."""
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path, core_dim: int, look_dim: int) -> Whitening:
        """Read without pickle; BundleError when an array is missing or does not fit."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                whitening = cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except UNREADABLE_NPZ as exc:
            raise BundleError(f"{path}: not a whitening ({exc}); calibrate again") from exc
        shapes = [array.shape for array in whitening.__dict__.values()]
        if shapes != [(look_dim,), (look_dim,), (core_dim, core_dim), (look_dim, look_dim)]:
            raise BundleError(f"{path}: arrays do not fit views of {core_dim} and {look_dim}; calibrate again")
        return whitening


@dataclass(frozen=True)
class Describer:
    """Describes odd regions of one product."""

    bank: MemoryBank
    second_look: SecondLook
    whitening: Whitening

    def describe(self, anomaly: Anomaly, region: OddRegion, frame_bgr: FrameBgr) -> Floats:
        """(F,) float32 descriptor of `region` of the picture that `anomaly` came from."""
        weights = pooling_weights(anomaly.patch_scores, region)
        views = region_views(anomaly, region, weights, frame_bgr, self.bank, self.second_look)
        return self.whitening.apply(*views)

    def describe_support(self, anomaly: Anomaly, region: OddRegion, frame_bgr: FrameBgr) -> Floats:
        """(F,) the same region as enrolment keeps it, looked at from all sides."""
        return self.describe_both(anomaly, region, frame_bgr)[1]

    def describe_both(self, anomaly: Anomaly, region: OddRegion, frame_bgr: FrameBgr) -> tuple[Floats, Floats]:
        """(F,) as `describe` gives it, and (F,) as `describe_support` does, for those who need both."""
        weights = pooling_weights(anomaly.patch_scores, region)
        core, looks = support_views(anomaly, region, weights, frame_bgr, self.bank, self.second_look)
        return self.whitening.apply(core, looks[0]), self.whitening.apply_to_support(core, looks)


def region_views(
    anomaly: Anomaly,
    region: OddRegion,
    weights: Floats,
    frame_bgr: FrameBgr,
    bank: MemoryBank,
    second_look: SecondLook,
) -> tuple[Floats, Floats]:
    """Core (2 D,) and second look (D',) of a region, averaged with weights (h, w), before whitening."""
    box_xyxy = region.box_xyxy((frame_bgr.shape[0], frame_bgr.shape[1]))
    return _core(anomaly, weights, bank), second_look.describe(frame_bgr, box_xyxy, weights)


def support_views(
    anomaly: Anomaly,
    region: OddRegion,
    weights: Floats,
    frame_bgr: FrameBgr,
    bank: MemoryBank,
    second_look: SecondLook,
) -> tuple[Floats, Floats]:
    """The same of a support: core (2 D,) and SUPPORT_LOOKS (L, D'), the plain one first."""
    box_xyxy = region.box_xyxy((frame_bgr.shape[0], frame_bgr.shape[1]))
    return _core(anomaly, weights, bank), second_look.describe_from_all_sides(frame_bgr, box_xyxy, weights)


def _core(anomaly: Anomaly, weights: Floats, bank: MemoryBank) -> Floats:
    """(2 D,) residual and raw. residual = patch - nearest good patch, the paper's r = f(x) - NN(f(x))."""
    flat = weights.ravel()
    counting = np.flatnonzero(flat)  # a region is a small part of the picture
    raw = anomaly.standardised[counting]  # (n, D)
    residual = raw - bank.arrays.vectors[anomaly.nearest_rows[counting]]
    return np.concatenate([flat[counting] @ residual, flat[counting] @ raw])


def pooling_weights(patch_scores: Floats, region: OddRegion) -> Floats:
    """(h, w) weights that sum to 1: height over CORE of the region's peak, on the region."""
    size_wh = (patch_scores.shape[1], patch_scores.shape[0])
    cover = cv2.resize(region.mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    base, peak = float(np.median(patch_scores)), float(patch_scores[cover > 0].max())
    weights = np.maximum(patch_scores - (base + CORE * (peak - base)), 0) * cover
    total = float(weights.sum())
    if not total > 0:  # a box on a flat map: every patch of it counts the same
        weights, total = cover, float(cover.sum())
    return np.asarray(weights / total, dtype=np.float32)


def compare_ready(descriptors: Floats, centre: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, F) centred, with unit views."""
    return unit_views(descriptors - centre, views)


def unit_views(vectors: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, F), each view of length 1 / sqrt(views): a dot product is the mean cosine of the views."""
    lengths = np.maximum(view_lengths(vectors, views), 1e-9)
    return scale_views(vectors, 1 / (lengths * np.sqrt(len(views))), views)


def view_lengths(vectors: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, V) Euclidean length of each view."""
    lengths = [np.linalg.norm(vectors[:, view], axis=1) for view in views]
    return np.asarray(np.stack(lengths, axis=1), dtype=np.float32)


def scale_views(vectors: Floats, factors: Floats, views: list[slice]) -> Floats:
    """(S, F) with each view multiplied by its column of factors (S, V)."""
    scaled = np.empty_like(vectors, dtype=np.float32)
    for number, view in enumerate(views):
        scaled[:, view] = vectors[:, view] * factors[:, number, np.newaxis]
    return scaled
