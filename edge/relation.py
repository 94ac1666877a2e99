"""Which enrolled class is an odd region of? Relation scores against prototypes, or `unknown`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.backend import Backend
from edge.class_store import ClassStore
from edge.descriptor import compare_ready
from edge.result import Classification

Floats = npt.NDArray[np.float32]


class RelationClassifier:
    """Compares a query region with the prototypes of the enrolled classes.

    centre: (F,) mean descriptor of the product's pseudo-defects; what every odd region shares is not evidence.
    head: optional relation head graph; its relation scores are averaged with those of the cosine.
    """

    def __init__(
        self,
        store: ClassStore,
        centre: Floats,
        views: list[slice],
        unknown_threshold: float,
        head: Backend | None = None,
    ) -> None:
        self.names = store.names
        self.unknown_threshold = unknown_threshold
        self._centre, self._views, self._head = centre, views, head
        supports = compare_ready(store.descriptors, centre, views)
        labels = store.labels
        means = [supports[labels == k].mean(axis=0) for k in range(len(self.names))]
        self.prototypes = np.stack(means) if means else supports  # (K, F)

    def rank(self, descriptor: Floats) -> tuple[Classification, ...]:
        """(F,) -> every enrolled class with its relation score in 0..1, best first; empty if none is enrolled."""
        if not self.names:
            return ()
        scores = self.relation_scores(descriptor[np.newaxis])[0]
        order = np.argsort(-scores, kind="stable")
        return tuple(Classification(self.names[k], float(scores[k])) for k in order)

    def is_unknown(self, ranking: tuple[Classification, ...]) -> bool:
        """No enrolled class fits well enough (a score that is NaN fits nothing)."""
        return bool(ranking) and not ranking[0].relation_score >= self.unknown_threshold

    def relation_scores(self, descriptors: Floats) -> Floats:
        """(Q, F) -> (Q, K) in 0..1."""
        queries = compare_ready(descriptors, self._centre, self._views)
        return relation_scores(queries, self.prototypes, self._head)


def relation_scores(queries: Floats, prototypes: Floats, head: Backend | None) -> Floats:
    """(Q, F), (K, F), both from `compare_ready` -> (Q, K) in 0..1: cosine to the prototype, averaged with the head."""
    cosine = (1 + _cosines(queries, prototypes)) / 2
    if head is None:
        return cosine
    learned = np.concatenate([head.run({"query": q[np.newaxis], "prototypes": prototypes}) for q in queries])
    return np.asarray((cosine + learned.reshape(cosine.shape)) / 2, dtype=np.float32)


def _cosines(queries: Floats, prototypes: Floats) -> Floats:
    lengths = np.linalg.norm(queries, axis=1)[:, np.newaxis] * np.linalg.norm(prototypes, axis=1)
    return np.asarray(np.clip(queries @ prototypes.T / np.maximum(lengths, 1e-9), -1, 1), dtype=np.float32)
