"""Choosing a product's recipe by how well held-out good pictures separate from marks painted on them.

No defect picture is needed, and none is looked at. A recipe replaces the default only when it separates better by
more than the noise of the comparison, so a tuned bundle is never worse than the default by more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import cv2
import numpy as np

from calibration.build_bank import build_bank, default_tap_weights
from calibration.calibrate import Options
from calibration.detection import Detection, calibrate_detection
from calibration.good_pictures import Embedder, GoodPictures, Track, no_track
from calibration.metrics import auroc
from calibration.pseudo_samples import PseudoPainter
from calibration.recipe import Recipe
from calibration.train_discriminator import Effort
from edge.anomaly import mean_of_top_fraction
from edge.errors import CalibrationError
from edge.manifest import Embedding, PackManifest, read_manifest
from edge.memory_bank import MemoryBank
from edge.pictures import read_picture

MIN_PICTURES = 50
# Shares of the good pictures, and how many are enough: for the bank, for place statistics, and to judge by. The bundle
# itself is made from all pictures afterwards.
FIT, STATISTICS, JUDGED = (0.6, 200), (0.2, 100), (0.2, 200)
PSEUDO_CLASSES, PER_CLASS = 48, 4
EFFORT = Effort(pseudo_classes=24, epochs=8)
TOP_FRACTIONS = (0.003, 0.03)
SMOOTHINGS_PATCHES = (0.5,)
RESAMPLES = 500
# A recipe must be better by this many standard errors of the paired difference.
MIN_STANDARD_ERRORS = 2.0
TIMED_FRAMES = 9


@dataclass(frozen=True)
class Trial:
    """A recipe and the pack it is tried with."""

    name: str
    pack: Path
    recipe: Recipe


@dataclass(frozen=True)
class TrialResult:
    """auroc: painted against good pictures, 0..1. gain, gain_error: over the default, and its standard error.

    marks_found: share of painted pictures whose strangest cell lies on the mark. frame_ms: median, one thread, from
    the decoded frame to the score.
    """

    trial: Trial
    auroc: float
    gain: float
    gain_error: float
    marks_found: float
    frame_ms: float

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        figures = {name: getattr(self, name) for name in ("auroc", "gain", "gain_error", "marks_found", "frame_ms")}
        recipe = asdict(self.trial.recipe) | {"score": self.trial.recipe.score.model_dump()}
        return {"name": self.trial.name, "pack": str(self.trial.pack), "recipe": recipe, **figures}


@dataclass(frozen=True)
class Tuning:
    """Every trial in order, the default first, and the one that was chosen."""

    results: tuple[TrialResult, ...]
    chosen: TrialResult
    budget_ms: float | None

    def is_affordable(self, result: TrialResult) -> bool:
        """Within the budget, if there is one."""
        return self.budget_ms is None or result.frame_ms <= self.budget_ms

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "budget_ms": self.budget_ms,
            "chosen": self.chosen.trial.name,
            "trials": [result.to_document() for result in self.results],
        }


@dataclass(frozen=True)
class _Scores:
    """What one trial gave: scores of good and of painted pictures (n,), and whether the peak lies on the mark."""

    good: np.ndarray
    painted: np.ndarray
    on_mark: np.ndarray
    frame_ms: float


class _Maps(NamedTuple):
    """Patch scores (h, w) of good and of painted pictures, before they become one score each."""

    good: list[np.ndarray]
    painted: list[np.ndarray]
    on_mark: np.ndarray
    frame_ms: float


def tune(
    good_dir: Path,
    packs: Sequence[Path],
    options: Options,
    budget_ms: float | None = None,
    more_good: Sequence[Path] = (),
    track: Track[Any] = no_track,
) -> Tuning:
    """Try recipes on every pack; a gain is measured against the default recipe on the first pack.

    CalibrationError when there are too few pictures to hold any out, or when no recipe fits the budget.
    """
    pictures = GoodPictures.find(good_dir, options.seed, more_good)
    if len(pictures.paths) < MIN_PICTURES:
        raise CalibrationError(
            f"{good_dir}: {len(pictures.paths)} good pictures, tuning needs {MIN_PICTURES} to hold some out; "
            "calibrate without --tune"
        )
    bench = _Bench(pictures.paths, options)
    tried: list[tuple[Trial, _Scores]] = []
    for pack in packs:
        bench.open(pack)
        trials = candidates(pack, bench.embedder.embedding)
        tried += [(trial, bench.run(trial)) for trial in track(trials, f"tuning on {pack.name}", len(trials))]
    default = tried[0][1]
    return choose([_compared(trial, scores, default, options.seed) for trial, scores in tried], budget_ms)


def candidates(pack: Path, embedding: Embedding) -> list[Trial]:
    """The default, and recipes that differ from it in one choice each."""
    default = Recipe(default_tap_weights(embedding))
    score = default.score
    recipes = {"default": default}
    if len(default.tap_weights) > 1:
        recipes["taps alike"] = replace(default, tap_weights=dict.fromkeys(default.tap_weights, 1.0))
        for tap in default.tap_weights:
            recipes[f"tap {tap} alone"] = replace(default, tap_weights={tap: 1.0})
    recipes["no discriminator"] = replace(default, discriminator=False)
    recipes["part only"] = replace(default, part_only=True)
    for fraction in TOP_FRACTIONS:
        changed = score.model_copy(update={"top_fraction": fraction})
        recipes[f"top {fraction:.1%} of patches"] = replace(default, score=changed)
    for sigma in SMOOTHINGS_PATCHES:
        changed = score.model_copy(update={"map_sigma_patches": sigma})
        recipes[f"map smoothed by {sigma:g}"] = replace(default, score=changed)
    return [Trial(name, pack, recipe) for name, recipe in recipes.items()]


def choose(results: Sequence[TrialResult], budget_ms: float | None) -> Tuning:
    """The best trial that is surely better than the default and within the budget; the default comes first.

    When the default is over the budget, the best that is within. CalibrationError when none is.
    """
    affordable = [r for r in results if budget_ms is None or r.frame_ms <= budget_ms]
    if not affordable:
        fastest = min(results, key=lambda r: r.frame_ms)
        raise CalibrationError(
            f"--budget-ms {budget_ms:g}: the fastest recipe, {fastest.trial.name!r}, takes {fastest.frame_ms:.1f} ms "
            "here; give more, or a pack of smaller --input-size"
        )
    best = max(affordable, key=lambda r: r.auroc)
    is_surely_better = best.gain > MIN_STANDARD_ERRORS * best.gain_error
    chosen = best if is_surely_better or results[0] not in affordable else results[0]
    return Tuning(tuple(results), chosen, budget_ms)


def separation(good: np.ndarray, painted: np.ndarray) -> float:
    """AUROC of painted (m,) against good scores (n,)."""
    return auroc(np.concatenate([good, painted]), np.repeat([False, True], [len(good), len(painted)]))


def gain_and_error(scores: _Scores, default: _Scores, seed: int) -> tuple[float, float]:
    """AUROC over the default's, and its standard error over pictures drawn again: the same ones for both."""
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(RESAMPLES):
        good = rng.integers(len(scores.good), size=len(scores.good))
        painted = rng.integers(len(scores.painted), size=len(scores.painted))
        mine, theirs = (separation(s.good[good], s.painted[painted]) for s in (scores, default))
        differences.append(mine - theirs)
    gain = separation(scores.good, scores.painted) - separation(default.good, default.painted)
    return gain, float(np.std(differences))


