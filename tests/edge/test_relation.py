"""Relation scores on descriptors of two numbers: angles that a reader can draw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.backend import Arrays, Backend
from edge.class_store import ClassStore, Support
from edge.relation import RelationClassifier, SupportSet, relation_scores

Floats = npt.NDArray[np.float32]

ONE_VIEW = [slice(0, 2)]
ORIGIN = np.zeros(2, np.float32)


def store_of(**classes: list[list[float]]) -> ClassStore:
    """Keyword = class, value = its descriptors."""
    supports, rows = [], []
    for name, descriptors in classes.items():
        for descriptor in descriptors:
            digest = f"{len(rows):064x}"
            supports.append(Support(name, f"{len(rows)}.png", digest, (0, 0, 1, 1), 9.0, "2026-01-01T00:00:00.000Z"))
            rows.append(descriptor)
    width = len(rows[0]) if rows else 2
    return ClassStore("0" * 16, tuple(supports), np.array(rows, np.float32).reshape(-1, width))


def classifier_of(store: ClassStore, unknown_threshold: float = 0.5, head: Backend | None = None) -> RelationClassifier:
    return RelationClassifier(store, ORIGIN, ONE_VIEW, unknown_threshold, head)


def scores_of(classifier: RelationClassifier, descriptor: list[float]) -> dict[str, float]:
    ranking = classifier.rank(np.array(descriptor, np.float32))
    assert [c.relation_score for c in ranking] == sorted((c.relation_score for c in ranking), reverse=True)
    return {c.defect_class: c.relation_score for c in ranking}


class ConstantHead(Backend):
    """A relation head that finds the same relation to every class."""

    def __init__(self, score: float) -> None:
        self.score = score

    def run(self, inputs: Arrays) -> Floats:
        self.asked = inputs
        return np.full((len(inputs["queries"]), len(inputs["prototypes"])), self.score, np.float32)


@pytest.mark.parametrize(("degrees", "score"), [(0, 1.0), (60, 0.75), (90, 0.5), (120, 0.25), (180, 0.0)])
def test_a_score_is_one_for_the_same_direction_and_zero_for_the_opposite(degrees: float, score: float) -> None:
    angle = np.deg2rad(degrees)
    query = np.array([[np.cos(angle), np.sin(angle)]], np.float32)

    scores = relation_scores(query, np.array([[1, 0]], np.float32), ONE_VIEW, head=None)

    assert scores.tolist() == [[pytest.approx(score, abs=1e-6)]]


def test_two_opposite_classes_around_the_centre() -> None:
    classifier = classifier_of(store_of(scratch=[[1, 0], [3, 0]], dent=[[-2, 0]]))  # class means 2 and -2: centre 0

    assert scores_of(classifier, [5, 0]) == {"scratch": pytest.approx(1), "dent": pytest.approx(0)}
    assert scores_of(classifier, [-0.1, 0]) == {"dent": pytest.approx(1), "scratch": pytest.approx(0)}
    assert scores_of(classifier, [0, 4]) == {"scratch": pytest.approx(0.5), "dent": pytest.approx(0.5)}


def test_the_best_class_comes_first_whatever_the_order_of_enrolment() -> None:
    one, other = store_of(a=[[1, 0]], b=[[0, 1]]), store_of(b=[[0, 1]], a=[[1, 0]])

    for store in (one, other):
        assert classifier_of(store).rank(np.array([9, 1], np.float32))[0].defect_class == "a"


def test_what_every_class_shares_is_no_evidence() -> None:
    shared = 100.0  # the same huge first number in every class and in the pseudo-defects
    store = store_of(up=[[shared, 1]], down=[[shared, -1]])
    classifier = RelationClassifier(store, np.array([shared, 0], np.float32), ONE_VIEW, 0.5)

    assert scores_of(classifier, [shared, 0.5]) == {"up": pytest.approx(1), "down": pytest.approx(0)}


def test_a_prototype_points_where_its_supports_do_on_average_and_is_as_long() -> None:
    # Class means (2, 0.5) and (-2, -0.5), so the centre is the origin; lengths 4 and 1, and 2 * sqrt(17) / 4.
    descriptors = np.array([[4, 0], [0, 1], [-2, -0.5]], np.float32)

    supports = SupportSet.build(descriptors, np.array([0, 0, 1]), ORIGIN, ONE_VIEW)

    diagonal = 2 * np.sqrt(0.5)  # the mean direction, however long each support is; sqrt(4 * 1) = 2 long
    np.testing.assert_allclose(supports.prototypes, [[diagonal, diagonal], [-2, -0.5]], atol=1e-6)


def test_one_class_alone_fits_what_resembles_it_and_not_its_opposite() -> None:
    classifier = classifier_of(store_of(scratch=[[2, 0]]))

    assert scores_of(classifier, [4, 0])["scratch"] == pytest.approx(1)
    assert scores_of(classifier, [-4, 0])["scratch"] == pytest.approx(0)


def test_without_classes_there_is_no_ranking_and_nothing_is_unknown() -> None:
    classifier = classifier_of(ClassStore.empty("0" * 16, 2))

    assert classifier.rank(ORIGIN) == ()
    assert classifier.relation_scores(np.zeros((3, 2), np.float32)).shape == (3, 0)
    assert not classifier.is_unknown(ORIGIN)


@pytest.mark.parametrize(("query", "unknown"), [([4.0, 0.0], False), ([0.0, 1.0], True), ([-1.0, 0.0], True)])
def test_what_fits_no_class_well_enough_is_unknown(query: list[float], unknown: bool) -> None:
    classifier = classifier_of(store_of(scratch=[[2, 0]]), unknown_threshold=0.9)

    assert classifier.is_unknown(np.array(query, np.float32)) is unknown


def test_a_score_at_the_threshold_is_known() -> None:
    classifier = classifier_of(store_of(scratch=[[2, 0]]), unknown_threshold=1.0)

    assert not classifier.is_unknown(np.array([4, 0], np.float32))


@pytest.mark.parametrize("query", [[np.nan, 0], [np.nan, np.nan]])
def test_a_descriptor_that_is_no_number_is_unknown(query: list[float]) -> None:
    classifier = classifier_of(store_of(scratch=[[2, 0]], dent=[[0, 2]]), unknown_threshold=0.0)

    assert classifier.is_unknown(np.array(query, np.float32))


def test_a_head_has_the_only_say() -> None:
    prototypes, query = np.array([[1, 0], [0, 1]], np.float32), np.array([[1, 0]], np.float32)

    scores = relation_scores(query, prototypes, ONE_VIEW, ConstantHead(0.25))  # cosine scores: 1 and 0.5

    assert scores.tolist() == [[0.25, 0.25]]


def test_a_head_is_asked_about_centred_queries_with_their_lengths() -> None:
    head = ConstantHead(0.5)
    supports = SupportSet.build(np.array([[5, 0], [3, 0]], np.float32), np.array([0, 1]), ORIGIN, ONE_VIEW)

    supports.relation_scores(np.array([[8 / 3 + 2, 0]], np.float32), head)  # the centre is (5 + 3 + 0) / 3

    np.testing.assert_allclose(head.asked["queries"], [[2, 0]], atol=1e-6)
    np.testing.assert_allclose(head.asked["prototypes"], [[7 / 3, 0], [1 / 3, 0]], atol=1e-6)


@given(
    hnp.arrays(np.float32, (6, 4), elements=st.floats(-50, 50, width=32)),
    hnp.arrays(np.float32, (5, 4), elements=st.floats(-50, 50, width=32)),
)
def test_scores_lie_between_zero_and_one(descriptors: Floats, queries: Floats) -> None:
    store = store_of(a=descriptors[:2].tolist(), b=descriptors[2:5].tolist(), c=descriptors[5:].tolist())
    classifier = RelationClassifier(store, np.zeros(4, np.float32), [slice(0, 1), slice(1, 4)], 0.5)

    scores = classifier.relation_scores(queries)

    assert scores.shape == (5, 3)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_familiarity_is_one_less_a_quarter_of_the_squared_distance_to_the_nearest_class_mean() -> None:
    # Unit supports (1, 0) and (0, 1) of one class: their mean is (.5, .5). The other class lies at (-1, 0).
    supports = SupportSet(np.zeros((2, 2), np.float32), np.array([[0.5, 0.5], [-1, 0]], np.float32), ORIGIN, ONE_VIEW)

    found = supports.familiarity(np.array([[3, 0], [-5, 0], [0, -1]], np.float32))

    # Squared distances to the nearer mean: .5; 0; and 2, to the second, for 2.5 to the first.
    np.testing.assert_allclose(found, [1 - 0.5 / 4, 1, 0.5], atol=1e-6)


def test_one_support_a_class_is_as_familiar_as_its_cosine_says() -> None:
    supports = SupportSet(np.zeros((1, 2), np.float32), np.array([[1, 0]], np.float32), ORIGIN, ONE_VIEW)

    assert supports.familiarity(np.array([[0, 7]], np.float32)).tolist() == [0.5]


def test_no_enrolled_picture_is_unknown_to_the_others() -> None:
    alone = classifier_of(store_of(scratch=[[2, 0]]), unknown_threshold=0.9)
    several = classifier_of(store_of(scratch=[[2, 0], [0, 2]], dent=[[-2, -2], [-2, -1]]), unknown_threshold=0.9)

    assert alone.unknown_threshold == 0.9  # nothing to leave out
    assert several.unknown_threshold < 0.9
    assert not any(several.is_unknown(np.array(support, np.float32)) for support in ([2, 0], [0, 2]))
