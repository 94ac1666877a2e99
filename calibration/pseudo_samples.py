"""Pseudo-defects on good pictures of the product: what its odd patches and odd regions look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.good_pictures import Embedder, Track, no_track
from calibration.part_mask import estimate_part_mask
from calibration.pseudo_defects import draw_pseudo_classes
from edge.anomaly import PlaceStatistics, detect
from edge.descriptor import describe
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank
from edge.pictures import FrameBgr, read_picture
from edge.regions import find_regions

PSEUDO_CLASSES = 24
PER_CLASS = 4
PART_MASK_PICTURES = 16


@dataclass(frozen=True)
class PseudoSample:
    """One painted picture. embeddings: (N, D) backbone units. odd: (N,) bool, patches that were painted on."""

    label: int
    embeddings: np.ndarray
    odd: np.ndarray


def make_pseudo_samples(
    embedder: Embedder, paths: Sequence[Path], seed: int, track: Track[Any] = no_track
) -> list[PseudoSample]:
    """PSEUDO_CLASSES x PER_CLASS painted pictures of the product, embedded."""
    part = estimate_part_mask([read_picture(path) for path in paths[:PART_MASK_PICTURES]])
    classes = draw_pseudo_classes(PSEUDO_CLASSES, seed)
    rng = np.random.default_rng(seed)
    samples = []
    for number in track(range(len(classes) * PER_CLASS), "pseudo-defects", len(classes) * PER_CLASS):
        label = number % len(classes)
        frame_bgr = read_picture(paths[int(rng.integers(len(paths)))])
        painted, mask = classes[label].apply(frame_bgr, rng, _fit(part, frame_bgr))
        samples.append(PseudoSample(label, embedder.embed(painted), _to_patches(mask, embedder.embedding.grid_hw)))
    return samples


def odd_patches(samples: Sequence[PseudoSample], bank: MemoryBank) -> np.ndarray:
    """(n, D) standardised patches that lie on a painted mark."""
    return np.concatenate([bank.standardise(sample.embeddings[sample.odd]) for sample in samples])


def describe_samples(
    samples: Sequence[PseudoSample],
    bank: MemoryBank,
    places: PlaceStatistics,
    score: ScoreFacts,
    pixel_threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (P, F) of the strongest region of each picture, as the device would find it, and labels (P,)."""
    descriptors = []
    for sample in samples:
        anomaly = detect(sample.embeddings, bank, places, score)
        region = find_regions(anomaly.anomaly_map, pixel_threshold, at_least_one=True)[0]
        descriptors.append(describe(anomaly, region, bank))
    return np.stack(descriptors), np.array([sample.label for sample in samples])


def _fit(part: np.ndarray, frame_bgr: FrameBgr) -> np.ndarray:
    size_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
    return cv2.resize(part.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)


def _to_patches(mask: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    cover = cv2.resize(mask.astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)
    return (cover > 0.25).ravel()
