"""The device's typing and its rivals, side by side: supports and queries in, relation scores out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from calibration.descriptors import Descriptors
from calibration.support_draws import Bools, Ints
from edge.class_store import ClassStore, Support
from edge.descriptor import compare_ready, unit_views, view_slices
from edge.inspector import Inspector
from edge.relation import RelationClassifier

Floats = npt.NDArray[np.float32]
# (S, F) supports, (S,) labels in 0..K-1, (Q, F) queries -> (Q, K), the larger the better the class fits
ScoringRule = Callable[[Floats, Ints, Floats], Floats]

RIDGE_STRENGTH = 1.0  # as much as one support of unit length weighs
MIN_SHRINKAGE = 1e-3  # supports that vary along one line only would leave every other direction infinitely far


@dataclass(frozen=True)
class Typed:
    """scores: (Q, K). confidence: (Q,), the lower the more likely the region is of no enrolled class.

    unknown: (Q,) called so, None from a head that has no threshold and always names a class.
    """

    scores: Floats
    confidence: Floats
    unknown: Bools | None


class TypingHead(Protocol):
    """One way to name regions.

    sees_region: whether a better region could change its answer. says_unknown: whether it has a threshold for it.
    is_quick: whether a choice of supports takes milliseconds, so that it can be asked once more per type.
    """

    name: str
    sees_region: bool
    says_unknown: bool
    is_quick: bool

    def type_queries(self, descriptors: Descriptors, supports: Ints, labels: Ints, queries: Ints) -> Typed:
        """descriptors of all pictures; rows of supports (S,), labels in 0..K-1 in rising order, and queries (Q,)."""


class DeviceHead:
    """What the device does with this bundle, its calibrated `unknown` included.

    looks_once: supports are looked at as queries are, which shows what the other looks give.
    """

    sees_region = says_unknown = is_quick = True

    def __init__(self, name: str, inspector: Inspector, looks_once: bool = False) -> None:
        self.name, self._inspector, self._looks_once = name, inspector, looks_once

    def type_queries(self, descriptors: Descriptors, supports: Ints, labels: Ints, queries: Ints) -> Typed:
        """As enrolled on the device."""
        enrolled = tuple(Support(f"{label}", "", "", (0, 0, 1, 1), 0.0, "") for label in labels)
        kept = descriptors.queries if self._looks_once else descriptors.supports
        store = ClassStore(self._inspector.manifest.bundle_id, enrolled, kept[supports])
        return type_as_device(self._inspector.classifier_for(store), descriptors.queries[queries])


class BaselineHead:
    """A scoring rule on regions looked at once; without a threshold, so it always names one of the enrolled classes."""

    sees_region, says_unknown, is_quick = True, False, True

    def __init__(self, name: str, rule: ScoringRule) -> None:
        self.name, self._rule = name, rule

    def type_queries(self, descriptors: Descriptors, supports: Ints, labels: Ints, queries: Ints) -> Typed:
        """The rule on these descriptors."""
        once = descriptors.queries
        return always_known(self._rule(once[supports], labels, once[queries]))


def type_as_device(classifier: RelationClassifier, descriptors: Floats) -> Typed:
    """(Q, F) -> Typed. The one place that knows what the device's confidence is: its familiarity."""
    scores = classifier.relation_scores(descriptors)
    confidence = classifier.familiarity(descriptors)
    return Typed(scores, confidence, ~(confidence >= classifier.unknown_threshold))


def always_known(scores: Floats) -> Typed:
    """(Q, K) scores without a threshold: the best one is the confidence."""
    return Typed(scores, scores.max(axis=1), None)


