"""The paper's pseudo-classes: a texture blended into good pictures where Perlin noise is high, as residual maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from calibration.good_pictures import Embedder, Track, no_track
from calibration.paper_textures import paper_textures
from calibration.part_mask import estimate_part_mask
from calibration.perlin import perlin_noise
from edge.anomaly import Anomaly
from edge.errors import CalibrationError
from edge.inspector import Inspector
from edge.memory_bank import MemoryBank
from edge.pictures import FrameBgr
from edge.preprocess import resize_square

Residual = Literal["aligned", "nearest"]
ResidualMaps = npt.NDArray[np.float16]

PICTURES_PER_CLASS = 12
CLEAN_PICTURES = 40
MAX_CELLS_POWER = 5  # Perlin cells along a side: 2^0 .. 2^5
NOISE_THRESHOLD = 0.35
MASK_AREA = (0.1, 0.4)  # of the picture, before the background is taken off
MAX_BETA = 0.5  # share of the good picture that shows through


@dataclass(frozen=True)
class PseudoMaps:
    """maps: (n, h, w, D) float16 residuals of the standardised features. labels: (n,) texture number."""

    maps: ResidualMaps
    labels: npt.NDArray[np.int64]


def nearest_residual_map(anomaly: Anomaly, bank: MemoryBank) -> ResidualMaps:
    """(h, w, D): each patch minus the bank row nearest to it, standardised features."""
    residual = anomaly.standardised - bank.arrays.vectors[anomaly.nearest_rows]
    return np.asarray(residual.reshape(*anomaly.patch_scores.shape, -1), dtype=np.float16)


def make_pseudo_maps(
    inspector: Inspector,
    good_frames: Sequence[FrameBgr],
    seed: int,
    residual: Residual = "aligned",
    track: Track[Any] = no_track,
) -> PseudoMaps:
    """PICTURES_PER_CLASS pictures of each texture, painted on at most CLEAN_PICTURES good ones.

    residual: "aligned" subtracts the same picture without the texture, as published; "nearest" the nearest bank rows,
    as it is done with real pictures. CalibrationError without a good picture.
    """
    if len(good_frames) == 0:
        raise CalibrationError("no good pictures to paint pseudo-defects on; the paper's method needs at least one")
    rng = np.random.default_rng(seed)
    size_px = inspector.manifest.embedding.input_size
    chosen = rng.permutation(len(good_frames))[:CLEAN_PICTURES]
    frames = [resize_square(good_frames[i], size_px) for i in chosen]
    part = _enlarge(estimate_part_mask(frames), size_px)
    textures = paper_textures(size_px, seed)
    labels = np.repeat(np.arange(len(textures)), PICTURES_PER_CLASS)
    residuals = Residuals(inspector, frames, residual)
    maps = np.empty((len(labels), *residuals.shape), dtype=np.float16)
    for number in track(range(len(labels)), "pseudo-classes of the paper", len(labels)):
        picked = int(rng.integers(len(frames)))
        synthetic = paint_texture(frames[picked], textures[labels[number]], part, rng)
        maps[number] = residuals.of(synthetic, picked)
    return PseudoMaps(maps, labels)


def paint_texture(frame_bgr: FrameBgr, texture: FrameBgr, part: np.ndarray, rng: np.random.Generator) -> FrameBgr:
    """frame, texture: (S, S, 3) uint8; part: (S, S) bool, of which something is always painted on."""
    mask = perlin_mask(part.shape[0], rng) & part
    while not mask.any():
        mask = perlin_mask(part.shape[0], rng) & part
    beta = rng.uniform(0, MAX_BETA)
    blended = np.round(beta * frame_bgr + (1 - beta) * texture)
    return np.where(mask[..., np.newaxis], blended, frame_bgr).astype(np.uint8)


def perlin_mask(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(size_px, size_px) bool, True on MASK_AREA of the picture."""
    while True:
        cells_hw = tuple(2 ** rng.integers(0, MAX_CELLS_POWER + 1, 2))
        mask = perlin_noise((size_px, size_px), cells_hw, rng) > NOISE_THRESHOLD
        if MASK_AREA[0] < mask.mean() < MASK_AREA[1]:
            return np.asarray(mask)


class Residuals:
    """Synthetic pictures -> residual maps against the clean pictures they were painted on, or against the bank."""

    def __init__(self, inspector: Inspector, clean: Sequence[FrameBgr], residual: Residual) -> None:
        self._embedder = Embedder(inspector.backbone, inspector.manifest.embedding)
        self._bank = inspector.bank
        self._clean = [self._features(frame) for frame in clean] if residual == "aligned" else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, D) of a map."""
        embedding = self._embedder.embedding
        return (*embedding.grid_hw, embedding.dim)

    def of(self, synthetic: FrameBgr, picked: int) -> ResidualMaps:
        """(S, S, 3) uint8, and the number of the clean picture below it -> (h, w, D)."""
        features = self._features(synthetic)
        good = (
            self._bank.arrays.vectors[self._bank.nearest(features)[1]] if self._clean is None else self._clean[picked]
        )
        return np.asarray((features - good).reshape(self.shape), dtype=np.float16)

    def _features(self, frame_bgr: FrameBgr) -> npt.NDArray[np.float32]:
        return self._bank.standardise(self._embedder.embed(frame_bgr))


def _enlarge(part: np.ndarray, size_px: int) -> np.ndarray:
    return cv2.resize(part.astype(np.uint8), (size_px, size_px), interpolation=cv2.INTER_NEAREST).astype(bool)
