"""An odd region as one vector: what its patches are, and how they differ from the nearest good ones."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly
from edge.manifest import Embedding
from edge.memory_bank import MemoryBank
from edge.regions import OddRegion

Floats = npt.NDArray[np.float32]

DESCRIPTOR_NAME = "residual-and-raw-core, residual-surroundings-1"
# (fraction of the peak's height over the median from which a patch counts, patches the region is grown by):
# the core says what the defect is made of, the surroundings how it sits in the part.
CORE, SURROUNDINGS = (0.6, 0), (0.0, 4)
# Raw features say where on the part the defect is; as loud as the residual they would drown it.
RAW_LOUDNESS = np.float32(0.5)


def descriptor_dim(embedding: Embedding) -> int:
    """F: residual and raw features of the core, residual features of the surroundings."""
    return 3 * embedding.dim


def view_slices(embedding: Embedding) -> list[slice]:
    """Columns of the core and of the surroundings; both count the same however long they are."""
    return [slice(0, 2 * embedding.dim), slice(2 * embedding.dim, 3 * embedding.dim)]


def describe(anomaly: Anomaly, region: OddRegion, bank: MemoryBank) -> Floats:
    """(F,) float32: the features of the region's patches, averaged with their height as weight.

    residual = patch - nearest good patch, the paper's r = f(x) - NN(f(x)).
    """
    raw = anomaly.standardised  # (N, D)
    residual = raw - bank.arrays.vectors[anomaly.nearest_rows]
    core = pooling_weights(anomaly.patch_scores, region, *CORE).ravel()
    surroundings = pooling_weights(anomaly.patch_scores, region, *SURROUNDINGS).ravel()
    return np.concatenate([core @ residual, RAW_LOUDNESS * (core @ raw), surroundings @ residual]).astype(np.float32)


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
