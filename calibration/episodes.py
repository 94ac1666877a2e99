"""Few-shot episodes: n_way classes, k_shot supports each, and queries to be told apart, prepared as on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge.relation import SupportSet

WAYS = (3, 8)
SHOTS = (1, 5)
QUERIES_PER_CLASS = 4


@dataclass(frozen=True)
class Episode:
    """prototypes: (K, F), one a class. queries: (Q, F), centred likewise. answers: (Q,) index into prototypes."""

    prototypes: np.ndarray
    queries: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class EpisodePool:
    """Regions of one product to draw episodes from.

    descriptors: (S, F) as `describe` gives them. supports: (S, F) the same regions as `describe_support` does.
    labels: (S,) class of each. pseudo_centre: (F,). views: columns.
    """

    descriptors: np.ndarray
    supports: np.ndarray
    labels: np.ndarray
    pseudo_centre: np.ndarray
    views: list[slice]

    def usable_classes(self) -> np.ndarray:
        """Classes with at least a support and a query, ascending."""
        classes, counts = np.unique(self.labels, return_counts=True)
        return np.asarray(classes[counts >= 2])

    def only(self, classes: np.ndarray) -> EpisodePool:
        """The regions of these classes; the centre stays that of the whole product."""
        return self._rows(np.isin(self.labels, classes))

    def split(self, held_out_share: float, seed: int) -> tuple[EpisodePool, EpisodePool]:
        """Regions to train on and regions held out, of every class."""
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self.labels), dtype=bool)
        for label in np.unique(self.labels):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            held_out[rows[: round(held_out_share * len(rows))]] = True
        return self._rows(~held_out), self._rows(held_out)

    def _rows(self, rows: np.ndarray) -> EpisodePool:
        return replace(self, descriptors=self.descriptors[rows], supports=self.supports[rows], labels=self.labels[rows])

    def draw(self, rng: np.random.Generator, ways: tuple[int, int] = WAYS, shots: tuple[int, int] = SHOTS) -> Episode:
        """ways, shots: inclusive bounds, the shots drawn class by class, as classes are enrolled in real life.

        A class keeps one region back as a query, however few it has.
        """
        classes = self.usable_classes()
        n_way = min(int(rng.integers(ways[0], ways[1] + 1)), len(classes))
        supports, queries = [], []
        for label in rng.choice(classes, n_way, replace=False):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            used = min(int(rng.integers(shots[0], shots[1] + 1)), len(rows) - 1)
            supports.append(rows[:used])
            queries.append(rows[used : used + QUERIES_PER_CLASS])
        return self._episode(supports, queries)

    def _episode(self, supports: list[np.ndarray], queries: list[np.ndarray]) -> Episode:
        """Row numbers, one array a class -> Episode."""
        rows = np.concatenate(supports)
        support_set = SupportSet.build(self.supports[rows], _answers(supports), self.pseudo_centre, self.views)
        asked = self.descriptors[np.concatenate(queries)] - support_set.centre
        return Episode(support_set.prototypes, asked, _answers(queries))


def split_classes(classes: np.ndarray, held_out_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers -> those to train on and those held out: no class is in both, at least two are held out."""
    order = np.random.default_rng(seed).permutation(classes)
    held_out = max(2, round(held_out_share * len(order)))
    return order[held_out:], order[:held_out]


def _answers(rows_of_class: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(rows_of_class)), [len(rows) for rows in rows_of_class])
