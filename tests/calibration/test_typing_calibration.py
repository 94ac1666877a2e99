"""When is a region `unknown`? Episodes of pseudo-defects decide."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.typing_calibration import (
    KNOWN_CALLED_UNKNOWN,
    N_SHOT,
    N_WAY,
    TypingCalibration,
    calibrate_typing,
    draw_episode,
    known_familiarity,
)

CLASSES, PER_CLASS, FEATURES = 8, 4, 16
VIEWS = [slice(0, 8), slice(8, 16)]
LABELS = np.tile(np.arange(CLASSES), PER_CLASS)


def descriptors(noise: float, seed: int = 0) -> np.ndarray:
    """PER_CLASS descriptors of each class around a direction of its own, `noise` away from it."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, FEATURES))
    return (centres[LABELS] + noise * rng.normal(size=(len(LABELS), FEATURES))).astype(np.float32)


def calibrate(some: np.ndarray, seed: int) -> TypingCalibration:
    """Supports looked at once, no learned head."""
    return calibrate_typing(some, some, LABELS, VIEWS, seed)


def test_an_episode_asks_about_a_picture_that_is_not_among_its_supports() -> None:
    for seed in range(50):
        supports, query = draw_episode(LABELS, np.random.default_rng(seed))
        assert supports.shape == (N_WAY, N_SHOT)
        assert len(set(supports.ravel()) | {query}) == N_WAY * N_SHOT + 1


def test_the_query_is_of_the_first_class_and_the_classes_differ() -> None:
    for seed in range(50):
        supports, query = draw_episode(LABELS, np.random.default_rng(seed))
        kinds = LABELS[supports]
        assert (kinds == kinds[:, :1]).all()
        assert len(set(kinds[:, 0])) == N_WAY
        assert LABELS[query] == kinds[0, 0]


def test_the_centre_is_the_mean_descriptor() -> None:
    some = descriptors(noise=0.5)
    np.testing.assert_allclose(calibrate(some, 0).centre, some.mean(axis=0))


def test_classes_without_spread_fit_perfectly() -> None:
    some = descriptors(noise=0.0)
    assert calibrate(some, 0).unknown_threshold == pytest.approx(1.0, abs=1e-4)


def test_wider_classes_need_a_lower_threshold() -> None:
    thresholds = [calibrate(descriptors(n), 0).unknown_threshold for n in (0.1, 0.5, 2.0)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[-1]


def test_at_most_the_stated_share_of_known_regions_falls_below() -> None:
    some = descriptors(noise=0.5)
    typing = calibrate(some, 0)
    # The same 200 episodes, scored once more by hand.
    episodes = [draw_episode(LABELS, np.random.default_rng((0, number))) for number in range(200)]
    scores = np.array([known_familiarity(some, some, typing.centre, VIEWS, *episode) for episode in episodes])
    assert 0 < (scores < typing.unknown_threshold).mean() <= KNOWN_CALLED_UNKNOWN


def test_the_same_seed_gives_the_same_threshold() -> None:
    some = descriptors(noise=1.0)
    first, again, other = (calibrate(some, seed).unknown_threshold for seed in (3, 3, 4))
    assert first == again != other


def test_the_threshold_is_measured_with_supports_as_enrolment_keeps_them() -> None:
    asked, kept = descriptors(noise=1.0), descriptors(noise=0.0)
    once = calibrate(asked, 0).unknown_threshold
    assert calibrate_typing(asked, kept, LABELS, VIEWS, 0).unknown_threshold != once
