"""Anomaly map -> odd regions, and boxes between map cells and source pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
BoxXyxy = tuple[int, int, int, int]

MAX_REGIONS = 8
# A picture over the image threshold with no cell over the pixel threshold still has a strangest place.
PEAK_FRACTION = 0.8


@dataclass(frozen=True)
class OddRegion:
    """Connected cells of the anomaly map. mask: (h', w') bool, the map's size."""

    mask: Mask
    peak_score: float

    def box_xyxy(self, frame_hw: tuple[int, int]) -> BoxXyxy:
        """Smallest box in source pixels around every cell, right and bottom exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        map_h, map_w = self.mask.shape
        H, W = frame_hw
        return (
            int(columns[0]) * W // map_w,
            int(rows[0]) * H // map_h,
            -(-(int(columns[-1]) + 1) * W // map_w),
            -(-(int(rows[-1]) + 1) * H // map_h),
        )

    def area_px(self, frame_hw: tuple[int, int]) -> int:
        """Area in source pixels, at least 1."""
        cell_px = frame_hw[0] * frame_hw[1] / self.mask.size
        return max(1, round(int(self.mask.sum()) * cell_px))


def find_regions(anomaly_map: Floats, pixel_threshold: float, at_least_one: bool = False) -> list[OddRegion]:
    """8-connected cells over `pixel_threshold`, strongest first, MAX_REGIONS at most.

    `at_least_one`: when none is over it, the cells around the peak with PEAK_FRACTION of its height over the median.
    """
    regions = _components(anomaly_map, anomaly_map > pixel_threshold)
    if not regions and at_least_one:
        base, peak = float(np.median(anomaly_map)), float(anomaly_map.max())
        regions = _components(anomaly_map, anomaly_map >= base + PEAK_FRACTION * (peak - base))[:1]
    return regions[:MAX_REGIONS]


def region_from_box(anomaly_map: Floats, box_xyxy: BoxXyxy, frame_hw: tuple[int, int]) -> OddRegion:
    """The region a person drew, in source pixels; every cell the box touches belongs to it."""
    map_h, map_w = anomaly_map.shape
    H, W = frame_hw
    x0, y0, x1, y1 = box_xyxy
    mask = np.zeros(anomaly_map.shape, dtype=np.bool_)
    mask[y0 * map_h // H : -(-y1 * map_h // H), x0 * map_w // W : -(-x1 * map_w // W)] = True
    return OddRegion(mask, float(anomaly_map[mask].max()))


def _components(anomaly_map: Floats, over: Mask) -> list[OddRegion]:
    count, labels = cv2.connectedComponents(over.astype(np.uint8), connectivity=8)
    regions = [OddRegion(mask, float(anomaly_map[mask].max())) for mask in (labels == n for n in range(1, count))]
    return sorted(regions, key=lambda region: region.peak_score, reverse=True)
