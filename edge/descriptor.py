"""An odd region as one vector: what it looks like, and how it differs from the nearest good patches."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly
from edge.manifest import Embedding
from edge.memory_bank import MemoryBank
from edge.regions import OddRegion

Floats = npt.NDArray[np.float32]

DESCRIPTOR_NAME = "pooled-views-1"
# Patches count from this fraction of the region's peak upwards: the core alone, and with its surroundings.
POOLING_FRACTIONS = (0.9, 0.6)


def descriptor_dim(embedding: Embedding) -> int:
    """F: raw and residual features, pooled once per width."""
    return 2 * len(POOLING_FRACTIONS) * embedding.dim


def view_slices(embedding: Embedding) -> list[slice]:
    """Columns of each view in a descriptor: per pooling width, raw then residual, one view a tap."""
    starts = np.cumsum([0] + [tap.channels for tap in embedding.taps] * 2 * len(POOLING_FRACTIONS))
    return [slice(int(a), int(b)) for a, b in pairwise(starts)]


def describe(anomaly: Anomaly, region: OddRegion, bank: MemoryBank) -> Floats:
    """(F,) float32: features of the region's patches, weighted by how far over the cut-off each one is.

    residual = patch - nearest good patch, the paper's residual feature r = f(x) - NN(f(x)).
    """
    residual = anomaly.standardised - bank.arrays.vectors[anomaly.nearest_rows]  # (N, D)
    pooled = []
    for fraction in POOLING_FRACTIONS:
        weights = pooling_weights(anomaly.patch_scores, region, fraction).ravel()
        pooled += [weights @ anomaly.standardised, weights @ residual]
    return np.concatenate(pooled).astype(np.float32)


def pooling_weights(patch_scores: Floats, region: OddRegion, fraction: float) -> Floats:
    """(h, w) weights that sum to 1, on the region's patches over `fraction` of its peak's height over the median."""
    size_wh = (patch_scores.shape[1], patch_scores.shape[0])
    cover = cv2.resize(region.mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    base, peak = float(np.median(patch_scores)), float(patch_scores[cover > 0].max())
    weights = np.maximum(patch_scores - (base + fraction * (peak - base)), 0) * cover
    total = float(weights.sum())
    if not total > 0:  # a box on a flat map: every patch of it counts the same
        weights, total = cover, float(cover.sum())
    return np.asarray(weights / total, dtype=np.float32)


def compare_ready(descriptors: Floats, centre: Floats, views: list[slice]) -> Floats:
    """(S, F) -> (S, F) centred, each view of length 1 / sqrt(views): a dot product is the mean cosine of the views."""
    centred = descriptors - centre
    ready = np.empty_like(centred)
    for view in views:
        length = np.linalg.norm(centred[:, view], axis=1, keepdims=True)
        ready[:, view] = centred[:, view] / np.maximum(length, 1e-9)
    return np.asarray(ready / np.sqrt(len(views)), dtype=np.float32)
