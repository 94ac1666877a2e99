"""How well a few supports name the rest: one head, one number of supports per class, by several protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.confusion import PASSED, ConfusionMatrix
from calibration.dataset import GOOD
from calibration.descriptors import Descriptors
from calibration.metrics import rejected
from calibration.open_set import MIN_WAYS, OpenSetDraw, open_set_draw
from calibration.scored_pictures import ScoredPictures
from calibration.spread import Spread
from calibration.support_draws import Ints, SupportChoice, SupportDraws
from calibration.typing_heads import TypingHead
from edge.result import UNKNOWN

Names = npt.NDArray[np.str_]

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
    """One head at one number of supports per class, every draw; a seed draws the same supports for every head.

    kinds_left_out: too few pictures for a support and a query. mask_given: share named right, per draw, when supports
    and queries are described inside their true masks; empty where that means nothing. first_files: share named right
    when the first files of each type are the supports. open_set: one per draw, empty with fewer than
    three classes and for a head that is not quick.
    """

    head: str
    says_unknown: bool
    n_shot: int
    n_way: int
    kinds_left_out: tuple[str, ...]
    draws: tuple[Draw, ...]
    mask_given: tuple[float, ...]
    first_files: float
    open_set: tuple[OpenSetDraw, ...]
    typing_confusion: ConfusionMatrix
    inspection_confusion: ConfusionMatrix

    def values(self, figure: str) -> list[float]:
        """`mask_given`, or a figure of `Draw` or of `OpenSetFigures`, draw by draw; empty if it was not measured."""
        if figure == "mask_given":
            return list(self.mask_given)
        if figure in FIGURES:
            return [getattr(draw, figure) for draw in self.draws]
        means = [draw.mean(figure) for draw in self.open_set]
        return [mean for mean in means if mean is not None]

    def mean_and_spread(self, figure: str) -> tuple[float, float]:
        """Mean and standard deviation over the draws of a figure that was measured."""
        spread = Spread.of(self.values(figure))
        return spread.mean, spread.std


class FewShotTrial:
    """Lets one head type scored pictures, with supports drawn from them."""

    def __init__(self, pictures: ScoredPictures, image_threshold: float, head: TypingHead) -> None:
        self._pictures, self._head = pictures, head
        self._rejected = rejected(pictures.scores, image_threshold)
        self._defects = SupportDraws(pictures.kinds, pictures.is_defect)
        self._masked = SupportDraws(pictures.kinds, pictures.has_mask_descriptor)

    def run(self, n_shot: int, seeds: Sequence[int]) -> ShotResult | None:
        """Every protocol, once per seed; None when fewer than two classes have the pictures."""
        ways = self._defects.ways(n_shot)
        if not ways:
            return None
        typing = ConfusionMatrix.empty(ways, ways)
        inspection = ConfusionMatrix.empty([*ways, GOOD], [*ways, UNKNOWN, PASSED])
        choices = [self._defects.draw(n_shot, seed) for seed in seeds]
        draws = [self._inspect(c, seed, typing, inspection) for c, seed in zip(choices, seeds, strict=True)]
        return ShotResult(
            head=self._head.name,
            says_unknown=self._head.says_unknown,
            n_shot=n_shot,
            n_way=len(ways),
            kinds_left_out=self._defects.left_out(n_shot),
            draws=tuple(draws),
            mask_given=self._mask_given(n_shot, seeds),
            first_files=self._share_right(self._defects.first_files(n_shot), self._pictures.descriptors),
            open_set=self._open_set(choices, seeds) if self._head.is_quick and len(ways) >= MIN_WAYS else (),
            typing_confusion=typing,
            inspection_confusion=inspection,
        )

    def _inspect(self, choice: SupportChoice, seed: int, typing: ConfusionMatrix, inspection: ConfusionMatrix) -> Draw:
        """The closed loop, and the whole inspector: detection, then typing."""
        queries = choice.query_rows
        rejected_goods = np.flatnonzero(~self._pictures.is_defect & self._rejected)
        passed_goods = int((~self._pictures.is_defect & ~self._rejected).sum())
        best, named = self.type_pictures(choice, np.concatenate([queries, rejected_goods]))
        truths, best = self._pictures.kinds[queries], best[: len(queries)]
        typing.count(truths, best)
        verdicts = np.where(self._rejected[queries], named[: len(queries)], PASSED)
        inspection.count(truths, verdicts)
        inspection.count(np.full(len(rejected_goods), GOOD), named[len(queries) :])
        inspection.count(np.full(passed_goods, GOOD), np.full(passed_goods, PASSED))
        right = int((verdicts == truths).sum())
        parts = len(queries) + len(rejected_goods) + passed_goods
        return Draw(
            seed=seed,
            typing=float((best == truths).mean()),
            inspection=right / len(queries),
            whole=(right + passed_goods) / parts,
            unknown=float((verdicts == UNKNOWN).mean()),
        )

    def type_pictures(self, choice: SupportChoice, rows: Ints) -> tuple[Names, Names]:
        """Best class of each picture, and the name the head gives, which may be `unknown`."""
        descriptors = self._pictures.descriptors
        typed = self._head.type_queries(descriptors, choice.support_rows, choice.support_labels, rows)
        best = np.array(choice.ways)[typed.scores.argmax(axis=1)]
        return best, best if typed.unknown is None else np.where(typed.unknown, UNKNOWN, best)

    def _mask_given(self, n_shot: int, seeds: Sequence[int]) -> tuple[float, ...]:
        """The same draws where every defect has a mask; those without one are neither support nor query."""
        described = self._pictures.mask_descriptors
        if described is None or not self._head.sees_region or not self._masked.ways(n_shot):
            return ()
        return tuple(self._share_right(self._masked.draw(n_shot, seed), described) for seed in seeds)

    def _share_right(self, choice: SupportChoice, descriptors: Descriptors) -> float:
        queries = choice.query_rows
        typed = self._head.type_queries(descriptors, choice.support_rows, choice.support_labels, queries)
        return float((typed.scores.argmax(axis=1) == choice.query_labels).mean())

    def _open_set(self, choices: Sequence[SupportChoice], seeds: Sequence[int]) -> tuple[OpenSetDraw, ...]:
        descriptors = self._pictures.descriptors
        return tuple(
            open_set_draw(self._head, descriptors, choice, seed) for choice, seed in zip(choices, seeds, strict=True)
        )
