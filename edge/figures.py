"""Figures of a scored folder: one pass over its records, in memory that a million rows do not fill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.result import Verdict

Record = dict[str, Any]
VERDICTS: tuple[Verdict, ...] = ("good", "defect", "no_verdict")
NOT_TYPED = "not typed"


@dataclass
class Figures:
    """Counts and scores. folders: verdicts per first folder of the path, `.` for none."""

    verdicts: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    folders: dict[str, Counter[str]] = field(default_factory=dict)
    good_scores: list[float] = field(default_factory=list)
    defect_scores: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Figures:
        """Add up `records`."""
        figures = cls()
        for record in records:
            figures.add(record)
        return figures

    def add(self, record: Record) -> None:
        """Count one record."""
        verdict = record["verdict"]
        self.verdicts[verdict] += 1
        first, slash, _ = record["path"].partition("/")
        self.folders.setdefault(first if slash else ".", Counter())[verdict] += 1
        if verdict == "no_verdict":
            return
        (self.good_scores if verdict == "good" else self.defect_scores).append(record["anomaly_score"])
        if verdict == "defect":
            self.classes[record["defect_class"] or NOT_TYPED] += 1

    @property
    def pictures(self) -> int:
        """Files looked at."""
        return self.verdicts.total()

    @property
    def good_share(self) -> float | None:
        """Good pictures among those with a verdict, 0..1; None when there is none."""
        judged = self.verdicts["good"] + self.verdicts["defect"]
        return self.verdicts["good"] / judged if judged else None

    def scores(self) -> npt.NDArray[np.float64]:
        """(n,) every anomaly score."""
        return np.array(self.good_scores + self.defect_scores, dtype=np.float64)
