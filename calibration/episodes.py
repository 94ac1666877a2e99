"""Few-shot episodes: n_way classes, k_shot supports each, and queries to be told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WAYS = (3, 8)
SHOTS = (1, 5)
QUERIES_PER_CLASS = 4


@dataclass(frozen=True)
class Episode:
    """prototypes: (K, F) mean of each class's supports. queries: (Q, F). answers: (Q,) index into the prototypes."""

    prototypes: np.ndarray
    queries: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class EpisodePool:
    """Regions to draw episodes from. regions: (S, F) as `compare_ready` gives them; labels: (S,) class of each."""

    regions: np.ndarray
    labels: np.ndarray

    def usable_classes(self) -> np.ndarray:
        """Classes with at least a support and a query, ascending."""
        classes, counts = np.unique(self.labels, return_counts=True)
        return np.asarray(classes[counts >= 2])

    def only(self, classes: np.ndarray) -> EpisodePool:
        """The regions of these classes."""
        rows = np.isin(self.labels, classes)
        return EpisodePool(self.regions[rows], self.labels[rows])

    def draw(self, rng: np.random.Generator, ways: tuple[int, int] = WAYS, shots: tuple[int, int] = SHOTS) -> Episode:
        """ways, shots: inclusive bounds. A class keeps one region back as a query, however few it has."""
        classes = self.usable_classes()
        n_way = min(int(rng.integers(ways[0], ways[1] + 1)), len(classes))
        k_shot = int(rng.integers(shots[0], shots[1] + 1))
        prototypes, queries, answers = [], [], []
        for answer, label in enumerate(rng.choice(classes, n_way, replace=False)):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            supports = min(k_shot, len(rows) - 1)
            asked = rows[supports : supports + QUERIES_PER_CLASS]
            prototypes.append(self.regions[rows[:supports]].mean(axis=0))
            queries.append(self.regions[asked])
            answers += [answer] * len(asked)
        return Episode(np.stack(prototypes), np.concatenate(queries), np.array(answers))


def split_classes(classes: np.ndarray, held_out_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers -> those to train on and those held out: no class is in both, at least two are held out."""
    order = np.random.default_rng(seed).permutation(classes)
    held_out = max(2, round(held_out_share * len(order)))
    return order[held_out:], order[:held_out]
