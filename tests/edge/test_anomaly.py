"""Distances -> score and map, with numbers small enough to check by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.anomaly import MAP_SCALE, Anomaly, PlaceStatistics, detect, enlarge, mean_of_top_fraction, smooth
from edge.errors import BundleError
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns

Floats = npt.NDArray[np.float32]

GRID_HW = (2, 2)
# One good patch at the origin: the distance of a patch is its length. The root of `standardise` undoes squares.
BANK = MemoryBank(
    MemoryBankArrays(
        vectors=np.zeros((1, 2), np.float32),
        feature_mean=np.zeros(2, np.float32),
        feature_std=np.ones(2, np.float32),
        source_index=np.zeros(1, np.int64),
        patch_yx=np.zeros((1, 2), np.int64),
    ),
    SearchColumns.alike(np.array([0, 1])),
)
NEUTRAL = PlaceStatistics(np.zeros(GRID_HW, np.float32), np.ones(GRID_HW, np.float32))


def seen(patches: list[list[float]], places: PlaceStatistics = NEUTRAL, top_fraction: float = 0.25) -> Anomaly:
    """detect() on a 2 x 2 grid of two features, without smoothing."""
    return detect(
        np.array(patches, np.float32), BANK, places, ScoreFacts(top_fraction=top_fraction, map_sigma_patches=0)
    )


def test_the_score_is_the_distance_of_the_strangest_patch() -> None:
    anomaly = seen([[0, 0], [9, 16], [0, 1], [4, 0]])  # roots: lengths 0, 5, 1, 2

    assert anomaly.patch_scores.tolist() == [[0, 5], [1, 2]]
    assert anomaly.anomaly_score == 5
    assert anomaly.nearest_rows.tolist() == [0, 0, 0, 0]


def test_the_score_is_the_mean_of_the_strangest_patches() -> None:
    assert seen([[0, 0], [9, 16], [0, 1], [4, 0]], top_fraction=0.5).anomaly_score == 3.5  # of 5 and 2


def test_a_place_that_varies_on_good_parts_counts_less() -> None:
    rim = PlaceStatistics(np.array([[0, 1], [0, 0]], np.float32), np.array([[1, 4], [1, 1]], np.float32))

    anomaly = seen([[0, 0], [9, 16], [0, 1], [4, 0]], rim)

    assert anomaly.patch_scores.tolist() == [[0, 1], [1, 2]]  # (5 - 1) / 4
    assert anomaly.anomaly_score == 2


def test_a_stranger_patch_never_lowers_the_score() -> None:
    scores = [seen([[0, 0], [x, 0], [0, 1], [4, 0]]).anomaly_score for x in (0, 1, 4, 9, 100)]

    assert scores == [2, 2, 2, 3, 10]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_patch_that_is_no_number_makes_the_score_never_good(place: int, value: float) -> None:
    patches = [[0.0, 0.0] for _ in range(4)]
    patches[place][0] = value

    with np.errstate(invalid="ignore"):
        score = seen(patches).anomaly_score

    assert not math.isfinite(score)
    assert not score <= 1e30


@pytest.mark.parametrize("sigma_patches", [0.5, 1.0, 2.0])
def test_smoothing_does_not_wash_a_nan_away(sigma_patches: float) -> None:
    distances = np.ones((8, 8), np.float32)
    distances[3, 4] = np.nan

    assert math.isnan(mean_of_top_fraction(smooth(distances, sigma_patches), 0.01))


@pytest.mark.parametrize(("fraction", "mean"), [(0.0, 100.0), (0.001, 100.0), (0.01, 100.0), (0.02, 99.5), (1.0, 50.5)])
def test_the_mean_of_the_top_fraction_of_1_to_100(fraction: float, mean: float) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 101, dtype=np.float32)).reshape(10, 10)

    assert mean_of_top_fraction(shuffled, fraction) == mean


def test_smoothing_keeps_a_flat_map_and_the_sum_of_a_spike() -> None:
    spike = np.zeros((21, 21), np.float32)
    spike[10, 10] = 1

    np.testing.assert_allclose(smooth(np.full((5, 5), 3, np.float32), 1.0), 3, rtol=1e-6)
    smoothed = smooth(spike, 1.0)
    assert smoothed.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(smoothed.argmax(), smoothed.shape) == (10, 10)
    assert smoothed[10, 10] == pytest.approx(1 / (2 * math.pi), rel=0.01)  # a Gaussian's height at sigma 1


def test_the_map_is_the_patches_drawn_finer() -> None:
    patches = np.array([[0, 4], [0, 0], [0, 0]], np.float32)

    drawn = enlarge(patches)

    assert drawn.shape == (3 * MAP_SCALE, 2 * MAP_SCALE)
    assert drawn[0, -1] == 4
    assert drawn.max() == 4
    assert drawn[0, 0] == drawn[-1, 0] == 0


def test_place_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    places = PlaceStatistics(np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32))
    places.save(tmp_path / "places.npz")

    loaded = PlaceStatistics.load(tmp_path / "places.npz", (2, 3))

    assert (loaded.mean.tolist(), loaded.std.tolist()) == (places.mean.tolist(), places.std.tolist())


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan])
def test_a_spread_that_cannot_be_divided_by_is_refused(tmp_path: Path, std: float) -> None:
    PlaceStatistics(np.zeros((2, 2), np.float32), np.full((2, 2), std, np.float32)).save(tmp_path / "places.npz")

    with pytest.raises(BundleError, match="calibrate again"):
        PlaceStatistics.load(tmp_path / "places.npz", (2, 2))


def test_statistics_of_another_grid_are_refused(tmp_path: Path) -> None:
    NEUTRAL.save(tmp_path / "places.npz")

    with pytest.raises(BundleError, match=r"patch grid of \(2, 3\)"):
        PlaceStatistics.load(tmp_path / "places.npz", (2, 3))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"not a zip"])
def test_a_broken_file_of_statistics_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "places.npz").write_bytes(content)

    with pytest.raises(BundleError, match="not place statistics"):
        PlaceStatistics.load(tmp_path / "places.npz", (2, 2))
