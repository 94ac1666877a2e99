"""A bundle against labelled pictures: how well it detects, and how well a few supports name what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.dataset import Dataset, find_dataset
from calibration.detection_figures import Detection, detection_figures
from calibration.few_shot import FewShotTrial, ShotResult
from calibration.good_pictures import Track, no_track
from calibration.head_choice import DEFAULT_HEADS, HeadChoice, check_heads
from calibration.scored_pictures import Pass, score_pictures
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.manifest import BackendChoice, Precision


@dataclass(frozen=True)
class Options:
    """shots: supports per class. draws: random support sets per shot count, seeded seed, seed + 1, ...

    heads: names of HEADS, or `all`; the first one is the one the confusion pictures are drawn of.
    good_dir: good pictures, for the paper's method alone.
    backend, precision: None means the ones the bundle was calibrated with. threads: 0 means every core.
    """

    shots: tuple[int, ...] = (1, 2, 5)
    draws: int = 20
    seed: int = 0
    heads: tuple[str, ...] = DEFAULT_HEADS
    good_dir: Path | None = None
    backend: BackendChoice | None = None
    precision: Precision | None = None
    threads: int = 1

    @property
    def seeds(self) -> list[int]:
        """One per draw; the same for every shot count."""
        return [self.seed + draw for draw in range(self.draws)]


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation found.

    few_shot: one per head and shot count that could be drawn, in the order of the heads, fewest shots first.
    heads_left_out: why a head of `all` could not take part.
    """

    dataset: Dataset
    options: Options
    facts: dict[str, Any]
    scored: Pass
    detection: Detection
    few_shot: tuple[ShotResult, ...]
    heads_left_out: dict[str, str]

    @property
    def heads(self) -> list[str]:
        """Those that took part, in order."""
        return list(dict.fromkeys(result.head for result in self.few_shot))

    @property
    def shots_left_out(self) -> list[int]:
        """Shot counts for which fewer than two types have a picture left to ask about."""
        return sorted(set(self.options.shots) - {result.n_shot for result in self.few_shot})

    @property
    def middle(self) -> ShotResult | None:
        """The first head's result in the middle of the shot counts."""
        first = [result for result in self.few_shot if result.head == self.few_shot[0].head]
        return first[(len(first) - 1) // 2] if first else None

    def rival(self, result: ShotResult, head: str) -> ShotResult | None:
        """What another head gave on the same draws, if it took part."""
        same = (r for r in self.few_shot if r.head == head and r.n_shot == result.n_shot and r is not result)
        return next(same, None)


def evaluate(
    bundle_dir: Path,
    dataset_dir: Path,
    options: Options = Options(),
    track: Track[Any] = no_track,
) -> Evaluation:
    """One pass over the pictures of `dataset_dir`, then every figure from what that pass left."""
    check_options(options)
    dataset = find_dataset(dataset_dir)
    inspector = Inspector.load(bundle_dir, options.backend, options.precision, options.threads)
    chosen = HeadChoice.of(inspector, options.heads, options.good_dir, options.seed)
    scored = score_pictures(inspector, dataset, track, keep_residuals="paper" in chosen.names)
    return Evaluation(
        dataset=dataset,
        options=options,
        facts=bundle_facts(inspector),
        scored=scored,
        detection=detection_figures(scored, inspector.image_threshold),
        few_shot=_few_shot(scored, chosen, options, track),
        heads_left_out=chosen.left_out,
    )


def _few_shot(scored: Pass, chosen: HeadChoice, options: Options, track: Track[Any]) -> tuple[ShotResult, ...]:
    heads = chosen.make(scored.pictures, options.seed, track)
    trials = [FewShotTrial(scored.pictures, chosen.inspector.image_threshold, head) for head in heads]
    rounds = [(trial, n_shot) for trial in trials for n_shot in sorted(set(options.shots))]
    results = [trial.run(n_shot, options.seeds) for trial, n_shot in track(rounds, "few-shot draws", len(rounds))]
    return tuple(result for result in results if result is not None)


def bundle_facts(inspector: Inspector) -> dict[str, Any]:
    """What was measured, for the head of a report."""
    manifest, backbone = inspector.manifest, inspector.backbone
    return {
        "bundle_id": manifest.bundle_id,
        "product": manifest.product,
        "backbone": manifest.embedding.backbone,
        "input_size": manifest.embedding.input_size,
        "bank_rows": inspector.bank.rows,
        "backend": backbone.name,
        "backend_version": backbone.version,
        "precision": inspector.precision,
        "relation_scores": "learned head" if inspector.head else "cosine",
    }


def check_options(options: Options) -> None:
    """UsageError for values that cannot mean anything."""
    if not options.shots or min(options.shots) < 1:
        raise UsageError(f"--shots {','.join(map(str, options.shots))}: expected numbers from 1, such as 1,2,5")
    if options.draws < 1:
        raise UsageError(f"--draws {options.draws}: expected at least 1")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected 0 or more")
    check_heads(options.heads, options.good_dir)
