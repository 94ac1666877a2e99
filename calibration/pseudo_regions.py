"""Pseudo-defects as the device sees them: painted on good pictures, found on the anomaly map, described."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.build_bank import build_bank, default_tap_weights
from calibration.detection import choose_thresholds
from calibration.episodes import EpisodePool
from calibration.good_pictures import Embedder, GoodPictures, Track, no_track
from calibration.part_mask import estimate_part_mask
from calibration.place_statistics import neutral_places, normalised_as_unseen, place_statistics
from calibration.pseudo_defects import PseudoClass
from calibration.pseudo_samples import RegionReader, Views, stacked
from calibration.recipe import SCORE
from calibration.whitening import fit_whitening
from edge.anomaly import detect
from edge.descriptor import pooling_weights, view_slices
from edge.errors import CalibrationError
from edge.manifest import Embedding
from edge.pictures import FrameBgr, read_picture
from edge.second_look import SecondLook
from edge.view import WHOLE

FALSE_REJECT_RATE = 0.01
BANK_SHARE = 0.6  # of the pictures; the others are painted on, the bank has never seen them
MASK_PICTURES = 12
# A painted picture this many times the network's input, on its shorter side, holds all the network could see.
OVERSAMPLING = 2
SPLIT_NAMES = frozenset({"good", "train", "test"})


@dataclass(frozen=True)
class Product:
    """One folder of good pictures, ready to be painted on.

    clean: frames the bank has not seen. part: (s, s) bool part mask. pictures: how many were used in all.
    """

    name: str
    reader: RegionReader
    clean: tuple[FrameBgr, ...]
    part: np.ndarray
    pictures: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Defect:
    """A picture with a defect that was made, not found. label: class number. changed: (H, W) bool, where it is odd."""

    label: int
    frame_bgr: FrameBgr
    changed: np.ndarray


@dataclass(frozen=True)
class ProductRegions:
    """Pseudo-defect regions of one product. descriptors: (S, F) as the device asks about them.

    supports: (S, F) as enrolment keeps them. labels: (S,) class number. missed: painted defects whose strongest
    region lies elsewhere; they are left out.
    """

    product: str
    descriptors: np.ndarray
    supports: np.ndarray
    labels: np.ndarray
    missed: int

    def pool(self, embedding: Embedding, second_look: Embedding) -> EpisodePool:
        """These regions to draw episodes from, around what every odd region of the product shares."""
        views = view_slices(embedding, second_look)
        return EpisodePool(self.descriptors, self.supports, self.labels, self.descriptors.mean(axis=0), views)


def load_product(
    embedder: Embedder,
    second_look: SecondLook,
    pictures: GoodPictures,
    limit: int,
    bank_rows: int,
    track: Track[Any] = no_track,
) -> Product:
    """Build a bank from a part of the first `limit` pictures and keep the others to paint on."""
    paths = pictures.paths[:limit]
    in_bank = round(BANK_SHARE * len(paths))
    tap_weights = default_tap_weights(embedder.embedding)
    bank = build_bank(embedder, paths[:in_bank], tap_weights, bank_rows, track).bank
    clean = tuple(_shrunk(read_picture(path), OVERSAMPLING * embedder.embedding.input_size) for path in paths[in_bank:])
    neutral = neutral_places(embedder.embedding.grid_hw)
    maps = np.stack([detect(embedder.embed(frame), bank, neutral, SCORE).patch_scores for frame in clean])
    places = place_statistics(maps)
    pixel_threshold = choose_thresholds(normalised_as_unseen(maps), FALSE_REJECT_RATE).pixel.value
    return Product(
        name=product_name(pictures.folder),
        reader=RegionReader(embedder, lambda e, _: detect(e, bank, places, SCORE), pixel_threshold, bank, second_look),
        clean=clean,
        part=estimate_part_mask(clean[:MASK_PICTURES]),
        pictures=len(paths),
        unreadable=pictures.unreadable,
    )


def product_name(folder: Path) -> str:
    """The part of the path that names a product: `bottle` of `bottle/train/good`."""
    names = [name for name in folder.resolve().parts[1:] if name not in SPLIT_NAMES]
    return names[-1] if names else folder.resolve().name


def describe_pseudo_defects(
    product: Product,
    classes: Sequence[PseudoClass],
    per_class: int,
    seed: int,
    track: Track[Any] = no_track,
) -> ProductRegions:
    """Paint every class `per_class` times and describe the strongest region, found exactly as on the device."""
    count = per_class * len(classes)
    numbers = track(range(count), f"pseudo-defects on {product.name}", count)
    return describe_defects(product, (_paint(product, classes, number, seed) for number in numbers), seed)


def describe_defects(product: Product, defects: Iterable[Defect], seed: int) -> ProductRegions:
    """Describe the strongest region of each picture of `product`, found exactly as on the device."""
    rng = np.random.default_rng(seed)
    odd, good, labels = [], [], []
    missed = 0
    for defect in defects:
        found = _read(product, defect, product.clean[int(rng.integers(len(product.clean)))])
        if found is None:
            missed += 1
            continue
        odd.append(found[0])
        good.append(found[1])
        labels.append(defect.label)
    if not odd:
        raise CalibrationError(
            f"{product.name}: none of {missed} pseudo-defects shows on the anomaly map; give more, or sharper, pictures"
        )
    whitening, (core, looks) = fit_whitening(*stacked(good)), stacked(odd)
    return ProductRegions(
        product=product.name,
        descriptors=whitening.apply(core, looks[:, 0]),
        supports=whitening.apply_to_support(core, looks),
        labels=np.array(labels),
        missed=missed,
    )


def _paint(product: Product, classes: Sequence[PseudoClass], number: int, seed: int) -> Defect:
    rng = np.random.default_rng((seed, number))
    label = number % len(classes)
    frame_bgr = product.clean[int(rng.integers(len(product.clean)))]
    return Defect(label, *classes[label].apply(frame_bgr, rng, _enlarged(product.part, frame_bgr)))


def _read(product: Product, defect: Defect, other_bgr: FrameBgr) -> tuple[Views, Views] | None:
    """A region looked at as a support, and a good picture at the same place; None if the region was not found."""
    reader = product.reader
    anomaly = reader.detect(reader.embedder.embed(defect.frame_bgr), WHOLE)
    region = reader.strongest_region(anomaly)
    map_h, map_w = anomaly.anomaly_map.shape
    touched = cv2.resize(defect.changed.astype(np.float32), (map_w, map_h), interpolation=cv2.INTER_AREA) > 0
    if not (region.mask & touched).any():
        return None
    weights = pooling_weights(anomaly.patch_scores, region)
    odd = reader.support_views(anomaly, region, weights, defect.frame_bgr)
    return odd, reader.views_of_good(region, weights, other_bgr)


def _enlarged(part: np.ndarray, frame_bgr: FrameBgr) -> np.ndarray:
    size_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
    return cv2.resize(part.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)


def _shrunk(frame_bgr: FrameBgr, short_side_px: int) -> FrameBgr:
    """The same picture with a shorter side of `short_side_px` at most."""
    zoom = short_side_px / min(frame_bgr.shape[:2])
    if zoom >= 1:
        return frame_bgr
    return np.asarray(cv2.resize(frame_bgr, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), dtype=np.uint8)