@dataclass(frozen=True)
class FeatureSpace:
    """Descriptors as the device compares them. pseudo_centre: (F,). views: columns that count the same."""

    pseudo_centre: Floats
    views: list[slice]

    @classmethod
    def of(cls, inspector: Inspector) -> FeatureSpace:
        """That of a bundle."""
        return cls(
            inspector.centre, view_slices(inspector.manifest.embedding, inspector.manifest.second_look.embedding)
        )

    def rule(self, score: ScoringRule) -> ScoringRule:
        """`score` on descriptors centred on the classes (pseudo-defects as one more), with unit views."""

        def on_ready(supports: Floats, labels: Ints, queries: Floats) -> Floats:
            centre = np.concatenate([class_means(supports, labels), self.pseudo_centre[np.newaxis]]).mean(axis=0)
            ready_supports = compare_ready(supports, centre, self.views)
            return score(ready_supports, labels, compare_ready(queries, centre, self.views))

        return on_ready

    def view_scores(self, supports: Floats, labels: Ints, queries: Floats) -> Floats:
        """Mean cosine of the views to each class's prototype, on ready descriptors: 0..1."""
        prototypes = unit_views(class_means(supports, labels), self.views)
        return np.asarray((1 + queries @ prototypes.T) / 2, dtype=np.float32)


def cosine_scores(supports: Floats, labels: Ints, queries: Floats) -> Floats:
    """Cosine between whole vectors and each class's mean, 0..1."""
    prototypes = class_means(supports, labels)
    return np.asarray((1 + _unit(queries) @ _unit(prototypes).T) / 2, dtype=np.float32)


def ridge_scores(supports: Floats, labels: Ints, queries: Floats) -> Floats:
    """Ridge regression to one-hot labels without intercept, in closed form over the S supports."""
    gram = supports @ supports.T + RIDGE_STRENGTH * np.eye(len(supports), dtype=np.float32)
    weights = np.linalg.solve(gram, np.eye(int(labels.max()) + 1, dtype=np.float32)[labels])  # (S, K)
    return np.asarray(queries @ supports.T @ weights, dtype=np.float32)


def lda_scores(supports: Floats, labels: Ints, queries: Floats) -> Floats:
    """Minus half the squared Mahalanobis distance to each class's mean, covariance shrunk after Ledoit and Wolf.

    With one support a class nothing varies within a class: the distance is Euclidean.
    """
    means = class_means(supports, labels)
    within = supports - means[labels]
    gaps = (queries[:, np.newaxis] - means).reshape(-1, supports.shape[1])  # (Q K, F)
    squared = mahalanobis_squared(gaps, within).reshape(len(queries), len(means))
    return np.asarray(-squared / 2, dtype=np.float32)


def mahalanobis_squared(gaps: Floats, deviations: Floats) -> npt.NDArray[np.float64]:
    """gaps (G, F), deviations (S, F) around 0 -> (G,), by Woodbury: only S x S is inverted."""
    count = len(deviations)
    level = float(np.square(deviations, dtype=np.float64).mean())  # mean variance of a feature
    lengths = np.square(gaps, dtype=np.float64).sum(axis=1)
    if not level > 0:
        return np.asarray(lengths)
    share = max(ledoit_wolf_shrinkage(deviations), MIN_SHRINKAGE)
    floor = share * level  # covariance = floor * I + (1 - share) / S * deviations' deviations
    if share >= 1:
        return np.asarray(lengths / floor)
    gram = (deviations @ deviations.T).astype(np.float64)
    along = (gaps @ deviations.T).astype(np.float64)  # (G, S)
    inner = np.linalg.solve(np.eye(count) * floor * count / (1 - share) + gram, along.T)  # (S, G)
    return np.asarray((lengths - (along * inner.T).sum(axis=1)) / floor)


def ledoit_wolf_shrinkage(deviations: Floats) -> float:
    """(S, F) around 0 -> how much of the covariance to replace by its mean variance, 0..1 (Ledoit and Wolf 2004)."""
    S, F = deviations.shape
    gram = (deviations @ deviations.T).astype(np.float64)
    mean_variance = np.trace(gram) / (S * F)
    squared_norm = np.square(gram).sum() / S**2  # of the covariance
    spread = squared_norm - F * mean_variance**2
    noise = (np.square(np.diag(gram)).sum() / S - squared_norm) / S
    return float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0


def class_means(vectors: Floats, labels: Ints) -> Floats:
    """(S, F), labels in 0..K-1 -> (K, F)."""
    return np.stack([vectors[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)
