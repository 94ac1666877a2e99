"""Scores of held-out good pictures -> a threshold, and what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Threshold:
    """value: parts over it are rejected. promised_false_reject_rate: what this many pictures can vouch for."""

    value: float
    promised_false_reject_rate: float
    method: str


def choose_threshold(good_scores: np.ndarray, false_reject_rate: float) -> Threshold:
    """Held-out scores (n,) -> the lowest threshold that keeps to `false_reject_rate` (0..1, exclusive).

    With n pictures, the k-th smallest score bounds the next good part's with probability k / (n + 1) (split
    conformal prediction). When even the largest cannot vouch for the rate asked for, the tail is extrapolated
    as Student's prediction interval, and the promise stays 1 / (n + 1).
    """
    scores = np.sort(np.asarray(good_scores, dtype=np.float64))
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - false_reject_rate))
    if rank <= n:
        return Threshold(float(scores[rank - 1]), 1 - rank / (n + 1), "conformal")
    spread = float(scores.std(ddof=1)) if n > 1 else 0.0
    reach = student_quantile(1 - false_reject_rate, n - 1) * spread * math.sqrt(1 + 1 / n)
    return Threshold(max(float(scores[-1]), float(scores.mean()) + reach), 1 / (n + 1), "student-extrapolated")


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t by its Cornish-Fisher expansion; within 1 % from 5 degrees of freedom."""
    z = NormalDist().inv_cdf(probability)
    d = max(degrees, 1)
    first = (z**3 + z) / (4 * d)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3)
    return z + first + second + third
