"""What a receiver got against what a database holds: nothing lost, nothing twice under one id, order kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from output_records import query, stored


@dataclass(frozen=True)
class Delivery:
    """records: stored. repeated: arrivals under a result_id that had come before, which a receiver with a key drops."""

    records: int
    lost: int
    repeated: int
    foreign: int
    is_in_order: bool

    @classmethod
    def of(cls, path: Path, arrivals: Sequence[str]) -> Delivery:
        """arrivals: result ids in the order in which they came, repeated ones too."""
        due, kept = stored(path), list(dict.fromkeys(arrivals))
        lost, foreign = set(due) - set(kept), set(kept) - set(due)
        return cls(len(due), len(lost), len(arrivals) - len(kept), len(foreign), kept == due)


def gaps(path: Path) -> int:
    """Frames between two stored ones of the same run that are not stored: a run's numbers start at 0."""
    numbers = query(path, "SELECT json_extract(record, '$.frame_id') FROM results ORDER BY number")
    return sum(b not in (0, a + 1) for a, b in pairwise(numbers))
