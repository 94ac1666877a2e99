"""Good pictures -> all that says how strange a picture is: bank, place statistics, discriminator and thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from calibration.build_bank import build_bank
from calibration.good_pictures import Embedder, Track, no_track
from calibration.place_statistics import neutral_places, normalised_as_unseen, place_statistics
from calibration.thresholds import Threshold, choose_threshold
from calibration.train_discriminator import MAP_SIGMA_PATCHES, normalised_by_place, train_discriminator
from edge.anomaly import Anomaly, PlaceStatistics, detect, enlarge, mean_of_top_fraction
from edge.discriminator import Discriminator, DiscriminatorArrays
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank

Item = TypeVar("Item")

SCORE = ScoreFacts(top_fraction=0.01, map_sigma_patches=1.0)
HELD_OUT_FRACTION = 0.2
MAX_HELD_OUT = 300
# With fewer good pictures than this none is spared for good: each is scored by a bank built without it.
CROSS_FIT_BELOW = 50
FOLDS = 4


@dataclass(frozen=True)
class Thresholds:
    """Of the scores and of the map's cells."""

    image: Threshold
    pixel: Threshold


@dataclass(frozen=True)
class Detection:
    """What the device compares patches with. discriminator: None where no picture could be held out to judge it."""

    bank: MemoryBank
    places: PlaceStatistics
    discriminator: DiscriminatorArrays | None
    thresholds: Thresholds

    def detect(self, patch_embeddings: np.ndarray) -> Anomaly:
        """(N, D) -> what the device would see."""
        return detect(patch_embeddings, self.bank, self.places, SCORE, self._network)

    @cached_property
    def _network(self) -> Discriminator | None:
        return bound(self.discriminator, self.bank) if self.discriminator else None


def calibrate_detection(
    embedder: Embedder,
    bank: MemoryBank,
    tap_weights: dict[str, float],
    fit: Sequence[Path],
    held_out: Sequence[Path],
    false_reject_rate: float,
    seed: int,
    track: Track[Any] = no_track,
) -> Detection:
    """fit: what the bank was made from. held_out: unseen by it; empty for a small set, which is cross-fitted.

    tap_weights: that the bank searches with.
    """
    if not held_out:
        folds = track(range(FOLDS), "thresholds", FOLDS)
        maps = np.concatenate([_cross_fitted_maps(embedder, fit, tap_weights, bank.rows, fold) for fold in folds])
        thresholds = choose_thresholds(normalised_as_unseen(maps), false_reject_rate)
        return Detection(bank, place_statistics(maps), None, thresholds)
    maps = distance_maps(embedder, bank, track(held_out, "thresholds", len(held_out)))
    places = place_statistics(maps)

    def distance_only(patch_embeddings: np.ndarray) -> Anomaly:
        return detect(patch_embeddings, bank, places, SCORE)

    network = train_discriminator(embedder, bank, distance_only, fit, seed, track)
    logits = logit_maps(embedder, bank, places, network, track(held_out, "thresholds", len(held_out)))
    unseen = normalised_as_unseen(maps) + normalised_as_unseen(logits)
    network = normalised_by_place(network, logits)
    return Detection(bank, places, network, choose_thresholds(unseen, false_reject_rate))


def bound(arrays: DiscriminatorArrays, bank: MemoryBank) -> Discriminator:
    """The network as the device runs it."""
    return Discriminator(arrays, bank.arrays.vectors, MAP_SIGMA_PATCHES)


def split(paths: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """Pictures for the bank and pictures held out; a small set holds out none and is cross-fitted instead."""
    if len(paths) < CROSS_FIT_BELOW:
        return paths, ()
    held_out = min(round(HELD_OUT_FRACTION * len(paths)), MAX_HELD_OUT)
    return paths[:-held_out], paths[-held_out:]


def distance_maps(embedder: Embedder, bank: MemoryBank, paths: Iterable[Path]) -> np.ndarray:
    """(n, h, w) smoothed patch distances, not yet normalised by place."""
    neutral = neutral_places(embedder.embedding.grid_hw)
    return np.stack([detect(e, bank, neutral, SCORE).patch_scores for e in embedder.embed_paths(paths)])


def logit_maps(
    embedder: Embedder, bank: MemoryBank, places: PlaceStatistics, arrays: DiscriminatorArrays, paths: Iterable[Path]
) -> np.ndarray:
    """(n, h, w) smoothed logits, not yet normalised by place."""
    network = bound(arrays, bank)
    seen = (detect(e, bank, places, SCORE) for e in embedder.embed_paths(paths))
    return np.stack([network.patch_scores(a.standardised, a.nearest_rows, a.distances, a.patch_scores) for a in seen])


def choose_thresholds(unseen_maps: np.ndarray, false_reject_rate: float) -> Thresholds:
    """(n, h, w) patch scores of good pictures, as those of pictures nothing was fitted to -> both thresholds."""
    image_scores = np.array([mean_of_top_fraction(m, SCORE.top_fraction) for m in unseen_maps])
    map_peaks = np.array([enlarge(m).max() for m in unseen_maps])
    return Thresholds(choose_threshold(image_scores, false_reject_rate), choose_threshold(map_peaks, false_reject_rate))


def _cross_fitted_maps(
    embedder: Embedder, paths: Sequence[Path], tap_weights: dict[str, float], rows: int, fold: int
) -> np.ndarray:
    """Maps of a quarter of the pictures, by a bank of as many rows built without them."""
    rest = [path for i, path in enumerate(paths) if i % FOLDS != fold]
    return distance_maps(embedder, build_bank(embedder, rest, tap_weights, rows).bank, paths[fold::FOLDS])
