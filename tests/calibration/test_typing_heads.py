"""Baselines of `oddkind evaluate`: scores a reader can compute by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.descriptors import Descriptors
from calibration.head_choice import HeadChoice, check_heads, make_head
from calibration.typing_heads import (
    BaselineHead,
    FeatureSpace,
    TypingHead,
    always_known,
    cosine_scores,
    lda_scores,
    ledoit_wolf_shrinkage,
    mahalanobis_squared,
    ridge_scores,
)
from edge.errors import BundleError, UsageError
from edge.inspector import Inspector

ROOT_HALF = 0.5**0.5


def rows(*vectors: tuple[float, ...]) -> np.ndarray:
    return np.array(vectors, dtype=np.float32)


# cosine


def test_cosine_compares_directions_with_the_mean_of_each_class():
    supports, labels = rows((4, 0), (2, 0), (0, 1)), np.array([0, 0, 1])
    scores = cosine_scores(supports, labels, rows((5, 0), (1, 1), (0, -2)))
    assert scores == pytest.approx(np.array([[1, 0.5], [(1 + ROOT_HALF) / 2] * 2, [0.5, 0]]), abs=1e-6)


# the mean of cosine views


def test_views_count_the_same_however_long_they_are():
    space = FeatureSpace(np.zeros(4, dtype=np.float32), [slice(0, 2), slice(2, 4)])
    # Centred already: the two classes and the pseudo-defects have their mean at 0.
    supports = rows((1, 0, 100, 0), (-1, 0, -100, 0))
    scores = space.rule(space.view_scores)(supports, np.array([0, 1]), rows((3, 0, 0, 1), (3, 0, -1, 0)))
    # One view says class 0; the other nothing (cosine 0), then class 1.
    assert scores == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]), abs=1e-6)


def test_what_all_classes_and_the_pseudo_defects_share_is_taken_away():
    space = FeatureSpace(rows((0, 0))[0], [slice(0, 2)])
    supports, labels = rows((3, 0), (0, 3)), np.array([0, 1])  # centre (1, 1): supports are (2, -1) and (-1, 2)
    scores = space.rule(space.view_scores)(supports, labels, rows((5, -1)))  # (4, -2): the first one's direction
    assert scores == pytest.approx(np.array([[1.0, (1 - 4 / 5) / 2]]), abs=1e-6)


def test_views_is_what_the_device_does_without_a_learned_head(bundle_dir: Path):
    inspector = Inspector.load(bundle_dir)
    inspector.head = None
    descriptors = Descriptors.looked_at_once(
        np.random.default_rng(0).normal(size=(9, len(inspector.centre))).astype(np.float32)
    )
    supports, labels, queries = np.array([4, 0, 7, 2]), np.array([0, 0, 1, 1]), np.array([1, 3, 5, 6, 8])
    device, views = (make_head(name, inspector) for name in ("auto", "views"))
    expected = device.type_queries(descriptors, supports, labels, queries).scores
    found = views.type_queries(descriptors, supports, labels, queries).scores
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_supports_are_looked_at_several_times_by_the_device_and_once_by_the_baselines(bundle_dir: Path):
    inspector = Inspector.load(bundle_dir)
    inspector.head = None  # cosines are easier to follow
    first, second = np.random.default_rng(0).normal(size=(2, len(inspector.centre))).astype(np.float32)
    once = inspector.centre + np.stack([first, second, first, second])
    several = inspector.centre + np.stack([second, first, first, second])  # supports look like the other class
    described = Descriptors(once, several)
    choice = (np.array([0, 1]), np.array([0, 1]), np.array([2, 3]))

    def named(head: TypingHead) -> list[int]:
        return head.type_queries(described, *choice).scores.argmax(axis=1).tolist()

    assert named(make_head("auto", inspector)) == [1, 0]
    assert named(make_head("relation-once", inspector)) == [0, 1]
    assert named(make_head("views", inspector)) == [0, 1]


# ridge


def test_ridge_halves_one_support_of_unit_length_and_trusts_two_alike_more():
    one_each = ridge_scores(rows((1, 0), (0, 1)), np.array([0, 1]), rows((1, 0), (0.6, 0.8)))
    assert one_each == pytest.approx(np.array([[0.5, 0], [0.3, 0.4]]), abs=1e-6)
    # (1, 0) twice: the Gram matrix [[1, 1], [1, 1]] + I gives each a third.
    two_alike = ridge_scores(rows((1, 0), (1, 0), (0, 1)), np.array([0, 0, 1]), rows((1, 0), (0, 1)))
    assert two_alike == pytest.approx(np.array([[2 / 3, 0], [0, 0.5]]), abs=1e-6)


# linear discriminant


def test_lda_with_one_support_a_class_is_the_distance():
    scores = lda_scores(rows((0, 0), (4, 0)), np.array([0, 1]), rows((1, 0), (3, 1)))
    assert scores == pytest.approx(np.array([[-0.5, -4.5], [-5, -1]]))


def test_lda_forgives_what_varies_within_classes():
    spread = rows((3, 0.1), (-3, -0.1), (3, -0.1), (-3, 0.1))  # classes are wide in x, thin in y
    supports, labels = np.concatenate([spread, spread + rows((0, 1))]), np.repeat([0, 1], 4)
    query = rows((2, 0.6))
    assert lda_scores(supports, labels, query).argmax() == 1
    along, across = mahalanobis_squared(rows((1, 0), (0, 1)), spread)
    assert across > 20 * along  # the same distance counts more where supports agree


def test_shrinkage_and_distance_are_those_of_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn is in the dev extra")
    deviations = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32) * (3, 1, 1, 0.2)
    matrix, share = covariance.ledoit_wolf(deviations, assume_centered=True)
    assert ledoit_wolf_shrinkage(deviations) == pytest.approx(share, rel=1e-5)
    gaps = rows((1, 0, 0, 0), (0, 1, 2, 0), (1, 1, 1, 1))
    expected = np.einsum("gi,ij,gj->g", gaps, np.linalg.inv(matrix), gaps)
    assert mahalanobis_squared(gaps, deviations) == pytest.approx(expected, rel=1e-4)


def test_lda_of_supports_that_vary_along_one_line_only_is_finite():
    supports = rows((1, 0), (-1, 0), (1, 5), (-1, 5))
    scores = lda_scores(supports, np.array([0, 0, 1, 1]), rows((0, 1), (9, 4)))
    assert np.isfinite(scores).all()
    assert scores.argmax(axis=1).tolist() == [0, 1]


# confidence and choice


def test_a_baseline_is_as_sure_as_its_best_score_and_never_says_unknown():
    typed = always_known(rows((0.2, 0.9), (0.4, 0.1)))
    assert typed.confidence == pytest.approx([0.9, 0.4])
    assert typed.unknown is None


def test_a_baseline_takes_rows_of_all_pictures():
    descriptors = Descriptors.looked_at_once(rows((0, 1), (1, 0), (0, 2), (3, 0)))
    typed = BaselineHead("cosine", cosine_scores).type_queries(
        descriptors, np.array([3, 0]), np.array([0, 1]), np.array([1, 2])
    )
    assert typed.scores.argmax(axis=1).tolist() == [0, 1]


def test_the_device_says_unknown_under_the_threshold_of_the_bundle(bundle_dir: Path):
    inspector = Inspector.load(bundle_dir)
    towards = np.random.default_rng(1).normal(size=(2, len(inspector.centre))).astype(np.float32)
    far = -towards.sum(axis=0, keepdims=True)
    descriptors = np.concatenate([inspector.centre + towards, inspector.centre + towards, inspector.centre + far])
    typed = make_head("auto", inspector).type_queries(
        Descriptors.looked_at_once(descriptors), np.array([0, 1]), np.array([0, 1]), np.array([2, 3, 4])
    )
    threshold = inspector.manifest.typing.unknown_threshold_one_shot
    assert typed.unknown.tolist() == [False, False, True]
    assert typed.confidence[2] < threshold <= typed.confidence[:2].min()


def test_a_relation_head_that_is_not_there_is_an_error_and_all_goes_without(bundle_dir: Path):
    inspector = Inspector.load(bundle_dir)
    inspector.head = None
    assert HeadChoice.of(inspector, ("auto", "ridge", "auto")).names == ("auto", "ridge")
    with pytest.raises(BundleError, match="no relation head; run 'oddkind pretrain'"):
        HeadChoice.of(inspector, ("auto", "relation"))
    everything = HeadChoice.of(inspector, ("lda", "all"))
    assert everything.names == ("lda", "auto", "views", "cosine", "ridge")
    for name in ("relation", "relation-once"):
        assert "no relation head" in everything.left_out[name]
    assert "--good GOOD_DIR" in everything.left_out["paper"]


@pytest.mark.parametrize(
    ("names", "good", "complaint"),
    [
        (("nonsense",), None, "'nonsense': expected auto, relation, relation-once, views"),
        (("auto", ""), None, "'': expected auto"),
        ((), None, "expected auto"),
        (("paper",), None, "give their folder with --good GOOD_DIR"),
        (("auto", "ridge"), "somewhere", "--good somewhere: only --head paper"),
    ],
)
def test_heads_that_cannot_mean_anything_are_refused(names, good, complaint):
    with pytest.raises(UsageError, match=complaint):
        check_heads(names, Path(good) if good else None)
