"""An odd region as one vector: how its patches differ from the nearest good ones."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly
from edge.manifest import Embedding
from edge.memory_bank import MemoryBank
from edge.regions import OddRegion

Floats = npt.NDArray[np.float32]

DESCRIPTOR_NAME = "residual-core-and-surroundings-1"
# (fraction of the peak's height over the median from which a patch counts, patches the region is grown by):
# the core says what the defect is made of, the surroundings how it sits in the part.
POOLINGS = ((0.6, 0), (0.0, 4))


def descriptor_dim(embedding: Embedding) -> int:
    """F: the residual features, pooled once per entry of POOLINGS."""
    return len(POOLINGS) * embedding.dim


def view_slices(embedding: Embedding) -> list[slice]:
    """Columns of each view, one a pooling; a view counts the same however long its features are."""
    return [slice(i * embedding.dim, (i + 1) * embedding.dim) for i in range(len(POOLINGS))]


def describe(anomaly: Anomaly, region: OddRegion, bank: MemoryBank) -> Floats:
    """(F,) float32: the region's residual features, averaged with the patches' height as weight.

    residual = patch - nearest good patch, the paper's r = f(x) - NN(f(x)).
    """
    residual = anomaly.standardised - bank.arrays.vectors[anomaly.nearest_rows]  # (N, D)
    weights = [pooling_weights(anomaly.patch_scores, region, *pooling).ravel() for pooling in POOLINGS]
    return np.concatenate([w @ residual for w in weights]).astype(np.float32)


def pooling_weights(patch_scores: Floats, region: OddRegion, fraction: float, grow_patches: int = 0) -> Floats:
    """(h, w) weights that sum to 1: height over `fraction` of the region's peak, on the region grown a little."""
    size_wh = (patch_scores.shape[1], patch_scores.shape[0])
    cover = cv2.resize(region.mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    base, peak = float(np.median(patch_scores)), float(patch_scores[cover > 0].max())
    if grow_patches:
        side = 2 * grow_patches + 1
        cover = cv2.dilate((cover > 0).astype(np.float32), np.ones((side, side), np.uint8))
    weights = np.maximum(patch_scores - (base + fraction * (peak - base)), 0) * cover
    total = float(weights.sum())
    if not total > 0:  # a box on a flat map: every patch of it counts the same
        weights, total = cover, float(cover.sum())
    return np.asarray(weights / total, dtype=np.float32)


def compare_ready(descriptors: Floats, centre: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, F) centred, with unit views."""
    return unit_views(descriptors - centre, views)


def unit_views(vectors: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, F), each view of length 1 / sqrt(views): a dot product is the mean cosine of the views."""
    scaled = np.empty_like(vectors, dtype=np.float32)
    for view in views:
        length = np.linalg.norm(vectors[:, view], axis=1, keepdims=True)
        scaled[:, view] = vectors[:, view] / np.maximum(length, 1e-9)
    return np.asarray(scaled / np.sqrt(len(views)), dtype=np.float32)
