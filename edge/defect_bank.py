"""The defect bank: patches of defects that had been passed as good, so that the next one is not.

The memory bank can only say how far a patch is from anything good. A defect that lies near good patches is passed,
again and again, until somebody shows it. Its patches are then kept, and a patch that is nearer to one of them than to
anything good has its score raised. Nothing is ever lowered, and without taught defects nothing is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.anomaly import Anomaly, enlarge, mean_of_top_fraction
from edge.descriptor import pooling_weights
from edge.errors import BundleError
from edge.manifest import ScoreFacts, ThresholdFacts
from edge.memory_bank import MemoryBank
from edge.regions import OddRegion

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A patch is raised only nearer to a taught one than this share of its distance to the nearest good row, and of the
# taught one's; at FULL_RATIO of that it has risen in full.
REACH, FULL_RATIO = 0.9, 0.6
# A patch below this share of the pixel threshold is what good parts show too; teaching it would reject them.
MIN_ODDNESS = 0.25
# The taught picture ends this far over the threshold, as a share of it.
MARGIN = 0.1
# What a patch may be raised by, in pixel thresholds. The least lifts even a single patch, thinned by its neighbours
# when the map is drawn, over the pixel threshold; beyond the most, one patch alone would decide about a part.
MIN_LIFT, MAX_LIFT = 1.25, 4.0
MAX_PATCHES = 32  # per region, the oddest


@dataclass(frozen=True)
class TaughtPatches:
    """Patches of taught defects.

    vectors: (T, d) in the units that the memory bank searches. reach: (T,) L2 distance to the nearest good row; a patch
    must be nearer than REACH of it to be raised. lift: (T,) what the score of the very patch rises by. support:
    (T,) row of the support that it belongs to.
    """

    vectors: Floats
    reach: Floats
    lift: Floats
    support: Ints

    @classmethod
    def none(cls) -> TaughtPatches:
        """Nothing taught."""
        nothing = np.zeros(0, dtype=np.float32)
        return cls(np.zeros((0, 0), dtype=np.float32), nothing, nothing, np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.vectors)

    def __add__(self, other: TaughtPatches) -> TaughtPatches:
        """Both, in order."""
        if not len(self) or not len(other):
            return other if len(other) else self
        names = self.__dataclass_fields__
        return TaughtPatches(**{n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in names})

    def of_support(self, row: int) -> TaughtPatches:
        """The same patches, belonging to support `row`."""
        return replace(self, support=np.full(len(self), row, dtype=np.int64))

    def keeping(self, rows: list[int]) -> TaughtPatches:
        """Patches of the supports `rows` only, numbered by their place in `rows`."""
        place = {row: number for number, row in enumerate(rows)}
        kept = np.array([row in place for row in self.support.tolist()], dtype=np.bool_)
        if not kept.any():
            return self.none()
        numbers = np.array([place[row] for row in self.support[kept].tolist()], dtype=np.int64)
        return TaughtPatches(self.vectors[kept], self.reach[kept], self.lift[kept], numbers)

    def check(self, supports: int) -> None:
        """ValueError when the arrays do not fit together or could lower a score."""
        count = len(self)
        fits = self.vectors.ndim == 2 and self.reach.shape == self.lift.shape == self.support.shape == (count,)
        if not fits or not np.isfinite(self.vectors).all() or not (self.reach > 0).all() or not (self.lift >= 0).all():
            raise ValueError(f"taught patches {self.vectors.shape} do not fit together")
        if count and not (self.support.min() >= 0 and self.support.max() < supports):
            raise ValueError(f"taught patches of {int(self.support.max()) + 1} supports, there are {supports}")


def raise_scores(anomaly: Anomaly, taught: TaughtPatches, bank: MemoryBank, score: ScoreFacts) -> Anomaly:
    """The same picture, patches near taught defects scored higher; `anomaly` itself when nothing is taught."""
    if not len(taught):
        return anomaly
    queries = bank.search.keys(anomaly.standardised)
    if taught.vectors.shape[1] != queries.shape[1]:
        raise BundleError(
            f"taught patches have {taught.vectors.shape[1]} features, this bundle searches {queries.shape[1]}; "
            "move classes.npz away and enrol again"
        )
    raised = (_strength(queries, anomaly.distances, taught) * taught.lift).max(axis=1)
    patch_scores = np.asarray(anomaly.patch_scores + raised.reshape(anomaly.patch_scores.shape), dtype=np.float32)
    return replace(
        anomaly,
        patch_scores=patch_scores,
        anomaly_map=enlarge(patch_scores),
        anomaly_score=mean_of_top_fraction(patch_scores, score.top_fraction),
    )


def teach(
    anomaly: Anomaly, region: OddRegion, bank: MemoryBank, score: ScoreFacts, thresholds: ThresholdFacts
) -> TaughtPatches | None:
    """What to keep of `region`, so that a part that looks like it is rejected; None when that cannot work.

    anomaly: of the picture, before any teaching. It cannot work where the region's patches are as good parts show
    them, or so few of them are not that they would have to decide alone.
    """
    weights = pooling_weights(anomaly.patch_scores, region).ravel()
    flat = anomaly.patch_scores.ravel()
    odd = (weights > 0) & (flat >= MIN_ODDNESS * thresholds.pixel_threshold) & (anomaly.distances > 0)
    chosen = np.flatnonzero(odd)
    chosen = chosen[np.argsort(-weights[chosen], kind="stable")][:MAX_PATCHES]
    if not len(chosen):
        return None
    lift = max(MIN_LIFT * thresholds.pixel_threshold, _lift_to_reject(anomaly, len(chosen), score, thresholds))
    if lift > MAX_LIFT * thresholds.pixel_threshold:
        return None
    taught = TaughtPatches(
        vectors=bank.search.keys(anomaly.standardised)[chosen],
        reach=np.asarray(anomaly.distances[chosen], dtype=np.float32),
        lift=np.full(len(chosen), lift, dtype=np.float32),
        support=np.zeros(len(chosen), dtype=np.int64),
    )
    raised = raise_scores(anomaly, taught, bank, score)
    return taught if raised.anomaly_score > thresholds.image_threshold else None


def _lift_to_reject(anomaly: Anomaly, patches: int, score: ScoreFacts, thresholds: ThresholdFacts) -> float:
    """What so many patches must rise by for the mean of the strangest to end MARGIN over the threshold."""
    counted = max(1, round(score.top_fraction * anomaly.patch_scores.size))
    wanted = thresholds.image_threshold + MARGIN * abs(thresholds.image_threshold)
    return (wanted - anomaly.anomaly_score) * counted / min(patches, counted)


def _strength(queries: Floats, distances: Floats, taught: TaughtPatches) -> Floats:
    """(N, d), (N,) to the nearest good row -> (N, T) in 0..1: 0 where anything good is nearer; NaN stays NaN."""
    squares = np.einsum("nd,nd->n", queries, queries)[:, np.newaxis]
    squares = squares + np.einsum("td,td->t", taught.vectors, taught.vectors) - 2 * queries @ taught.vectors.T
    limit = REACH * np.maximum(np.minimum(distances[:, np.newaxis], taught.reach), np.float32(1e-6))
    ratio = np.sqrt(np.maximum(squares, 0)) / limit
    return np.asarray(np.clip((1 - ratio) / (1 - FULL_RATIO), 0, 1), dtype=np.float32)