def shares(count: int) -> list[slice]:
    """Which of so many pictures make the bank, the place statistics, and judge."""
    slices, start = [], 0
    for share, most in (FIT, STATISTICS, JUDGED):
        taken = min(round(share * count), most)
        slices.append(slice(start, start + taken))
        start += taken
    return slices


class _Bench:
    """Runs trials on one split of the pictures; banks and detections that trials share are made once."""

    def __init__(self, paths: Sequence[Path], options: Options) -> None:
        self._options = options
        self._fit, self._statistics, self._judged = (paths[part] for part in shares(len(paths)))
        self._painter = PseudoPainter.of(self._judged, PSEUDO_CLASSES, options.seed)

    def open(self, pack: Path) -> None:
        """Trials run on this pack from now on."""
        manifest = read_manifest(pack, PackManifest)
        self.embedder = Embedder.load(pack, manifest, self._options.backend, self._options.precision)
        self._banks: dict[str, MemoryBank] = {}
        self._maps: dict[str, _Maps] = {}

    def run(self, trial: Trial) -> _Scores:
        """Build what the trial needs and score good and painted pictures."""
        recipe = trial.recipe
        # Trials that differ in the formula of the score alone share their maps.
        key = repr(replace(recipe, score=recipe.score.model_copy(update={"top_fraction": 1.0})))
        if key not in self._maps:
            self._maps[key] = self._map(recipe)
        maps = self._maps[key]
        good, painted = ([mean_of_top_fraction(m, recipe.score.top_fraction) for m in ms] for ms in maps[:2])
        return _Scores(np.array(good), np.array(painted), maps.on_mark, maps.frame_ms)

    def _map(self, recipe: Recipe) -> _Maps:
        detection = self._detection(recipe)
        good = [detection.detect(e).patch_scores for e in self.embedder.embed_good(self._judged)]
        painted, on_mark = [], []
        for number in range(PSEUDO_CLASSES * PER_CLASS):
            _, frame_bgr, mask = self._painter.paint(number)
            painted.append(detection.detect(self.embedder.embed(frame_bgr)).patch_scores)
            on_mark.append(_peak_is_on(mask, painted[-1]))
        return _Maps(good, painted, np.array(on_mark), self._frame_ms(detection))

    def _detection(self, recipe: Recipe) -> Detection:
        key = repr(recipe.tap_weights)
        rate, rows, seed = self._options.false_reject_rate, self._options.bank_rows, self._options.seed
        if key not in self._banks:
            self._banks[key] = build_bank(self.embedder, self._fit, recipe.tap_weights, rows).bank
        return calibrate_detection(
            self.embedder, self._banks[key], recipe, self._fit, self._statistics, rate, seed, effort=EFFORT
        )

    def _frame_ms(self, detection: Detection) -> float:
        frame_bgr = read_picture(self._judged[0])
        times_ms = []
        for _ in range(TIMED_FRAMES):
            started_s = perf_counter()
            detection.detect(self.embedder.embed(frame_bgr))
            times_ms.append((perf_counter() - started_s) * 1e3)
        return float(np.median(times_ms))


def _compared(trial: Trial, scores: _Scores, default: _Scores, seed: int) -> TrialResult:
    gain, gain_error = gain_and_error(scores, default, seed) if scores is not default else (0.0, 0.0)
    return TrialResult(
        trial=trial,
        auroc=separation(scores.good, scores.painted),
        gain=gain,
        gain_error=gain_error,
        marks_found=float(scores.on_mark.mean()),
        frame_ms=scores.frame_ms,
    )


def _peak_is_on(mask: np.ndarray, patch_scores: np.ndarray) -> bool:
    h, w = patch_scores.shape
    painted = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA) > 0
    return bool(painted.ravel()[int(patch_scores.argmax())])
