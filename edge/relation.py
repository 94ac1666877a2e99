"""Which enrolled class is an odd region of? Relation scores against prototypes, or `unknown`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.backend import Backend
from edge.class_store import ClassStore
from edge.descriptor import compare_ready, scale_views, unit_views, view_lengths
from edge.result import Classification

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SHORTEST = 1e-9  # no logarithm of zero


@dataclass(frozen=True)
class SupportSet:
    """Supports of K classes made ready for comparison.

    prototypes: (K, F) around centre (F,); each view points where the class's supports point on average and is as long
    as they are, in the geometric mean. means: (K, F) of the supports' unit views: the shorter, the less they agree.
    """

    prototypes: Floats
    means: Floats
    centre: Floats
    views: list[slice]

    @classmethod
    def build(cls, descriptors: Floats, labels: Ints, pseudo_centre: Floats, views: list[slice]) -> SupportSet:
        """descriptors (S, F), labels (S,) in 0..K-1, every class at least once.

        What odd regions share is no evidence, so descriptors are centred on the mean of the classes, where the
        product's pseudo-defects count as one class more.
        """
        classes = range(int(labels.max()) + 1)
        class_means = [descriptors[labels == k].mean(axis=0) for k in classes]
        centre = np.asarray(np.stack([*class_means, pseudo_centre]).mean(axis=0), dtype=np.float32)
        directions = compare_ready(descriptors, centre, views)
        log_lengths = np.log(np.maximum(view_lengths(descriptors - centre, views), SHORTEST))
        means = np.stack([directions[labels == k].mean(axis=0) for k in classes])
        lengths = np.exp(np.stack([log_lengths[labels == k].mean(axis=0) for k in classes]))
        factors = np.asarray(lengths / np.maximum(view_lengths(means, views), SHORTEST), dtype=np.float32)
        return cls(scale_views(means, factors, views), means, centre, views)

    def relation_scores(self, descriptors: Floats, head: Backend | None) -> Floats:
        """(Q, F) descriptors -> (Q, K) relation scores in 0..1."""
        return relation_scores(descriptors - self.centre, self.prototypes, self.views, head)

    def familiarity(self, descriptors: Floats) -> Floats:
        """(Q, F) -> (Q,) in 0..1: 1 less a quarter of the squared distance to the nearest class mean.

        Relation scores say which class fits best, not whether any does: a class whose supports disagree has a mean
        near the centre, which is near to everything in direction and to nothing in place.
        """
        ready = compare_ready(descriptors, self.centre, self.views)  # length 1, or 0
        squared = (
            np.square(ready).sum(axis=1)[:, np.newaxis] - 2 * ready @ self.means.T + np.square(self.means).sum(axis=1)
        )
        return np.asarray(1 - squared.min(axis=1) / 4, dtype=np.float32)


class RelationClassifier:
    """Names odd regions by the enrolled classes of a store.

    pseudo_centre: (F,) mean descriptor of the product's pseudo-defects. head: optional relation head graph.
    unknown_threshold: from pseudo-defects, which are more alike than real ones often are; it is lowered until no
    enrolled picture would be unknown to the others.
    """

    def __init__(
        self,
        store: ClassStore,
        pseudo_centre: Floats,
        views: list[slice],
        unknown_threshold: float,
        head: Backend | None = None,
    ) -> None:
        self.names = store.names
        self._head = head
        self._supports: SupportSet | None = None
        self.unknown_threshold = unknown_threshold
        if self.names:
            self._supports = SupportSet.build(store.descriptors, store.labels, pseudo_centre, views)
            left_out = left_out_familiarity(store.descriptors, store.labels, pseudo_centre, views)
            self.unknown_threshold = min([unknown_threshold, *left_out])

    def rank(self, descriptor: Floats) -> tuple[Classification, ...]:
        """(F,) -> every enrolled class with its relation score in 0..1, best first; empty if none is enrolled."""
        if not self.names:
            return ()
        scores = self.relation_scores(descriptor[np.newaxis])[0]
        order = np.argsort(-scores, kind="stable")
        return tuple(Classification(self.names[k], float(scores[k])) for k in order)

    def relation_scores(self, descriptors: Floats) -> Floats:
        """(Q, F) -> (Q, K) in 0..1, classes in the order of `names`."""
        if self._supports is None:
            return np.zeros((len(descriptors), 0), dtype=np.float32)
        return self._supports.relation_scores(descriptors, self._head)

    def familiarity(self, descriptors: Floats) -> Floats:
        """(Q, F) -> (Q,) in 0..1, see `SupportSet.familiarity`; 1 when no class is enrolled."""
        if self._supports is None:
            return np.ones(len(descriptors), dtype=np.float32)
        return self._supports.familiarity(descriptors)

    def is_unknown(self, descriptor: Floats) -> bool:
        """(F,) is like nothing that was enrolled (NaN is like nothing); never when no class is."""
        if self._supports is None:
            return False
        return not float(self.familiarity(descriptor[np.newaxis])[0]) >= self.unknown_threshold


def left_out_familiarity(descriptors: Floats, labels: Ints, pseudo_centre: Floats, views: list[slice]) -> list[float]:
    """How familiar each support (S, F) is to the others; of classes of two or more."""
    found = []
    for row in range(len(labels)):
        rest = np.arange(len(labels)) != row
        if labels[row] in labels[rest]:
            others = SupportSet.build(descriptors[rest], labels[rest], pseudo_centre, views)
            found.append(float(others.familiarity(descriptors[row : row + 1])[0]))
    return found


def relation_scores(queries: Floats, prototypes: Floats, views: list[slice], head: Backend | None) -> Floats:
    """(Q, F), (K, F), both centred -> (Q, K) in 0..1: the head's, or without one the mean cosine of the views."""
    if head is not None:
        return head.run({"queries": np.ascontiguousarray(queries, np.float32), "prototypes": prototypes})
    cosine = unit_views(queries, views) @ unit_views(prototypes, views).T
    return np.asarray(np.clip((1 + cosine) / 2, 0, 1), dtype=np.float32)
