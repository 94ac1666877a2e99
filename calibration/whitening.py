"""What regions of good parts vary in -> the matrices that make descriptors deaf to it."""

from __future__ import annotations

import numpy as np

from edge.descriptor import Whitening
from edge.memory_bank import standardise

# In mean eigenvalues of the covariance: directions that vary less than this are left as they are. A few hundred
# regions are fewer than there are directions, and a direction that good parts never showed may still be evidence.
SHRINKAGE = 3.0
MIN_STD = 1e-6


def fit_whitening(core: np.ndarray, look: np.ndarray) -> Whitening:
    """Views of n regions laid on good pictures, core (n, 2 D) and second look (n, D'), backbone units of the latter."""
    mean, std = look.mean(axis=0), np.maximum(look.std(axis=0), MIN_STD)
    standard = standardise(look, mean, std)
    return Whitening(mean.astype(np.float32), std.astype(np.float32), whitener(core), whitener(standard))


def whitener(samples: np.ndarray) -> np.ndarray:
    """(n, F) -> (F, F) float32, (C + SHRINKAGE * mean eigenvalue * I)^-1/2 of their covariance C; I if C is zero."""
    centred = samples.astype(np.float64) - samples.mean(axis=0)
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(samples))
    eigenvalues = np.maximum(eigenvalues, 0)
    mean = float(eigenvalues.mean())
    if not mean > 0:
        return np.eye(samples.shape[1], dtype=np.float32)
    # Relative to the mean, so that the scale of a view stays near 1 whatever its units.
    scale = 1 / np.sqrt(eigenvalues / mean + SHRINKAGE)
    return np.asarray((vectors * scale) @ vectors.T, dtype=np.float32)
