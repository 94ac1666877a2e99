"""Which predicted boxes count: overlap with the true ones, each matched once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MIN_IOU = 0.33


@dataclass(frozen=True)
class Tally:
    """Counts of boxes. A share of nothing is 0."""

    matched: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of predicted boxes that match a true one, 0..1."""
        return self.matched / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of true boxes that are matched, 0..1."""
        return self.matched / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1."""
        both = self.predicted + self.true
        return 2 * self.matched / both if both else 0.0


def box_iou(boxes: Ints, others: Ints) -> Floats:
    """(P, 4), (T, 4) xyxy -> (P, T) area in common / area of both together, 0..1."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return np.asarray(common / (area[:, None] + other_area[None, :] - common), dtype=np.float64)


def overlapping_pairs(predicted: Ints, scores: Floats, true: Ints) -> list[tuple[int, int]]:
    """Pairs (row of `predicted`, row of `true`) with IoU > MIN_IOU: highest score first, then highest IoU."""
    iou = box_iou(predicted, true)
    rows, columns = np.nonzero(iou > MIN_IOU)
    order = np.lexsort((-iou[rows, columns], rows, -scores[rows]))
    return [(int(rows[i]), int(columns[i])) for i in order]


def match_greedily(pairs: Iterable[tuple[int, int]], allowed: Mask) -> list[tuple[int, int]]:
    """Of `pairs` in their order those where `allowed` (one bool each) holds and neither box is taken."""
    taken_predicted: set[int] = set()
    taken_true: set[int] = set()
    kept = []
    for (predicted, true), is_allowed in zip(pairs, allowed, strict=True):
        if is_allowed and predicted not in taken_predicted and true not in taken_true:
            taken_predicted.add(predicted)
            taken_true.add(true)
            kept.append((predicted, true))
    return kept
