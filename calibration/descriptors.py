"""Regions described twice: as the device asks about them, and as enrolment keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Descriptors:
    """n regions, row for row. queries: (n, F) looked at once. supports: (n, F) the same, looked at from all sides."""

    queries: Floats
    supports: Floats

    @classmethod
    def of(cls, queries: Sequence[Floats], supports: Sequence[Floats | None]) -> Descriptors:
        """One (F,) a region; None where a region is never a support, or is no different as one."""
        kept = [once if several is None else several for once, several in zip(queries, supports, strict=True)]
        return cls(np.stack(queries), np.stack(kept))

    @classmethod
    def looked_at_once(cls, descriptors: Floats) -> Descriptors:
        """(n, F), the same as a query and as a support."""
        return cls(descriptors, descriptors)

    def __len__(self) -> int:
        return len(self.queries)
