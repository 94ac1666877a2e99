"""What is usual at each place: shrunk to the average when pictures are few."""

from __future__ import annotations

import numpy as np

from calibration.place_statistics import MIN_STD, neutral_places, normalised_as_unseen, place_statistics


def test_places_that_are_alike_keep_their_mean_and_deviation() -> None:
    maps = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 3.0)])
    places = place_statistics(maps)
    np.testing.assert_allclose(places.mean, 2.0, rtol=1e-5)
    np.testing.assert_allclose(places.std, 1.0, rtol=1e-5)


def test_ten_pictures_are_trusted_half() -> None:
    # The left half shows 0 and the right half 4, in each of 10 pictures: over all places the mean is 2.
    one = np.repeat([[0.0, 4.0]], 40, axis=0).repeat(20, axis=1)
    places = place_statistics(np.stack([one] * 10))
    np.testing.assert_allclose(places.mean[20, 2], 0.5 * 0 + 0.5 * 2, atol=1e-4)
    np.testing.assert_allclose(places.mean[20, 37], 0.5 * 4 + 0.5 * 2, atol=1e-4)
    # In one place nothing varies; over all places the deviation is 2, of which half is lent.
    np.testing.assert_allclose(places.std, 0.5 * 0 + 0.5 * 2, atol=1e-4)


def test_many_pictures_speak_for_their_own_place() -> None:
    one = np.repeat([[0.0, 4.0]], 20, axis=0).repeat(10, axis=1)
    places = place_statistics(np.stack([one] * 990))
    np.testing.assert_allclose(places.mean[10, 1], 0.02, atol=1e-3)  # 10 / 1000 of the average 2
    np.testing.assert_allclose(places.mean[10, 18], 3.98, atol=1e-3)


def test_neighbouring_places_lend_each_other_their_pictures() -> None:
    maps = np.zeros((1000, 9, 9))
    maps[:, 4, 4] = 1.0
    mean = place_statistics(maps).mean
    assert mean[4, 4] > mean[4, 5] > mean[4, 6] > mean[0, 0]


def test_pictures_that_never_vary_leave_a_deviation_one_can_divide_by() -> None:
    places = place_statistics(np.ones((5, 3, 3)))
    np.testing.assert_allclose(places.std, MIN_STD)
    assert places.mean.dtype == places.std.dtype == np.float32


def test_neutral_places_change_nothing() -> None:
    places = neutral_places((2, 3))
    distances = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal((distances - places.mean) / places.std, distances)


def test_a_picture_is_normalised_by_the_others_alone() -> None:
    maps = np.random.default_rng(0).normal(5, 2, (6, 4, 4)).astype(np.float32)
    others = place_statistics(maps[1:])

    unseen = normalised_as_unseen(maps)

    np.testing.assert_allclose(unseen[0], (maps[0] - others.mean) / others.std, rtol=1e-4, atol=1e-4)


def test_an_odd_one_out_does_not_hide_in_its_own_statistics() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (20, 4, 4)).astype(np.float32)
    maps[7] += 30
    places = place_statistics(maps)

    assert normalised_as_unseen(maps)[7].max() > 3 * ((maps[7] - places.mean) / places.std).max()


def test_one_picture_is_its_own_measure() -> None:
    assert np.abs(normalised_as_unseen(np.full((1, 3, 3), 7.0))).max() == 0
