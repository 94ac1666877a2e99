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
# A region reaches as far as the map stays over this share of its peak's height over the picture's median: a fixed
# level would cut faint defects to a dot and flood strong ones, and a defect's outline is half of what names it.
OUTLINE = 0.5


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
    """8-connected cells over `pixel_threshold` are one region, outlined around its peak; strongest first.

    The outline is at OUTLINE of the peak's height over the picture's median. MAX_REGIONS at most, no cell in two of
    them. `at_least_one`: when nothing is over the threshold, the region of the strangest cell.
    """
    base = min(float(np.median(anomaly_map)), pixel_threshold)  # most of a picture can be odd
    left = anomaly_map.copy()
    regions: list[OddRegion] = []
    while len(regions) < MAX_REGIONS:
        peak = float(left.max())
        if not (peak > pixel_threshold or (at_least_one and not regions)):
            break
        peak_cell = int(left.argmax())
        region = OddRegion(_component(left >= base + OUTLINE * (peak - base), peak_cell), peak)
        regions.append(region)
        left[region.mask | _component(left > pixel_threshold, peak_cell)] = -np.inf
    return regions


def region_from_box(anomaly_map: Floats, box_xyxy: BoxXyxy, frame_hw: tuple[int, int]) -> OddRegion:
    """The region a person drew, in source pixels; every cell the box touches belongs to it."""
    map_h, map_w = anomaly_map.shape
    H, W = frame_hw
    x0, y0, x1, y1 = box_xyxy
    mask = np.zeros(anomaly_map.shape, dtype=np.bool_)
    mask[y0 * map_h // H : -(-y1 * map_h // H), x0 * map_w // W : -(-x1 * map_w // W)] = True
    return OddRegion(mask, float(anomaly_map[mask].max()))


def _component(over: Mask, cell: int) -> Mask:
    """The 8-connected part of `over` that holds the cell of this flat index."""
    _, labels = cv2.connectedComponents(over.astype(np.uint8), connectivity=8)
    return np.asarray(over & (labels == labels.ravel()[cell]), dtype=np.bool_)
