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
    return _statistics(len(good_maps), good_maps.mean(axis=0), np.square(good_maps, dtype=np.float64).mean(axis=0))


def alike_everywhere(good_maps: np.ndarray) -> PlaceStatistics:
    """(n, h, w) maps of tiles -> one mean and one deviation for all places.

    Where in its tile a patch lies says nothing about the part; two tiles have to judge a patch that both hold alike.
    """
    mean, std = np.full(good_maps.shape[1:], good_maps.mean()), max(float(good_maps.std()), MIN_STD)
    return PlaceStatistics(mean.astype(np.float32), np.full_like(mean, std, dtype=np.float32))


def normalised_as_unseen(good_maps: np.ndarray) -> np.ndarray:
    """(n, h, w) -> (n, h, w), each picture normalised by the statistics of the others.

    By statistics it took part in a picture looks more usual than the next one will, and a threshold would promise
    too much: with 120 pictures two to four times fewer false rejects than there are. A single picture stays itself.
    """
    n = len(good_maps)
    if n < 2:
        return np.asarray((good_maps - good_maps.mean()) / max(float(good_maps.std()), MIN_STD))
    total, total_sq = good_maps.sum(axis=0, dtype=np.float64), np.square(good_maps, dtype=np.float64).sum(axis=0)
    unseen = []
    for one in good_maps.astype(np.float64):
        places = _statistics(n - 1, (total - one) / (n - 1), (total_sq - one**2) / (n - 1))
        unseen.append(((one - places.mean) / places.std).astype(np.float32))
    return np.stack(unseen)


def _statistics(n: int, mean: np.ndarray, mean_sq: np.ndarray) -> PlaceStatistics:
    """mean, mean_sq: (h, w) over n pictures, of the distance and of its square."""
    trust = n / (n + PRIOR_PICTURES)
    std = np.sqrt(np.maximum(mean_sq - mean**2, 0))
    std_of_all = np.sqrt(max(float(mean_sq.mean() - mean.mean() ** 2), 0.0))
    return PlaceStatistics(
        _spread(trust * mean + (1 - trust) * mean.mean()),
        np.maximum(_spread(trust * std + (1 - trust) * std_of_all), np.float32(MIN_STD)),
    )


def neutral_places(grid_hw: tuple[int, int]) -> PlaceStatistics:
    """Statistics that change nothing: the patch scores stay L2 distances."""
    return PlaceStatistics(np.zeros(grid_hw, np.float32), np.ones(grid_hw, np.float32))


def _spread(values: np.ndarray) -> np.ndarray:
    """Neighbouring places lend each other their pictures."""
    wide = values.astype(np.float32)
    return cv2.GaussianBlur(wide, (0, 0), SPREAD_PATCHES, borderType=cv2.BORDER_REPLICATE)
