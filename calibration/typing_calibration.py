"""Pseudo-defects -> the centre that descriptors are compared around, and when a region is `unknown`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.relation import SupportSet

N_WAY = 5
N_SHOT = 2
EPISODES = 200
# This share of odd regions of an enrolled class may be called unknown.
KNOWN_CALLED_UNKNOWN = 0.01


@dataclass(frozen=True)
class TypingCalibration:
    """centre: (F,). unknown_threshold, unknown_threshold_one_shot: familiarity under which no class
    fits, with two supports or more a class, and where a class has only one.
    """

    centre: np.ndarray
    unknown_threshold: float
    unknown_threshold_one_shot: float


def calibrate_typing(
    descriptors: np.ndarray,
    supports: np.ndarray,
    labels: np.ndarray,
    views: list[slice],
    seed: int,
) -> TypingCalibration:
    """Pseudo-defects as the device asks about them (P, F), as enrolment keeps them (P, F), and their labels (P,)."""
    centre = descriptors.mean(axis=0)
    episodes = [draw_episode(labels, np.random.default_rng((seed, number))) for number in range(EPISODES)]
    thresholds = []
    for n_shot in (N_SHOT, 1):
        own = [known_familiarity(descriptors, supports, centre, views, rows[:, :n_shot], q) for rows, q in episodes]
        thresholds.append(float(np.quantile(own, KNOWN_CALLED_UNKNOWN)))
    return TypingCalibration(centre, *thresholds)


def draw_episode(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Rows of N_WAY x N_SHOT supports, (N_WAY, N_SHOT), and the row of one more picture of the first class."""
    classes = rng.choice(np.unique(labels), size=N_WAY, replace=False)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    return np.stack([m[:N_SHOT] for m in members]), int(members[0][N_SHOT])


def known_familiarity(
    descriptors: np.ndarray,
    supports: np.ndarray,
    centre: np.ndarray,
    views: list[slice],
    support_rows: np.ndarray,
    query_row: int,
) -> float:
    """How familiar a query of an enrolled pseudo-class is."""
    labels = np.repeat(np.arange(len(support_rows)), support_rows.shape[1])
    enrolled = SupportSet.build(supports[support_rows.ravel()], labels, centre, views)
    return float(enrolled.familiarity(descriptors[query_row : query_row + 1])[0])
