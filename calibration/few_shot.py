"""How well a few supports name the rest: random draws, each typed exactly as the device would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from calibration.confusion import PASSED, ConfusionMatrix
from calibration.dataset import GOOD
from calibration.metrics import rejected
from calibration.scored_pictures import ScoredPictures
from edge.class_store import ClassStore
from edge.inspector import Inspector
from edge.relation import RelationClassifier
from edge.result import UNKNOWN

FIGURES = ("typing", "inspection", "whole", "unknown")


@dataclass(frozen=True)
class Draw:
    """One random choice of supports; everything else is a query. Shares are 0..1.

    typing: defects whose strongest region is named right, rejected or not. inspection: defects that are rejected
    and named right. whole: the same, and good parts that pass, of all parts. unknown: defects rejected as `unknown`.
    """

    seed: int
    typing: float
    inspection: float
    whole: float
    unknown: float


@dataclass(frozen=True)
class ShotResult:
    """All draws at one number of supports per class. kinds_left_out: too few pictures for a support and a query."""

    n_shot: int
    n_way: int
    kinds_left_out: tuple[str, ...]
    draws: tuple[Draw, ...]
    typing_confusion: ConfusionMatrix
    inspection_confusion: ConfusionMatrix

    def mean_and_spread(self, figure: str) -> tuple[float, float]:
        """Mean and standard deviation over the draws of one figure of `Draw`, both 0..1."""
        values = np.array([getattr(draw, figure) for draw in self.draws])
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


class FewShotTrial:
    """Draws supports from scored pictures and types the rest with the inspector's own classifier, head and all."""

    def __init__(self, inspector: Inspector, pictures: ScoredPictures) -> None:
        self._inspector, self._pictures = inspector, pictures
        self._rejected = rejected(pictures.scores, inspector.image_threshold)

    @cached_property
    def _rows_of(self) -> dict[str, npt.NDArray[np.int64]]:
        kinds = self._pictures.kinds
        return {str(kind): np.flatnonzero(kinds == kind) for kind in np.unique(kinds[self._pictures.is_defect])}

    def run(self, n_shot: int, seeds: Sequence[int]) -> ShotResult | None:
        """Type with `n_shot` supports a class, once per seed; None when fewer than two classes have the pictures."""
        ways = [kind for kind, rows in self._rows_of.items() if len(rows) > n_shot]
        if len(ways) < 2:
            return None
        typing = ConfusionMatrix.empty(ways, ways)
        inspection = ConfusionMatrix.empty([*ways, GOOD], [*ways, UNKNOWN, PASSED])
        draws = tuple(self._draw(n_shot, seed, ways, typing, inspection) for seed in seeds)
        left_out = tuple(kind for kind in self._rows_of if kind not in ways)
        return ShotResult(n_shot, len(ways), left_out, draws, typing, inspection)

    def _draw(
        self, n_shot: int, seed: int, ways: list[str], typing: ConfusionMatrix, inspection: ConfusionMatrix
    ) -> Draw:
        rng = np.random.default_rng(seed)  # a larger n_shot keeps the supports of a smaller one
        order = {kind: rng.permutation(self._rows_of[kind]) for kind in ways}
        supports = np.concatenate([order[kind][:n_shot] for kind in ways])
        queries = np.concatenate([order[kind][n_shot:] for kind in ways])
        goods = np.flatnonzero(self._pictures.kinds == GOOD)
        rows = np.concatenate([queries, goods])
        best, named = self._type(self._classifier(supports), rows)
        verdicts = np.where(self._rejected[rows], named, PASSED)
        truths, of_defect = self._pictures.kinds[rows], np.arange(len(rows)) < len(queries)
        typing.count(truths[of_defect], best[of_defect])
        inspection.count(truths, verdicts)
        right = np.where(of_defect, verdicts == truths, verdicts == PASSED)
        return Draw(
            seed=seed,
            typing=float((best == truths)[of_defect].mean()),
            inspection=float(right[of_defect].mean()),
            whole=float(right.mean()),
            unknown=float((verdicts == UNKNOWN)[of_defect].mean()),
        )

    def _classifier(self, supports: npt.NDArray[np.int64]) -> RelationClassifier:
        descriptors = self._pictures.descriptors[supports]
        bundle_id = self._inspector.manifest.bundle_id
        return self._inspector.classifier_for(ClassStore(bundle_id, self._pictures.supports(supports), descriptors))

    def _type(
        self, classifier: RelationClassifier, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
        """Best class of each picture, and the name the device gives, which may be `unknown`."""
        rankings = [classifier.rank(descriptor) for descriptor in self._pictures.descriptors[rows]]
        best = [ranking[0].defect_class for ranking in rankings]
        named = [
            UNKNOWN if classifier.is_unknown(ranking) else name for name, ranking in zip(best, rankings, strict=True)
        ]
        return np.array(best), np.array(named)
