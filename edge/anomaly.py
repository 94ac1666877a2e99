"""Patch distances -> anomaly score, anomaly map and odd regions (PatchCore's second half)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.discriminator import Discriminator
from edge.errors import UNREADABLE_NPZ, BundleError
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# The map is drawn this much finer than the patch grid; finer shows nothing that the features know.
MAP_SCALE = 4


@dataclass(frozen=True)
class PlaceStatistics:
    """What good parts show at each place: mean and standard deviation of the smoothed patch distance, (h, w) each.

    A part's rim varies more than its middle; without this the rim is the strangest place of every picture.
    """

    mean: Floats
    std: Floats

    def save(self, path: Path) -> None:
        """Write without pickle."""
        np.savez(path, mean=self.mean, std=self.std)

    @classmethod
    def load(cls, path: Path, grid_hw: tuple[int, int]) -> PlaceStatistics:
        """Read without pickle; BundleError when the arrays do not fit the patch grid."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                places = cls(stored["mean"], stored["std"])
        except UNREADABLE_NPZ as exc:
            raise BundleError(f"{path}: not place statistics ({exc}); calibrate again") from exc
        if places.mean.shape != grid_hw or places.std.shape != grid_hw or not (places.std > 0).all():
            raise BundleError(f"{path}: does not fit a patch grid of {grid_hw}; calibrate again")
        return places


@dataclass(frozen=True)
class ScoreMap:
    """How odd a picture is, and where.

    patch_scores: (h, w), in standard deviations over what good parts show at that place: of the smoothed distance, plus
    the discriminator's when there is one. anomaly_map: the same drawn MAP_SCALE times finer, (h', w') over the whole
    frame. anomaly_score: mean of the largest patch scores; grows with strangeness.
    """

    patch_scores: Floats
    anomaly_map: Floats
    anomaly_score: float


@dataclass(frozen=True)
class Neighbours:
    """Patches of a picture and the good ones that are most like them.

    standardised: (N, D). nearest_rows: (N,) bank rows. distances: (N,) to them.
    """

    standardised: Floats
    nearest_rows: Ints
    distances: Floats

    @classmethod
    def of(cls, patch_embeddings: Floats, bank: MemoryBank) -> Neighbours:
        """(N, D) patch embeddings, looked up in the bank."""
        standardised = bank.standardise(patch_embeddings)
        distances, rows = bank.nearest(standardised)
        return cls(standardised, rows, distances)


@dataclass(frozen=True)
class Anomaly(Neighbours, ScoreMap):
    """What the bank says of a picture that went through the backbone as one."""


def detect(
    patch_embeddings: Floats,
    bank: MemoryBank,
    places: PlaceStatistics,
    score: ScoreFacts,
    discriminator: Discriminator | None = None,
) -> Anomaly:
    """(N, D) patch embeddings -> Anomaly."""
    return judge(Neighbours.of(patch_embeddings, bank), places, score, discriminator)


def judge(
    found: Neighbours, places: PlaceStatistics, score: ScoreFacts, discriminator: Discriminator | None = None
) -> Anomaly:
    """Distances -> map and score."""
    smoothed = smooth(found.distances.reshape(places.mean.shape), score.map_sigma_patches)
    patch_scores = (smoothed - places.mean) / places.std
    if discriminator is not None:
        patch_scores = patch_scores + discriminator.patch_scores(
            found.standardised, found.nearest_rows, found.distances, patch_scores
        )
    return Anomaly(
        standardised=found.standardised,
        nearest_rows=found.nearest_rows,
        distances=found.distances,
        patch_scores=patch_scores,
        anomaly_map=enlarge(patch_scores),
        anomaly_score=mean_of_top_fraction(patch_scores, score.top_fraction),
    )


def mean_of_top_fraction(patch_scores: Floats, fraction: float) -> float:
    """Mean of the largest `fraction` of the patches, at least one; NaN if any patch is NaN."""
    return mean_of_largest(patch_scores, max(1, round(fraction * patch_scores.size)))


def mean_of_largest(patch_scores: Floats, count: int) -> float:
    """Mean of the `count` largest patches; NaN if any patch is NaN."""
    top = np.partition(patch_scores.ravel(), patch_scores.size - count)[-count:]  # NaN sorts last: it is among them
    return float(top.mean())


def smooth(patch_distances: Floats, sigma_patches: float) -> Floats:
    """(h, w) distances averaged with a Gaussian of `sigma_patches`: neighbours overlap, so they should agree."""
    if sigma_patches == 0:
        return patch_distances
    return np.asarray(cv2.GaussianBlur(patch_distances, (0, 0), sigma_patches), dtype=np.float32)


def enlarge(patch_scores: Floats) -> Floats:
    """(h, w) -> (h * MAP_SCALE, w * MAP_SCALE), bilinear."""
    h, w = patch_scores.shape
    size_wh = (w * MAP_SCALE, h * MAP_SCALE)
    return np.asarray(cv2.resize(patch_scores, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
