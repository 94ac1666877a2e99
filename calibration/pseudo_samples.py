"""Pseudo-defects on good pictures of the product: what its odd patches and odd regions look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from calibration.good_pictures import Embedder, GoodSource, Track, no_track, place_of, read_good
from calibration.part_mask import estimate_part_mask
from calibration.pseudo_defects import PseudoClass, draw_pseudo_classes
from calibration.whitening import fit_whitening
from edge.anomaly import Anomaly
from edge.descriptor import Whitening, pooling_weights, region_views, support_views
from edge.memory_bank import MemoryBank, PlaceYx
from edge.pictures import FrameBgr
from edge.regions import OddRegion, find_regions
from edge.second_look import SecondLook
from edge.view import WHOLE

Detect = Callable[
    [np.ndarray, PlaceYx], Anomaly
]  # patch embeddings (N, D) of a piece, and where it lies -> what the device would see

Views = tuple[np.ndarray, np.ndarray]  # core (2 D,) and second look (D',) of a region, before whitening

PSEUDO_CLASSES = 24
PER_CLASS = 4
PART_MASK_PICTURES = 16
# Good pictures that each painted region is laid on, to see what it would show had nothing been painted.
GOOD_PER_REGION = 2


@dataclass(frozen=True)
class PseudoPainter:
    """Paints picture `number` the same way every time, so that no painted frame needs to be kept."""

    sources: Sequence[GoodSource]
    classes: Sequence[PseudoClass]
    part: np.ndarray
    seed: int

    @classmethod
    def of(cls, sources: Sequence[GoodSource], count: int, seed: int) -> PseudoPainter:
        """`count` pseudo-classes for the product that `sources` show."""
        part = estimate_part_mask([read_good(source) for source in sources[:PART_MASK_PICTURES]])
        return cls(sources, draw_pseudo_classes(count, seed), part, seed)

    def paint(self, number: int) -> tuple[int, FrameBgr, np.ndarray]:
        """Class number, painted picture, and the pixels (H, W) bool that changed."""
        rng = np.random.default_rng((self.seed, number))
        label = number % len(self.classes)
        frame_bgr = read_good(self.sources[int(rng.integers(len(self.sources)))])  # the first draw, as in `source`
        return label, *self.classes[label].apply(frame_bgr, rng, _fit(self.part, frame_bgr))

    def source(self, number: int) -> GoodSource:
        """What picture `number` is painted on."""
        return self.sources[int(np.random.default_rng((self.seed, number)).integers(len(self.sources)))]


@dataclass(frozen=True)
class PseudoSample:
    """One painted picture. embeddings: (N, D) backbone units. odd: (N,) bool, patches that were painted on."""

    number: int
    label: int
    embeddings: np.ndarray
    odd: np.ndarray


def make_pseudo_samples(embedder: Embedder, painter: PseudoPainter, track: Track[Any] = no_track) -> list[PseudoSample]:
    """PER_CLASS pictures of each of the painter's classes, embedded."""
    count = len(painter.classes) * PER_CLASS
    samples = []
    for number in track(range(count), "pseudo-defects", count):
        label, painted, mask = painter.paint(number)
        odd = _to_patches(mask, embedder.embedding.grid_hw)
        samples.append(PseudoSample(number, label, embedder.embed(painted), odd))
    return samples


def odd_patches(samples: Sequence[PseudoSample], bank: MemoryBank) -> np.ndarray:
    """(n, D) standardised patches that lie on a painted mark."""
    return np.concatenate([bank.standardise(sample.embeddings[sample.odd]) for sample in samples])


@dataclass(frozen=True)
class DescribedSamples:
    """Each painted picture's strongest region. descriptors: (P, F) as the device asks about it; labels: (P,).

    supports: (P, F) as enrolment keeps it.
    """

    descriptors: np.ndarray
    supports: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class RegionReader:
    """Finds and reads odd regions as the device would, all but the whitening, which is what they are read for."""

    embedder: Embedder
    detect: Detect
    pixel_threshold: float
    bank: MemoryBank
    second_look: SecondLook

    def strongest_region(self, anomaly: Anomaly) -> OddRegion:
        """The region that the device would name."""
        return find_regions(anomaly.anomaly_map, self.pixel_threshold, at_least_one=True)[0]

    def views(self, anomaly: Anomaly, region: OddRegion, weights: np.ndarray, frame_bgr: FrameBgr) -> Views:
        """Core and second look of a region, see `edge.descriptor.region_views`."""
        return region_views(anomaly, region, weights, frame_bgr, self.bank, self.second_look)

    def support_views(self, anomaly: Anomaly, region: OddRegion, weights: np.ndarray, frame_bgr: FrameBgr) -> Views:
        """Core (2 D,) and the looks (L, D') of a support, see `edge.descriptor.support_views`."""
        return support_views(anomaly, region, weights, frame_bgr, self.bank, self.second_look)

    def views_of_good(
        self, region: OddRegion, weights: np.ndarray, frame_bgr: FrameBgr, place_yx: PlaceYx = WHOLE
    ) -> Views:
        """The same region and weights laid on a good picture, or a piece of one that lies at place_yx."""
        return self.views(self.detect(self.embedder.embed(frame_bgr), place_yx), region, weights, frame_bgr)


def describe_samples(
    samples: Sequence[PseudoSample], painter: PseudoPainter, reader: RegionReader, track: Track[Any] = no_track
) -> tuple[Whitening, DescribedSamples]:
    """The product's whitening, and the painted pictures described with it."""
    rng = np.random.default_rng(painter.seed)
    odd, good = [], []
    for sample in track(samples, "typing", len(samples)):
        anomaly = reader.detect(sample.embeddings, place_of(painter.source(sample.number)))
        region = reader.strongest_region(anomaly)
        weights = pooling_weights(anomaly.patch_scores, region)
        odd.append(reader.support_views(anomaly, region, weights, painter.paint(sample.number)[1]))
        for number in rng.integers(len(painter.sources), size=GOOD_PER_REGION):
            source = painter.sources[number]
            good.append(reader.views_of_good(region, weights, read_good(source), place_of(source)))
    whitening, (core, looks) = fit_whitening(*stacked(good)), stacked(odd)
    return whitening, DescribedSamples(
        descriptors=whitening.apply(core, looks[:, 0]),
        supports=whitening.apply_to_support(core, looks),
        labels=np.array([sample.label for sample in samples]),
    )


def stacked(views: Sequence[Views]) -> Views:
    """n views -> (n, 2 D) and (n, D'), or (n, L, D') of supports."""
    core, look = zip(*views, strict=True)
    return np.stack(core), np.stack(look)


def _fit(part: np.ndarray, frame_bgr: FrameBgr) -> np.ndarray:
    size_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
    return cv2.resize(part.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)


def _to_patches(mask: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    cover = cv2.resize(mask.astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)
    return (cover > 0.25).ravel()
