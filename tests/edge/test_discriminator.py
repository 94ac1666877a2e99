"""The discriminator's map, on numbers small enough to check by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.anomaly import PlaceStatistics, detect
from edge.discriminator import DISTANCE_FEATURES, Discriminator, DiscriminatorArrays, distance_features
from edge.errors import BundleError
from edge.manifest import ScoreFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns

GRID_HW = (2, 2)
VECTORS = np.array([[1, 0]], np.float32)
BANK = MemoryBank(
    MemoryBankArrays(
        VECTORS, np.zeros(2, np.float32), np.ones(2, np.float32), np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    ),
    SearchColumns.alike(np.arange(2)),
)
# Two hidden units: one sees the first feature, the other the residual of the second.
ARRAYS = DiscriminatorArrays(
    patch=np.array([[1, 0], [0, 0]], np.float32),
    residual=np.array([[0, 0], [0, 2]], np.float32),
    distance=np.zeros((DISTANCE_FEATURES, 2), np.float32),
    bias=np.array([-1, 0], np.float32),
    output=np.array([1, 10], np.float32),
    mean=np.zeros(GRID_HW, np.float32),
    std=np.ones(GRID_HW, np.float32),
)
PATCHES = np.array([[0, 0], [3, 0], [1, 2], [3, -2]], np.float32)
NO_ROWS, NO_DISTANCES, FLAT = np.zeros(4, np.int64), np.zeros(4, np.float32), np.zeros(GRID_HW, np.float32)


def test_a_patch_scores_by_its_features_and_by_its_residual_to_the_nearest_row() -> None:
    scores = Discriminator(ARRAYS, VECTORS, 0).patch_scores(PATCHES, NO_ROWS, NO_DISTANCES, FLAT)

    # First unit: feature - 1. Second: 2 x (second feature - 0), which counts tenfold. Neither goes below zero.
    assert scores.tolist() == [[0, 2], [40, 2]]


def test_a_place_counts_in_its_own_standard_deviations() -> None:
    rim = replace(ARRAYS, mean=np.full(GRID_HW, 10, np.float32), std=np.full(GRID_HW, 5, np.float32))

    scores = Discriminator(rim, VECTORS, 0).patch_scores(PATCHES, NO_ROWS, NO_DISTANCES, FLAT)

    assert scores.tolist() == [[-2, pytest.approx(-1.6)], [6, pytest.approx(-1.6)]]


def test_its_map_is_added_to_that_of_the_distance() -> None:
    neutral = PlaceStatistics(np.zeros(GRID_HW, np.float32), np.ones(GRID_HW, np.float32))
    patches = PATCHES * np.abs(PATCHES)  # the root of `standardise` undoes the square
    score = ScoreFacts(top_fraction=0.25, map_sigma_patches=0)

    alone = detect(patches, BANK, neutral, score)
    both = detect(patches, BANK, neutral, score, Discriminator(ARRAYS, VECTORS, 0))

    assert alone.patch_scores.tolist() == [[1, 2], [2, pytest.approx(math.sqrt(8))]]
    assert both.patch_scores.tolist() == [[1, 4], [42, pytest.approx(2 + math.sqrt(8))]]
    assert both.anomaly_score == 42


def test_a_patch_that_is_not_finite_is_never_good() -> None:
    patches = PATCHES.copy()
    patches[2, 0] = np.nan

    scores = Discriminator(ARRAYS, VECTORS, 0).patch_scores(patches, NO_ROWS, NO_DISTANCES, FLAT)

    assert math.isnan(scores[1, 0])


def test_the_distances_around_a_patch_are_seen_at_two_widths() -> None:
    lonely = np.zeros((9, 9), np.float32)
    lonely[4, 4] = 1

    features = distance_features(np.arange(81, dtype=np.float32), lonely).reshape(9, 9, DISTANCE_FEATURES)

    own, distance, near, far = features[4, 4]
    assert (own, distance) == (1, 40)
    assert 0 < far < near < own
    assert features[4, 6, 0] == 0 < features[4, 6, 2]


def test_arrays_come_back_from_their_file(tmp_path: Path) -> None:
    ARRAYS.save(tmp_path / "d.npz")

    loaded = DiscriminatorArrays.load(tmp_path / "d.npz", 2, GRID_HW)

    for name, array in ARRAYS.__dict__.items():
        np.testing.assert_array_equal(getattr(loaded, name), array)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"std": np.zeros(GRID_HW, np.float32)}, "does not fit"),
        ({"patch": np.zeros((3, 2), np.float32)}, "does not fit 2 features"),
        ({"mean": np.zeros((4, 4), np.float32)}, "patch grid of"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], says: str) -> None:
    replace(ARRAYS, **changed).save(tmp_path / "d.npz")
    with pytest.raises(BundleError, match=says):
        DiscriminatorArrays.load(tmp_path / "d.npz", 2, GRID_HW)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"not an archive")
    with pytest.raises(BundleError, match="not a discriminator"):
        DiscriminatorArrays.load(tmp_path / "d.npz", 2, GRID_HW)
