"""Good pictures -> all that says how strange a picture is: bank, place statistics, discriminator and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np

from calibration.build_bank import build_bank
from calibration.good_pictures import Embedder, GoodSource, Track, embedded_at, no_track, read_good
from calibration.part_mask import estimate_part_mask
from calibration.place_statistics import neutral_places, normalised_as_unseen, place_statistics
from calibration.recipe import SCORE, Recipe
from calibration.thresholds import Threshold, choose_threshold
from calibration.train_discriminator import (
    FULL_EFFORT,
    MAP_SIGMA_PATCHES,
    PRECISION,
    Detect,
    Effort,
    normalised_by,
    train_discriminator,
)
from edge.anomaly import Anomaly, PlaceStatistics, detect, enlarge, mean_of_top_fraction
from edge.discriminator import Discriminator, DiscriminatorArrays
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank, PlaceYx
from edge.view import WHOLE

Item = TypeVar("Item")

HELD_OUT_FRACTION = 0.2
MAX_HELD_OUT = 300
# With fewer good pictures than this none is spared for good: each is scored by a bank built without it.
CROSS_FIT_BELOW = 50
FOLDS = 4
PART_MASK_PICTURES = 16
# A place whose spread is this large scores nothing, whatever it shows.
NEVER_STRANGE_STD = 1e9


@dataclass(frozen=True)
class Thresholds:
    """Of the scores and of the map's cells."""

    image: Threshold
    pixel: Threshold


@dataclass(frozen=True)
class Detection:
    """What the device compares patches with. discriminator: None where no picture could be held out to judge it."""

    bank: MemoryBank
    recipe: Recipe
    places: PlaceStatistics
    discriminator: DiscriminatorArrays | None
    thresholds: Thresholds

    def detect(self, patch_embeddings: np.ndarray, place_yx: PlaceYx = WHOLE) -> Anomaly:
        """(N, D) of a piece at a place -> what the device would see."""
        return detect(patch_embeddings, self.bank.near(place_yx), self.places, self.recipe.score, self._network)

    @cached_property
    def _network(self) -> Discriminator | None:
        return bound(self.discriminator, self.bank) if self.discriminator else None


def calibrate_detection(
    embedder: Embedder,
    bank: MemoryBank,
    recipe: Recipe,
    fit: Sequence[GoodSource],
    held_out: Sequence[GoodSource],
    false_reject_rate: float,
    seed: int,
    track: Track[Any] = no_track,
    effort: Effort = FULL_EFFORT,
    keep: np.ndarray | None = None,
    statistics: Callable[[np.ndarray], PlaceStatistics] = place_statistics,
) -> Detection:
    """fit: what the bank was made from. held_out: unseen by it; empty for a small set, which is cross-fitted.
    keep: (h, w) bool, the patches that are inspected; None for all. statistics: maps (n, h, w) -> what is usual where.

    What is learned is learned by exact search, so that it does not hang on which search was the fastest on this
    machine; the thresholds are of what the device will see.
    """
    score, part = recipe.score, part_grid(embedder, fit) if recipe.part_only else None
    if keep is not None:
        part = keep if part is None else keep & part
    exact = bank.searched_exactly()
    if held_out:
        maps = distance_maps(embedder, exact, track(held_out, "thresholds", len(held_out)), score)
        unseen = normalised_as_unseen(maps if bank.is_exact else distance_maps(embedder, bank, held_out, score))
    else:
        folds = track(range(FOLDS), "thresholds", FOLDS)
        maps = np.concatenate([_cross_fitted_maps(embedder, fit, recipe, bank.rows, fold) for fold in folds])
        unseen = normalised_as_unseen(maps)
    places = on_part(statistics(maps), part)
    network = None
    if held_out and recipe.discriminator:
        distance_only = distance_detector(exact, places, score)
        network = train_discriminator(embedder, exact, distance_only, fit, seed, track, effort)
        watched = track(held_out, "thresholds", len(held_out))
        logits = logit_maps(embedder, distance_only, bound(network, exact), watched)
        logit_places = on_part(statistics(logits), part)
        if not bank.is_exact:
            as_on_device = distance_detector(bank, places, score)
            logits = logit_maps(embedder, as_on_device, bound(network, bank), held_out)
        unseen = unseen + normalised_as_unseen(logits)
        network = normalised_by(network, logit_places)
    if part is not None:
        unseen = unseen * part
    return Detection(bank, recipe, places, network, choose_thresholds(unseen, false_reject_rate, score))


