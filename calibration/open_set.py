"""Can a head tell that a region is of no enrolled class? Each type in turn is not enrolled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.descriptors import Descriptors
from calibration.metrics import auroc
from calibration.support_draws import Bools, SupportChoice
from calibration.typing_heads import Typed, TypingHead

KNOWN_SHARE = 0.05  # of the known, who may be called unknown when the threshold is chosen on the pictures themselves
MIN_WAYS = 3  # one is left out, two remain


@dataclass(frozen=True)
class OpenSetFigures:
    """Shares 0..1. auroc: chance that an unknown is less sure of its class than a known.

    caught: unknowns called so when at most KNOWN_SHARE of the knowns are. bundle_caught, bundle_false: unknowns, and
    knowns, called so at the bundle's own threshold; None for a head without one.
    """

    auroc: float
    caught: float
    bundle_caught: float | None
    bundle_false: float | None


@dataclass(frozen=True)
class OpenSetDraw:
    """One choice of supports. by_kind: figures with that type not enrolled."""

    seed: int
    by_kind: dict[str, OpenSetFigures]

    def mean(self, figure: str) -> float | None:
        """Mean of a field of OpenSetFigures over the types left out; None when the head has no threshold."""
        values = [getattr(figures, figure) for figures in self.by_kind.values()]
        return None if None in values else float(np.mean(values))


def open_set_draw(head: TypingHead, descriptors: Descriptors, choice: SupportChoice, seed: int) -> OpenSetDraw:
    """descriptors of all pictures; a choice of at least MIN_WAYS classes."""
    by_kind = {}
    for way, kind in enumerate(choice.ways):
        rest, unknown_rows = choice.without(way)
        rows = np.concatenate([rest.query_rows, unknown_rows])
        typed = head.type_queries(descriptors, rest.support_rows, rest.support_labels, rows)
        by_kind[kind] = open_set_figures(typed, np.arange(len(rows)) >= len(rest.query_rows))
    return OpenSetDraw(seed, by_kind)


def open_set_figures(typed: Typed, is_unknown: Bools) -> OpenSetFigures:
    """is_unknown: (Q,) whether the query's own class was not enrolled; both sorts at least once."""
    confidence, called = typed.confidence, typed.unknown
    return OpenSetFigures(
        auroc=auroc(-confidence, is_unknown),
        caught=share_caught(confidence[~is_unknown], confidence[is_unknown]),
        bundle_caught=None if called is None else float(called[is_unknown].mean()),
        bundle_false=None if called is None else float(called[~is_unknown].mean()),
    )


def share_caught(known: npt.NDArray[np.float32], unknown: npt.NDArray[np.float32]) -> float:
    """Share of `unknown` confidences under the highest threshold that at most KNOWN_SHARE of `known` are under."""
    allowed = int(KNOWN_SHARE * len(known))
    threshold = np.sort(known)[allowed]
    return float((unknown < threshold).mean())
