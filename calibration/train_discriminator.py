"""Good pictures and marks painted on them -> the product's discriminator, in plain numpy: no torch, seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from calibration.good_pictures import Embedder, GoodSource, Track, embedded_at, no_track, place_of
from calibration.pseudo_samples import PseudoPainter
from edge.anomaly import Anomaly, PlaceStatistics
from edge.discriminator import DiscriminatorArrays, distance_features
from edge.manifest import DiscriminatorFacts, Precision
from edge.memory_bank import MemoryBank, PlaceYx

HIDDEN_UNITS = 128
MAP_SIGMA_PATCHES = 0.7
PRECISION: Precision = "int8"  # on the device; it is taught in float32

PER_CLASS = 8
# Bounds what is held in memory, however many good pictures there are.
MAX_GOOD_PICTURES = 500
# Patches of one picture. Half of the good ones are those that look odd already: they are what is rejected falsely.
ODD_PATCHES, UNPAINTED_PATCHES, GOOD_PATCHES = 80, 30, 400
PAINTED_SHARE = 0.3  # of a patch's area, from which it counts as odd

BATCH = 1024
LEARNING_RATE, WARM_UP_SHARE = 5e-3, 0.3
WEIGHT_DECAY, DROPOUT = 1e-3, 0.1
ADAM_MEANS, ADAM_EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Effort:
    """How long to teach. pseudo_classes: each painted PER_CLASS times."""

    pseudo_classes: int = 96
    epochs: int = 16

    @property
    def pseudo_pictures(self) -> int:
        """Painted pictures in all."""
        return self.pseudo_classes * PER_CLASS


FULL_EFFORT = Effort()

# patch embeddings (N, D) of a piece and where it lies -> the distance map, place-normalised
Detect = Callable[[np.ndarray, PlaceYx], Anomaly]


@dataclass(frozen=True)
class PatchSamples:
    """Patches to learn from, of n in all.

    features: (n, D) float16, standardised. rows: (n,) nearest rows of the bank. distances: (n, DISTANCE_FEATURES).
    odd: (n,) float32, 1 where painted.
    """

    features: np.ndarray
    rows: np.ndarray
    distances: np.ndarray
    odd: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[PatchSamples]) -> PatchSamples:
        """All parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def inputs(self, bank_vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """(b, 2 D + DISTANCE_FEATURES) float32 of the chosen ones: features, residuals, distances."""
        features = self.features[chosen].astype(np.float32)
        residuals = features - bank_vectors[self.rows[chosen]]
        return np.concatenate([features, residuals, self.distances[chosen]], axis=1)


def train_discriminator(
    embedder: Embedder,
    bank: MemoryBank,
    detect: Detect,
    paths: Sequence[GoodSource],
    seed: int,
    track: Track[Any] = no_track,
    effort: Effort = FULL_EFFORT,
) -> DiscriminatorArrays:
    """Teach a network on `paths`, the pictures the bank was made from; its map is not yet normalised by place.

    detect: the distance map of embeddings, place-normalised.
    """
    paths = paths[:MAX_GOOD_PICTURES]
    samples = PatchSamples.joined(list(_sampled_pictures(embedder, detect, paths, seed, track, effort)))
    weights = train_network(
        lambda chosen: samples.inputs(bank.arrays.vectors, chosen),
        samples.odd,
        HIDDEN_UNITS,
        effort.epochs,
        seed,
        track,
    )
    D = samples.features.shape[1]
    first, bias, output = weights
    h, w = embedder.embedding.grid_hw
    return DiscriminatorArrays(
        patch=first[:D],
        residual=first[D : 2 * D],
        distance=first[2 * D :],
        bias=bias,
        output=output,
        mean=np.zeros((h, w), np.float32),
        std=np.ones((h, w), np.float32),
    )


def discriminator_facts(good_pictures: int) -> DiscriminatorFacts:
    """What a network taught on so many good pictures is."""
    return DiscriminatorFacts(
        hidden_units=HIDDEN_UNITS,
        precision=PRECISION,
        map_sigma_patches=MAP_SIGMA_PATCHES,
        good_pictures=min(good_pictures, MAX_GOOD_PICTURES),
        pseudo_pictures=FULL_EFFORT.pseudo_pictures,
    )


def normalised_by(arrays: DiscriminatorArrays, places: PlaceStatistics) -> DiscriminatorArrays:
    """places: of maps of pictures that were not trained on, made by `arrays` before normalisation."""
    return replace(arrays, mean=places.mean, std=places.std)


def train_network(
    inputs: Callable[[np.ndarray], np.ndarray],
    odd: np.ndarray,
    hidden_units: int,
    epochs: int,
    seed: int,
    track: Track[Any] = no_track,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logistic regression on one layer of rectified units, by AdamW: weights (F, H1), bias (H1,), output (H1,).

    inputs: indices (b,) -> (b, F) float32. odd: (n,) 1 or 0. One thread and one seed give the same bytes.
    """
    rng = np.random.default_rng(seed)
    batch = min(BATCH, len(odd))
    F = inputs(np.arange(1)).shape[1]
    network = _Network(F, hidden_units, rng)
    steps = epochs * (len(odd) // batch)
    orders = (rng.permutation(len(odd)) for _ in range(epochs))
    for number, chosen in enumerate(track(_batches(orders, batch), "discriminator", steps)):
        network.step(inputs(chosen), odd[chosen], learning_rate(number / steps), rng)
    return network.weights, network.bias, network.output


def learning_rate(progress: float) -> float:
    """One cycle: up to LEARNING_RATE over the first WARM_UP_SHARE of the steps, then down to nothing, by cosines."""
    if progress < WARM_UP_SHARE:
        return float(LEARNING_RATE * (0.04 + 0.96 * (0.5 - 0.5 * np.cos(np.pi * progress / WARM_UP_SHARE))))
    return float(LEARNING_RATE * (0.5 + 0.5 * np.cos(np.pi * (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE))))


class _Network:
    """One hidden layer and AdamW's running means."""

    def __init__(self, inputs: int, hidden_units: int, rng: np.random.Generator) -> None:
        self.weights = rng.normal(0, np.sqrt(2 / inputs), (inputs, hidden_units)).astype(np.float32)
        self.bias = np.zeros(hidden_units, np.float32)
        self.output = rng.normal(0, np.sqrt(2 / hidden_units), hidden_units).astype(np.float32)
        self._parameters = [self.weights, self.bias, self.output]
        self._means = [(np.zeros_like(p), np.zeros_like(p)) for p in self._parameters]
        self._steps = 0

    def step(self, inputs: np.ndarray, odd: np.ndarray, rate: float, rng: np.random.Generator) -> None:
        """One step down the gradient of the binary cross-entropy of a batch."""
        hidden = inputs @ self.weights + self.bias
        alive = (hidden > 0) * (rng.random(hidden.shape, dtype=np.float32) >= DROPOUT) / np.float32(1 - DROPOUT)
        hidden *= alive
        logits = np.clip(hidden @ self.output, -60, 60)
        error = ((1 / (1 + np.exp(-logits)) - odd) / len(odd)).astype(np.float32)
        behind = error[:, np.newaxis] * self.output * alive
        self._descend([inputs.T @ behind, behind.sum(axis=0), hidden.T @ error], rate)

    def _descend(self, gradients: Sequence[np.ndarray], rate: float) -> None:
        self._steps += 1
        keep_mean, keep_square = ADAM_MEANS
        for parameter, gradient, (mean, square) in zip(self._parameters, gradients, self._means, strict=True):
            mean += (1 - keep_mean) * (gradient - mean)
            square += (1 - keep_square) * (gradient**2 - square)
            length = np.sqrt(square / (1 - keep_square**self._steps)) + ADAM_EPSILON
            parameter -= rate * (mean / (1 - keep_mean**self._steps) / length + WEIGHT_DECAY * parameter)


def _sampled_pictures(
    embedder: Embedder, detect: Detect, paths: Sequence[GoodSource], seed: int, track: Track[Any], effort: Effort
) -> Iterator[PatchSamples]:
    """Good pictures, then painted ones."""
    rng = np.random.default_rng(seed)
    for embeddings, place in track(embedded_at(embedder, paths), "good patches", len(paths)):
        anomaly = detect(embeddings, place)
        yield _chosen(anomaly, good_patches(anomaly.patch_scores, rng), 0)
    painter = PseudoPainter.of(paths, effort.pseudo_classes, seed)
    for number in track(range(effort.pseudo_pictures), "painted patches", effort.pseudo_pictures):
        _, painted, mask = painter.paint(number)
        anomaly = detect(embedder.embed(painted), place_of(painter.source(number)))
        cover = _cover(mask, embedder.embedding.grid_hw)
        yield _chosen(anomaly, rng.permutation(np.flatnonzero(cover > PAINTED_SHARE))[:ODD_PATCHES], 1)
        yield _chosen(anomaly, rng.permutation(np.flatnonzero(cover == 0))[:UNPAINTED_PATCHES], 0)


def good_patches(patch_scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of GOOD_PATCHES patches at most: half at random, half the strangest; some are both."""
    half = min(GOOD_PATCHES // 2, patch_scores.size)
    strangest = np.argsort(-patch_scores.ravel(), kind="stable")[:half]
    return np.concatenate([rng.permutation(patch_scores.size)[:half], strangest])


def _chosen(anomaly: Anomaly, patches: np.ndarray, odd: int) -> PatchSamples:
    distances = distance_features(anomaly.distances, anomaly.patch_scores)
    return PatchSamples(
        features=anomaly.standardised[patches].astype(np.float16),
        rows=anomaly.nearest_rows[patches],
        distances=distances[patches],
        odd=np.full(len(patches), odd, dtype=np.float32),
    )


def _batches(orders: Iterator[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    for order in orders:
        for start in range(0, len(order) - batch + 1, batch):
            yield order[start : start + batch]


def _cover(mask: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> (N,) share of each patch that was painted."""
    return np.asarray(cv2.resize(mask.astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)).ravel()