def part_grid(embedder: Embedder, sources: Sequence[GoodSource]) -> np.ndarray:
    """(h, w) bool, the patches that lie on the part; all of them when the pictures do not tell."""
    part = estimate_part_mask([read_good(source) for source in sources[:PART_MASK_PICTURES]])
    h, w = embedder.embedding.grid_hw
    return np.asarray(cv2.resize(part.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA) > 0)


def on_part(places: PlaceStatistics, part: np.ndarray | None) -> PlaceStatistics:
    """The same, but off the part nothing is ever strange."""
    if part is None:
        return places
    return PlaceStatistics(places.mean, np.where(part, places.std, np.float32(NEVER_STRANGE_STD)))


def bound(arrays: DiscriminatorArrays, bank: MemoryBank) -> Discriminator:
    """The network as the device runs it."""
    return Discriminator(arrays, bank.arrays.vectors, MAP_SIGMA_PATCHES, PRECISION)


def split(paths: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """Pictures for the bank and pictures held out; a small set holds out none and is cross-fitted instead."""
    if len(paths) < CROSS_FIT_BELOW:
        return paths, ()
    held_out = min(round(HELD_OUT_FRACTION * len(paths)), MAX_HELD_OUT)
    return paths[:-held_out], paths[-held_out:]


def distance_maps(
    embedder: Embedder, bank: MemoryBank, paths: Iterable[GoodSource], score: ScoreFacts = SCORE
) -> np.ndarray:
    """(n, h, w) smoothed patch distances, not yet normalised by place."""
    seen_by = distance_detector(bank, neutral_places(embedder.embedding.grid_hw), score)
    return np.stack([seen_by(e, place).patch_scores for e, place in embedded_at(embedder, paths)])


def distance_detector(bank: MemoryBank, places: PlaceStatistics, score: ScoreFacts) -> Detect:
    """What the bank alone says of a piece at a place."""
    return lambda embeddings, place_yx: detect(embeddings, bank.near(place_yx), places, score)


def logit_maps(
    embedder: Embedder, distance_only: Detect, network: Discriminator, paths: Iterable[GoodSource]
) -> np.ndarray:
    """(n, h, w) smoothed logits of a network that is not yet normalised by place."""
    seen = (distance_only(e, place) for e, place in embedded_at(embedder, paths))
    return np.stack([network.patch_scores(a.standardised, a.nearest_rows, a.distances, a.patch_scores) for a in seen])


def choose_thresholds(unseen_maps: np.ndarray, false_reject_rate: float, score: ScoreFacts = SCORE) -> Thresholds:
    """(n, h, w) patch scores of good pictures, as those of pictures nothing was fitted to -> both thresholds."""
    image_scores = np.array([mean_of_top_fraction(m, score.top_fraction) for m in unseen_maps])
    map_peaks = np.array([enlarge(m).max() for m in unseen_maps])
    return Thresholds(choose_threshold(image_scores, false_reject_rate), choose_threshold(map_peaks, false_reject_rate))


def _cross_fitted_maps(
    embedder: Embedder, paths: Sequence[GoodSource], recipe: Recipe, rows: int, fold: int
) -> np.ndarray:
    """Maps of a quarter of the pictures, by a bank of as many rows built without them."""
    rest = [path for i, path in enumerate(paths) if i % FOLDS != fold]
    bank = build_bank(embedder, rest, recipe.tap_weights, rows).bank
    return distance_maps(embedder, bank, paths[fold::FOLDS], recipe.score)
