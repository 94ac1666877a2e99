"""Whitening: directions that good parts vary in are turned down, the others are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.whitening import SHRINKAGE, fit_whitening, whitener


def test_the_scale_of_a_direction_is_one_over_the_root_of_its_share_and_the_shrinkage() -> None:
    samples = np.array([[2, 0], [-2, 0], [2, 0], [-2, 0]], np.float64)  # variances 4 and 0, their mean is 2

    matrix = whitener(samples)

    np.testing.assert_allclose(matrix, np.diag([1 / np.sqrt(2 + SHRINKAGE), 1 / np.sqrt(SHRINKAGE)]), rtol=1e-6)


def test_whitening_does_not_depend_on_the_units() -> None:
    samples = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 4]

    np.testing.assert_allclose(whitener(samples), whitener(1000 * samples), rtol=1e-5)


def test_good_parts_that_do_not_vary_change_nothing() -> None:
    assert whitener(np.ones((5, 3))).tolist() == np.eye(3).tolist()


def test_a_defect_beside_a_loud_nuisance_is_heard() -> None:
    rng = np.random.default_rng(1)
    good = np.column_stack([rng.normal(0, 10, 400), rng.normal(0, 0.1, 400)])  # the first column is the nuisance
    matrix = whitener(good)
    a, b = np.array([5.0, 1.0]), np.array([-5.0, 1.0])  # the same defect under two states of the nuisance

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert cosine(a, b) == pytest.approx(-24 / 26)
    assert cosine(a @ matrix, b @ matrix) > cosine(a, b)


def test_the_second_look_is_measured_in_its_own_spread_over_good_parts() -> None:
    core = np.random.default_rng(0).normal(size=(20, 6))
    look = np.array([[1.0, 5.0], [3.0, 5.0]] * 10)

    whitening = fit_whitening(core, look)

    assert whitening.look_mean.tolist() == [2, 5]
    assert whitening.look_std[0] == 1
    assert whitening.look_std[1] > 0  # a channel that never varies is not divided by nothing
    assert whitening.core.shape == (6, 6)
