"""Which evidence goes when there is too much of it: bookkeeping alone, no files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge.result import Verdict

S_IN_DAY = 86_400.0
GO_FIRST: tuple[Verdict, ...] = ("good", "no_verdict")  # before any reject

Group = tuple[Verdict, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """The files of one result. number: grows with each. moment_s: when it was kept, since the epoch.

    label: its class as it stands in file names, empty without one. parts: ends of its file names, after `stem`.
    """

    number: int
    moment_s: float
    verdict: Verdict
    label: str
    result_id: str
    size_bytes: int
    stem: str = ""
    parts: tuple[str, ...] = ()

    @property
    def group(self) -> Group:
        """Verdict and, of rejects, the class."""
        return self.verdict, self.label if self.verdict == "defect" else ""


@dataclass(frozen=True)
class Budget:
    """max_per_class: results of one class of defect, those without a class being one. None: no limit."""

    max_bytes: int
    max_days: float | None = None
    max_per_class: int | None = None


class Stock:
    """All that is kept, the oldest of each group first."""

    def __init__(self, kept: Iterable[Kept] = ()) -> None:
        self.size_bytes = 0
        self._groups: dict[Group, deque[Kept]] = {}
        self._newest_of: dict[str, Kept] = {}  # a file that is inspected again has its result_id again
        for each in sorted(kept, key=lambda each: each.number):
            self.add(each)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, kept: Kept) -> None:
        """The newest of all."""
        self._groups.setdefault(kept.group, deque()).append(kept)
        self._newest_of[kept.result_id] = kept
        self.size_bytes += kept.size_bytes

    def remove_oldest(self, group: Group) -> None:
        """Take the oldest out of a group."""
        kept = self._groups[group].popleft()
        if not self._groups[group]:
            del self._groups[group]
        if self._newest_of.get(kept.result_id) is kept:
            del self._newest_of[kept.result_id]
        self.size_bytes -= kept.size_bytes

    def find(self, result_id: str) -> Kept | None:
        """What is kept of a result; from any thread."""
        return self._newest_of.get(result_id)

    def next_to_go(self, budget: Budget, now_s: float) -> Kept | None:
        """What has to go first, always the oldest of its group; None when everything may stay.

        First what is too old, then of classes with too many. Then, for the bytes, good ones, those without a verdict,
        and rejects of the class that has most; of two such classes that whose oldest is older.
        """
        oldest = [group[0] for group in self._groups.values()]
        too_many = [group[0] for group in self._rejects() if len(group) > (budget.max_per_class or len(group))]
        too_old = [each for each in oldest if budget.max_days and now_s - each.moment_s > budget.max_days * S_IN_DAY]
        if too_old or too_many:
            return (too_old or too_many)[0]
        if self.size_bytes <= budget.max_bytes:
            return None
        for verdict in GO_FIRST:
            if group := self._groups.get((verdict, "")):
                return group[0]
        largest = max(self._rejects(), key=lambda group: (len(group), -group[0].number), default=None)
        return largest[0] if largest else None

    def _rejects(self) -> list[deque[Kept]]:
        return [group for (verdict, _), group in self._groups.items() if verdict == "defect"]


def surplus(stock: Stock, budget: Budget, now_s: float) -> Iterator[Kept]:
    """What does not fit, in order; each is in the stock until the next is asked for."""
    while each := stock.next_to_go(budget, now_s):
        yield each
        stock.remove_oldest(each.group)
