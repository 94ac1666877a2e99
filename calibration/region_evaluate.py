"""A bundle against pictures with several boxed defects: regions found, and how well a few boxes name them.

Supports are true boxes drawn at random. A picture that gave a support is not asked about at all, neither for its
other boxes nor for the regions found in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.descriptors import Descriptors
from calibration.evaluate import Options, bundle_facts, check_options
from calibration.good_pictures import Track, no_track
from calibration.head_choice import HeadChoice, make_head
from calibration.region_dataset import RegionDataset, find_region_dataset
from calibration.region_match import Tally, match_greedily
from calibration.region_pass import RegionPass, describe_boxes
from calibration.typing_heads import TypingHead
from edge.errors import CalibrationError, UsageError
from edge.inspector import Inspector

REGION_SHOTS = (1, 2, 5, 10)
PAPER = "paper"
DEFAULT_OPTIONS = Options(shots=REGION_SHOTS)
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class RegionDraw:
    """One random choice of supports. kinds: counts of each type where name and place must be right.

    places: counts where the place alone must be. named_of_matched: share of the regions at a right place that are
    named right. named_of_true: share of the true boxes named right when the box is given; per type in
    named_of_true_kinds.
    """

    seed: int
    pictures_asked: int
    kinds: Mapping[str, Tally]
    places: Tally
    named_of_matched: float
    named_of_true: float
    named_of_true_kinds: Mapping[str, float]

    @property
    def regions(self) -> Tally:
        """All types together: micro precision, recall and F."""
        counts = list(self.kinds.values())
        return Tally(sum(t.matched for t in counts), sum(t.predicted for t in counts), sum(t.true for t in counts))


@dataclass(frozen=True)
class RegionShots:
    """All draws of one head at one number of supports (boxes) per type."""

    head: str
    n_shot: int
    draws: tuple[RegionDraw, ...]


@dataclass(frozen=True)
class RegionEvaluation:
    """Everything a region evaluation found. places: every picture, whatever its regions are called.

    few_shot: one per head and shot count, in the order of the heads. heads_left_out: why a head of `all` is not there.
    """

    dataset: RegionDataset
    options: Options
    facts: Mapping[str, Any]
    scored: RegionPass
    places: Tally
    few_shot: tuple[RegionShots, ...]
    heads_left_out: Mapping[str, str]

    @property
    def shots_left_out(self) -> list[int]:
        """Shot counts for which a type has no box left to ask about."""
        return sorted(set(self.options.shots) - {result.n_shot for result in self.few_shot})


def evaluate_regions(
    bundle_dir: Path,
    dataset_dir: Path,
    options: Options = DEFAULT_OPTIONS,
    track: Track[Any] = no_track,
) -> RegionEvaluation:
    """One pass over the pictures of `dataset_dir`, then every figure from what that pass left."""
    check_options(options)
    dataset = find_region_dataset(dataset_dir)
    inspector = Inspector.load(bundle_dir, options.backend, options.precision, options.threads)
    heads, heads_left_out = _choose_heads(inspector, options)
    scored = describe_boxes(inspector, dataset, track)
    trial = RegionTrial(scored)
    rounds = [(head, n_shot) for head in heads for n_shot in sorted(set(options.shots))]
    results = [trial.run(head, n_shot, options.seeds) for head, n_shot in track(rounds, "few-shot draws", len(rounds))]
    return RegionEvaluation(
        dataset=dataset,
        options=options,
        facts=bundle_facts(inspector),
        scored=scored,
        places=trial.places(np.ones(len(scored.names), dtype=np.bool_)),
        few_shot=tuple(result for result in results if result is not None),
        heads_left_out=heads_left_out,
    )


class RegionTrial:
    """Draws true boxes as supports and lets a head name everything else."""

    def __init__(self, scored: RegionPass) -> None:
        self._scored = scored
        self._kinds = sorted(set(scored.kinds.tolist()))
        self._pair_rows = np.array(scored.pairs, dtype=np.int64).reshape(-1, 2)
        true, predicted = scored.true.descriptors, scored.predicted.descriptors
        self._descriptors = Descriptors(
            np.concatenate([true.queries, predicted.queries]), np.concatenate([true.supports, predicted.supports])
        )
        if len(self._kinds) < 2:
            raise CalibrationError(f"boxes of {len(self._kinds)} type in readable pictures, at least two are needed")

    def places(self, asked: Mask) -> Tally:
        """Counts over the `asked` pictures (one bool each), whatever a region is called."""
        predicted, true = self._asked(asked)
        matched = match_greedily(self._scored.pairs, predicted[self._pair_rows[:, 0]])
        return Tally(len(matched), int(predicted.sum()), int(true.sum()))

    def run(self, head: TypingHead, n_shot: int, seeds: Sequence[int]) -> RegionShots | None:
        """Type with `n_shot` boxes a type, once per seed; None when a draw leaves a type no box to ask about."""
        draws = [self._draw(head, n_shot, seed) for seed in seeds]
        done = tuple(draw for draw in draws if draw is not None)
        return RegionShots(head.name, n_shot, done) if len(done) == len(draws) else None

    def _draw(self, head: TypingHead, n_shot: int, seed: int) -> RegionDraw | None:
        scored, supports = self._scored, self._choose(n_shot, seed)
        asked = np.ones(len(scored.names), dtype=np.bool_)
        asked[scored.true.picture[supports]] = False
        predicted, true = self._asked(asked)
        if len(supports) < n_shot * len(self._kinds) or set(scored.kinds[true]) != set(self._kinds):
            return None
        box_names, region_names = self._name(head, supports)
        right = box_names == scored.kinds
        places = match_greedily(scored.pairs, predicted[self._pair_rows[:, 0]])
        named = [region_names[p] == scored.kinds[t] for p, t in places]
        return RegionDraw(
            seed=seed,
            pictures_asked=int(asked.sum()),
            kinds=self._tallies(region_names, predicted, true),
            places=Tally(len(places), int(predicted.sum()), int(true.sum())),
            named_of_matched=float(np.mean(named)) if named else 0.0,
            named_of_true=float(right[true].mean()),
            named_of_true_kinds={kind: float(right[true & (scored.kinds == kind)].mean()) for kind in self._kinds},
        )

    def _name(self, head: TypingHead, supports: Ints) -> tuple[Names, Names]:
        """The best class of every true box (T,) and of every predicted region (R,); `unknown` is no answer here."""
        labels = np.searchsorted(self._kinds, self._scored.kinds[supports])
        typed = head.type_queries(self._descriptors, supports, labels, np.arange(len(self._descriptors)))
        names = np.array(self._kinds)[typed.scores.argmax(axis=1)]
        return names[: len(self._scored.true)], names[len(self._scored.true) :]

    def _choose(self, n_shot: int, seed: int) -> Ints:
        """Rows of the supports; more shots of one seed keep those of fewer."""
        rng = np.random.default_rng(seed)
        order = [rng.permutation(np.flatnonzero(self._scored.kinds == kind)) for kind in self._kinds]
        return np.concatenate([rows[:n_shot] for rows in order])

    def _asked(self, asked: Mask) -> tuple[Mask, Mask]:
        """Which predicted regions and which true boxes lie in the pictures asked about."""
        return asked[self._scored.predicted.picture], asked[self._scored.true.picture]

    def _tallies(self, region_names: Names, predicted: Mask, true: Mask) -> dict[str, Tally]:
        kinds, rows = self._scored.kinds, self._pair_rows
        is_right = region_names[rows[:, 0]] == kinds[rows[:, 1]]
        matched = match_greedily(self._scored.pairs, predicted[rows[:, 0]] & is_right)
        found = kinds[[t for _, t in matched]]
        return {
            kind: Tally(
                matched=int((found == kind).sum()),
                predicted=int((region_names[predicted] == kind).sum()),
                true=int((kinds[true] == kind).sum()),
            )
            for kind in self._kinds
        }


def _choose_heads(inspector: Inspector, options: Options) -> tuple[list[TypingHead], dict[str, str]]:
    """Heads that name a region by its descriptor, and why others of `all` cannot take part."""
    why = "it looks at whole pictures, which hold several defects here"
    if PAPER in options.heads:
        raise UsageError(f"--head {PAPER}: {why}; leave it out")
    chosen = HeadChoice.of(inspector, options.heads)
    left_out = {name: why if name == PAPER else reason for name, reason in chosen.left_out.items()}
    return [make_head(name, inspector) for name in chosen.names], left_out
