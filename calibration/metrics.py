"""The formulas of an evaluation, in numpy. Scores grow with strangeness; NaN is stranger than everything."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CalibrationError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PRO_FPR_LIMIT = 0.3
# A bin is the top 20 bits of a float32: order is kept and two values in one bin differ by less than 0.05 %.
BIN_SHIFT = 12
BIN_COUNT = 1 << (32 - BIN_SHIFT)
SIGN_BIT, ALL_BITS = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)


def auroc(scores: npt.ArrayLike, is_defect: npt.ArrayLike) -> float:
    """(n,) scores, (n,) bool -> chance that a defect scores over a good one, a tie counting half."""
    values, defect = np.asarray(scores, dtype=np.float64), np.asarray(is_defect, dtype=bool)
    defects, goods = int(defect.sum()), int((~defect).sum())
    if not defects or not goods:
        raise CalibrationError(f"AUROC needs good and defect scores, got {goods} good and {defects} defect")
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # ranks from 1, ties share theirs
    rank_sum = mean_rank[level.reshape(-1)][defect].sum()
    return float((rank_sum - defects * (defects + 1) / 2) / (defects * goods))


def rejected(scores: npt.ArrayLike, image_threshold: float) -> Mask:
    """(n,) scores -> (n,) bool: a part is good only if `score <= image_threshold`."""
    return ~(np.asarray(scores, dtype=np.float64) <= image_threshold)


def area_to_limit(fpr: Floats, overlap: Floats, limit: float) -> float:
    """Mean of a rising curve from fpr 0 to `limit`, linear between its points: 0..1."""
    inside = fpr < limit
    x = np.concatenate([[0.0], fpr[inside], [limit]])
    y = np.concatenate([[0.0], overlap[inside], [np.interp(limit, fpr, overlap)]])
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2 / limit)


class PixelTally:
    """Counts of pixels per score, enough for pixel AUROC and PRO whatever the number of pictures (25 MB)."""

    def __init__(self) -> None:
        self._good = np.zeros(BIN_COUNT, dtype=np.int64)
        self._odd = np.zeros(BIN_COUNT, dtype=np.int64)
        self._overlap = np.zeros(BIN_COUNT)  # each region's pixels together weigh 1
        self.regions = 0

    def add(self, anomaly_map: npt.NDArray[np.float32], mask: Mask) -> None:
        """One picture: (H, W) float32 map and (H, W) bool mask, both in the mask's pixels."""
        if anomaly_map.shape != mask.shape:
            raise ValueError(f"map is {anomaly_map.shape}, mask is {mask.shape}")
        bins = _bins(anomaly_map)
        self._good += np.bincount(bins[~mask], minlength=BIN_COUNT)
        if not mask.any():
            return
        weight_of, regions = _region_weights(mask)
        self._odd += np.bincount(bins[mask], minlength=BIN_COUNT)
        self._overlap += np.bincount(bins[mask], weights=weight_of[mask], minlength=BIN_COUNT)
        self.regions += regions

    @property
    def pixel_auroc(self) -> float | None:
        """AUROC over all pixels added, or None without an odd and a good pixel."""
        odd, good = int(self._odd.sum()), int(self._good.sum())
        if not odd or not good:
            return None
        good_below = np.cumsum(self._good) - self._good / 2
        return float((self._odd @ good_below) / (odd * good))

    def pro(self, fpr_limit: float = PRO_FPR_LIMIT) -> float | None:
        """Mean overlap with the connected regions of the masks, averaged over false positive rates to the limit."""
        good = int(self._good.sum())
        if not self.regions or not good:
            return None
        used = np.flatnonzero(self._good + self._odd)[::-1]  # from the strictest threshold down
        fpr = np.cumsum(self._good[used]) / good
        overlap = np.cumsum(self._overlap[used]) / self.regions
        return area_to_limit(np.append(0.0, fpr), np.append(0.0, overlap), fpr_limit)


def _bins(anomaly_map: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Float32 -> whole numbers in the same order: bits as they are above zero, turned over below it; NaN last."""
    bits = np.ascontiguousarray(np.abs(anomaly_map), dtype=np.float32).view(np.uint32)
    ordered = np.where(anomaly_map < 0, ALL_BITS ^ (bits | SIGN_BIT), bits | SIGN_BIT)
    return (ordered >> np.uint32(BIN_SHIFT)).astype(np.int64)


def _region_weights(mask: Mask) -> tuple[Floats, int]:
    """(H, W) of 1 / area of each pixel's 8-connected region, and the number of regions."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    weights = 1 / np.maximum(areas, 1)
    return weights[labels], count - 1
