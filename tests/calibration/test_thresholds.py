"""Conformal ranks by hand, Student's quantile against SciPy, and what a threshold promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibration.thresholds import choose_threshold, student_quantile

SCORES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60)


def test_of_99_scores_the_largest_vouches_for_one_percent() -> None:
    # rank = ceil(100 * 0.99) = 99 of 99
    threshold = choose_threshold(np.arange(1, 100), 0.01)
    assert (threshold.value, threshold.method) == (99.0, "conformal")
    assert threshold.promised_false_reject_rate == pytest.approx(1 / 100)


def test_of_nine_scores_the_eighth_vouches_for_twenty_percent() -> None:
    # rank = ceil(10 * 0.8) = 8; the scores come in any order
    threshold = choose_threshold(np.array([5, 3, 9, 1, 7, 2, 8, 6, 4]), 0.2)
    assert (threshold.value, threshold.method) == (8.0, "conformal")
    assert threshold.promised_false_reject_rate == pytest.approx(0.2)


def test_a_rank_between_two_scores_goes_to_the_stricter_promise() -> None:
    # rank = ceil(8 * 0.8 = 6.4) = 7 of 7, which vouches for 1 in 8
    threshold = choose_threshold(np.arange(7), 0.2)
    assert threshold.value == 6.0
    assert threshold.promised_false_reject_rate == pytest.approx(1 / 8)


def test_one_score_too_few_is_extrapolated_and_says_what_it_can_vouch_for() -> None:
    threshold = choose_threshold(np.arange(1, 99), 0.01)  # 98 scores, 99 are needed
    assert threshold.method == "student-extrapolated"
    assert threshold.promised_false_reject_rate == pytest.approx(1 / 99)


def test_extrapolation_is_students_prediction_interval() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    expected = 4.5 + stats.t.ppf(0.99, 7) * np.sqrt(6.0) * np.sqrt(1 + 1 / 8)  # sample variance of 1..8 is 6
    assert choose_threshold(scores, 0.01).value == pytest.approx(expected, rel=0.01)


def test_a_single_picture_is_its_own_threshold_and_vouches_for_half() -> None:
    threshold = choose_threshold(np.array([3.5]), 0.01)
    assert threshold.value == 3.5
    assert threshold.promised_false_reject_rate == pytest.approx(0.5)


@given(SCORES, st.floats(0.001, 0.999))
def test_an_extrapolated_threshold_is_never_below_the_largest_score(scores: list[float], rate: float) -> None:
    threshold = choose_threshold(np.array(scores), rate)
    if threshold.method == "student-extrapolated":
        assert threshold.value >= max(scores)
        assert threshold.promised_false_reject_rate == pytest.approx(1 / (len(scores) + 1))


@given(SCORES, st.floats(0.001, 0.999))
def test_a_conformal_threshold_is_a_score_and_keeps_to_the_rate(scores: list[float], rate: float) -> None:
    threshold = choose_threshold(np.array(scores), rate)
    if threshold.method == "conformal":
        assert threshold.value in scores
        assert threshold.promised_false_reject_rate <= rate + 1e-12


def test_the_next_good_part_is_rejected_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    rejects = [rng.normal() > choose_threshold(rng.normal(size=49), 0.1).value for _ in range(4000)]
    assert np.mean(rejects) == pytest.approx(0.1, abs=0.015)  # three standard errors


@pytest.mark.parametrize("degrees", [5, 7, 12, 30, 100, 1000])
@pytest.mark.parametrize("probability", [0.8, 0.9, 0.95, 0.99])
def test_students_quantile_is_within_one_percent_of_scipys(probability: float, degrees: int) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=0.01)
