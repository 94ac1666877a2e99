"""A bundle against labelled pictures: how well it detects, and how well a few supports name what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.dataset import Dataset, find_dataset
from calibration.detection_figures import Detection, detection_figures
from calibration.few_shot import FewShotTrial, ShotResult
from calibration.good_pictures import Track, no_track
from calibration.scored_pictures import Pass, score_pictures
from edge.backend import Backend
from edge.errors import BundleError, UsageError
from edge.inspector import Inspector
from edge.manifest import BackendName, Precision

HeadChoice = Literal["auto", "cosine", "relation"]


@dataclass(frozen=True)
class Options:
    """shots: supports per class. draws: random support sets per shot count, seeded seed, seed + 1, ...

    backend, precision: None means the ones the bundle was calibrated with. threads: 0 means every core.
    """

    shots: tuple[int, ...] = (1, 2, 5)
    draws: int = 20
    seed: int = 0
    head: HeadChoice = "auto"
    backend: BackendName | None = None
    precision: Precision | None = None
    threads: int = 1

    @property
    def seeds(self) -> list[int]:
        """One per draw; the same for every shot count."""
        return [self.seed + draw for draw in range(self.draws)]


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation found. few_shot: one per shot count that could be drawn, fewest shots first."""

    dataset: Dataset
    options: Options
    facts: dict[str, Any]
    scored: Pass
    detection: Detection
    few_shot: tuple[ShotResult, ...]

    @property
    def shots_left_out(self) -> list[int]:
        """Shot counts for which fewer than two types have a picture left to ask about."""
        return sorted(set(self.options.shots) - {result.n_shot for result in self.few_shot})

    @property
    def middle(self) -> ShotResult | None:
        """The result in the middle of the shot counts."""
        return self.few_shot[(len(self.few_shot) - 1) // 2] if self.few_shot else None


def evaluate(
    bundle_dir: Path,
    dataset_dir: Path,
    options: Options = Options(),
    track: Track[Any] = no_track,
) -> Evaluation:
    """One pass over the pictures of `dataset_dir`, then every figure from what that pass left."""
    _check(options)
    dataset = find_dataset(dataset_dir)
    inspector = Inspector.load(bundle_dir, options.backend, options.precision, options.threads)
    inspector.head = choose_head(inspector, options.head)
    scored = score_pictures(inspector, dataset, track)
    detection = detection_figures(scored, inspector.image_threshold)
    trial = FewShotTrial(inspector, scored.pictures)
    shots = sorted(set(options.shots))
    results = [trial.run(n_shot, options.seeds) for n_shot in track(shots, "few-shot draws", len(shots))]
    return Evaluation(
        dataset=dataset,
        options=options,
        facts=_facts(inspector),
        scored=scored,
        detection=detection,
        few_shot=tuple(result for result in results if result is not None),
    )


def choose_head(inspector: Inspector, head: HeadChoice) -> Backend | None:
    """auto: as the device does it. cosine: prototypes alone. relation: with the learned head, or BundleError."""
    if head == "cosine":
        return None
    if head == "relation" and inspector.head is None:
        raise BundleError(
            f"{inspector.bundle.folder}: the bundle has no relation head; "
            "run 'oddkind pretrain' on its pack and calibrate again, or use --head cosine"
        )
    return inspector.head


def _facts(inspector: Inspector) -> dict[str, Any]:
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
        "relation_scores": "cosine and learned head" if inspector.head else "cosine",
    }


def _check(options: Options) -> None:
    if not options.shots or min(options.shots) < 1:
        raise UsageError(f"--shots {','.join(map(str, options.shots))}: expected numbers from 1, such as 1,2,5")
    if options.draws < 1:
        raise UsageError(f"--draws {options.draws}: expected at least 1")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected 0 or more")
