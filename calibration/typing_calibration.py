"""Pseudo-defects -> the centre that descriptors are compared around, and when a region is `unknown`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.backend import Backend
from edge.relation import SupportSet

N_WAY = 5
N_SHOT = 2
EPISODES = 200
# This share of odd regions of an enrolled class may be called unknown.
KNOWN_CALLED_UNKNOWN = 0.01


@dataclass(frozen=True)
class TypingCalibration:
    """centre: (F,). unknown_threshold: relation score under which no class fits."""

    centre: np.ndarray
    unknown_threshold: float


def calibrate_typing(
    descriptors: np.ndarray,
    supports: np.ndarray,
    labels: np.ndarray,
    views: list[slice],
    head: Backend | None,
    seed: int,
) -> TypingCalibration:
    """Pseudo-defects as the device asks about them (P, F), as enrolment keeps them (P, F), and their labels (P,)."""
    centre = descriptors.mean(axis=0)
    episodes = (draw_episode(labels, np.random.default_rng((seed, number))) for number in range(EPISODES))
    own = [best_known_score(descriptors, supports, centre, views, head, *episode) for episode in episodes]
    return TypingCalibration(centre, float(np.quantile(own, KNOWN_CALLED_UNKNOWN)))


def draw_episode(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Rows of N_WAY x N_SHOT supports, (N_WAY, N_SHOT), and the row of one more picture of the first class."""
    classes = rng.choice(np.unique(labels), size=N_WAY, replace=False)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    return np.stack([m[:N_SHOT] for m in members]), int(members[0][N_SHOT])


def best_known_score(
    descriptors: np.ndarray,
    supports: np.ndarray,
    centre: np.ndarray,
    views: list[slice],
    head: Backend | None,
    support_rows: np.ndarray,
    query_row: int,
) -> float:
    """The relation score that a query of an enrolled pseudo-class gets at best."""
    labels = np.repeat(np.arange(len(support_rows)), support_rows.shape[1])
    enrolled = SupportSet.build(supports[support_rows.ravel()], labels, centre, views)
    return float(enrolled.relation_scores(descriptors[query_row : query_row + 1], head).max())
