"""Maps of good pictures -> what is usual at each place of the part."""

from __future__ import annotations

import cv2
import numpy as np

from edge.anomaly import PlaceStatistics

# Each place starts from this many pictures' worth of the average over all places: few pictures know little of one.
PRIOR_PICTURES = 10.0
SPREAD_PATCHES = 1.0
MIN_STD = 1e-3


def place_statistics(good_maps: np.ndarray) -> PlaceStatistics:
    """(n, h, w) smoothed patch distances of good pictures -> mean and standard deviation per place."""
    trust = len(good_maps) / (len(good_maps) + PRIOR_PICTURES)
    mean = trust * good_maps.mean(axis=0) + (1 - trust) * good_maps.mean()
    std = trust * good_maps.std(axis=0) + (1 - trust) * good_maps.std()
    return PlaceStatistics(_spread(mean), np.maximum(_spread(std), np.float32(MIN_STD)))


def neutral_places(grid_hw: tuple[int, int]) -> PlaceStatistics:
    """Statistics that change nothing: the patch scores stay L2 distances."""
    return PlaceStatistics(np.zeros(grid_hw, np.float32), np.ones(grid_hw, np.float32))


def _spread(values: np.ndarray) -> np.ndarray:
    """Neighbouring places lend each other their pictures."""
    wide = values.astype(np.float32)
    return cv2.GaussianBlur(wide, (0, 0), SPREAD_PATCHES, borderType=cv2.BORDER_REPLICATE)
