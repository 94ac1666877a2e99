"""Pseudo-defects -> the centre that descriptors are compared around, and when a region is `unknown`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.backend import Backend
from edge.descriptor import compare_ready
from edge.relation import relation_scores

N_WAY = 5
N_SHOT = 2
EPISODES = 200
# This share of odd regions of an enrolled class may be called unknown.
KNOWN_CALLED_UNKNOWN = 0.05


@dataclass(frozen=True)
class TypingCalibration:
    """centre: (F,). unknown_threshold: relation score under which no class fits."""

    centre: np.ndarray
    unknown_threshold: float


def calibrate_typing(
    descriptors: np.ndarray, labels: np.ndarray, views: list[slice], head: Backend | None, seed: int
) -> TypingCalibration:
    """descriptors (P, F), labels (P,) of pseudo-defects -> TypingCalibration."""
    centre = descriptors.mean(axis=0)
    ready = compare_ready(descriptors, centre, views)
    own = [best_known_score(ready, labels, head, np.random.default_rng((seed, e))) for e in range(EPISODES)]
    return TypingCalibration(centre, float(np.quantile(own, KNOWN_CALLED_UNKNOWN)))


def best_known_score(ready: np.ndarray, labels: np.ndarray, head: Backend | None, rng: np.random.Generator) -> float:
    """One episode: the relation score a query of an enrolled pseudo-class gets at best, N_WAY classes of N_SHOT."""
    classes = rng.choice(np.unique(labels), size=N_WAY, replace=False)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    prototypes = np.stack([ready[m[:N_SHOT]].mean(axis=0) for m in members])
    query = ready[members[0][N_SHOT]][np.newaxis]
    return float(relation_scores(query, prototypes, head).max())
