"""Which pictures are supports and which are asked about: drawn by seed, or the first files of each type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SupportChoice:
    """Rows of pictures. ways: K classes. supports: (K, n_shot). queries: for each class, all its other pictures."""

    ways: tuple[str, ...]
    supports: Ints
    queries: tuple[Ints, ...]

    @property
    def support_rows(self) -> Ints:
        """(S,) class by class."""
        return self.supports.ravel()

    @property
    def support_labels(self) -> Ints:
        """(S,) in 0..K-1, for `support_rows`."""
        return np.repeat(np.arange(len(self.ways)), self.supports.shape[1])

    @property
    def query_rows(self) -> Ints:
        """(Q,) class by class."""
        return np.concatenate(self.queries)

    @property
    def query_labels(self) -> Ints:
        """(Q,) in 0..K-1, for `query_rows`."""
        return np.repeat(np.arange(len(self.ways)), [len(rows) for rows in self.queries])

    def without(self, way: int) -> tuple[SupportChoice, Ints]:
        """The same choice with one class not enrolled, and all rows of that class, once its supports too."""
        kept = [k for k in range(len(self.ways)) if k != way]
        rest = SupportChoice(
            tuple(self.ways[k] for k in kept), self.supports[kept], tuple(self.queries[k] for k in kept)
        )
        return rest, np.concatenate([self.supports[way], self.queries[way]])


class SupportDraws:
    """Choices of supports among the defect pictures that may be used. kinds, usable: (n,)."""

    def __init__(self, kinds: npt.NDArray[np.str_], usable: Bools) -> None:
        self._rows_of = {str(kind): np.flatnonzero((kinds == kind) & usable) for kind in np.unique(kinds[usable])}

    def ways(self, n_shot: int) -> tuple[str, ...]:
        """Types with a picture more than `n_shot`, sorted; none when fewer than two have it."""
        ways = tuple(kind for kind, rows in self._rows_of.items() if len(rows) > n_shot)
        return ways if len(ways) > 1 else ()

    def left_out(self, n_shot: int) -> tuple[str, ...]:
        """Types without enough pictures."""
        return tuple(kind for kind, rows in self._rows_of.items() if len(rows) <= n_shot)

    def draw(self, n_shot: int, seed: int) -> SupportChoice:
        """At random; with the same seed a larger `n_shot` keeps the supports of a smaller one."""
        rng = np.random.default_rng(seed)
        return self._choose(n_shot, rng.permutation)

    def first_files(self, n_shot: int) -> SupportChoice:
        """The first files of each type, in the order of their names."""
        return self._choose(n_shot, lambda rows: rows)

    def _choose(self, n_shot: int, in_order: Callable[[Ints], Ints]) -> SupportChoice:
        ways = self.ways(n_shot)
        orders = [in_order(self._rows_of[kind]) for kind in ways]
        supports = np.stack([order[:n_shot] for order in orders])
        return SupportChoice(ways, supports, tuple(order[n_shot:] for order in orders))
