"""A figure over draws: its mean and spread, and its difference to another head on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """mean, and standard deviation of one draw (0 for a single draw); both in the unit of the figure."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least one value."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of the differences draw by draw, and its standard error: None for a single draw."""

    mean: float
    standard_error: float | None

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
        """values[i] and baseline[i] come from the same draw."""
        gaps = np.subtract(values, baseline)
        error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else None
        return cls(float(gaps.mean()), error)
