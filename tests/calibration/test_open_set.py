"""Known against unknown: each type in turn not enrolled."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.descriptors import Descriptors
from calibration.open_set import OpenSetDraw, OpenSetFigures, open_set_draw, open_set_figures, share_caught
from calibration.support_draws import SupportChoice
from calibration.typing_heads import BaselineHead, Typed, cosine_scores


def test_the_threshold_leaves_at_most_one_known_in_twenty_under_it():
    known = np.arange(1, 21)  # one of twenty may be called unknown: the threshold is the second, 2
    assert share_caught(known, np.array([0, 1.5, 2, 30])) == 0.5
    assert share_caught(known[:19], np.array([0, 0.5, 1, 30])) == 0.5  # none of nineteen may: the threshold is 1


def test_a_tie_of_knowns_at_the_threshold_catches_nobody_there():
    assert share_caught(np.full(40, 0.5), np.array([0.5, 0.4])) == 0.5


def test_figures_of_a_head_with_a_threshold_are_counts():
    confidence = np.array([0.9, 0.6, 0.3, 0.7, 0.2], dtype=np.float32)
    is_unknown = np.array([False, False, False, True, True])
    figures = open_set_figures(Typed(confidence[:, None], confidence, confidence < 0.5), is_unknown)
    assert figures.auroc == pytest.approx(4 / 6)  # 0.2 is under all three, 0.7 under one
    assert figures.caught == 0.5  # none of three knowns may be called so: only 0.2 is under 0.3
    assert (figures.bundle_caught, figures.bundle_false) == (0.5, pytest.approx(1 / 3))


def test_each_type_in_turn_is_left_out_with_all_its_pictures():
    # Types 0 and 1 at right angles, type 2 a little off type 0. Row 3 k + i is picture i of type k.
    directions = np.array([[1, 0, 0], [0, 1, 0], [0.8, 0, 0.6]], dtype=np.float32)
    descriptors = Descriptors.looked_at_once(np.repeat(directions, 3, axis=0))
    choice = SupportChoice(
        ("a", "b", "c"), np.array([[0], [3], [6]]), tuple(np.array([r + 1, r + 2]) for r in (0, 3, 6))
    )
    draw = open_set_draw(BaselineHead("cosine", cosine_scores), descriptors, choice, seed=4)
    assert list(draw.by_kind) == ["a", "b", "c"]
    for figures in draw.by_kind.values():  # knowns are sure, cosine 1; unknowns are at best at 0.8
        assert (figures.auroc, figures.caught) == (1.0, 1.0)
        assert (figures.bundle_caught, figures.bundle_false) == (None, None)
    rest, unknown_rows = choice.without(1)
    assert rest.ways == ("a", "c")
    assert rest.support_rows.tolist() == [0, 6] and rest.support_labels.tolist() == [0, 1]
    assert rest.query_rows.tolist() == [1, 2, 7, 8] and rest.query_labels.tolist() == [0, 0, 1, 1]
    assert unknown_rows.tolist() == [3, 4, 5]


def test_a_draw_is_the_mean_over_the_types_left_out():
    draw = OpenSetDraw(0, {"a": OpenSetFigures(0.5, 0.1, 0.2, 0.0), "b": OpenSetFigures(1.0, 0.3, 0.4, 0.5)})
    assert draw.mean("auroc") == 0.75
    assert draw.mean("bundle_false") == 0.25
    assert OpenSetDraw(0, {"a": OpenSetFigures(0.5, 0.1, None, None)}).mean("bundle_caught") is None
