import numpy as np
import pytest

from calibration.region_match import MIN_IOU, Tally, box_iou, match_greedily, overlapping_pairs


def boxes(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def test_iou_of_equal_half_shifted_touching_and_far_boxes() -> None:
    others = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (50, 50, 60, 60))
    assert box_iou(boxes((0, 0, 10, 10)), others)[0] == pytest.approx([1, 50 / 150, 0, 0])


def test_iou_of_no_boxes_is_an_empty_table() -> None:
    assert box_iou(boxes(), boxes((0, 0, 1, 1))).shape == (0, 1)
    assert overlapping_pairs(boxes(), np.array([]), boxes()) == []


def test_a_pair_counts_only_over_the_limit() -> None:
    # 100 x 1 boxes shifted so that 49 and 50 columns are shared: 49 / 151 = .325 and 50 / 150 = .333
    true = boxes((0, 0, 100, 1))
    assert MIN_IOU == 0.33
    assert overlapping_pairs(boxes((51, 0, 151, 1)), np.array([1.0]), true) == []
    assert overlapping_pairs(boxes((50, 0, 150, 1)), np.array([1.0]), true) == [(0, 0)]


def test_pairs_come_strongest_first_and_then_by_overlap() -> None:
    predicted, true = boxes((0, 0, 10, 10), (0, 0, 10, 8)), boxes((0, 0, 10, 10), (0, 0, 10, 8))
    assert overlapping_pairs(predicted, np.array([1.0, 2.0]), true) == [(1, 1), (1, 0), (0, 0), (0, 1)]


def test_each_box_is_matched_once() -> None:
    pairs = [(1, 1), (1, 0), (0, 0), (0, 1)]
    assert match_greedily(pairs, np.ones(4, dtype=bool)) == [(1, 1), (0, 0)]


def test_two_regions_on_one_defect_are_one_match() -> None:
    assert match_greedily([(0, 0), (1, 0)], np.ones(2, dtype=bool)) == [(0, 0)]


def test_a_pair_that_is_not_allowed_takes_nothing_away() -> None:
    assert match_greedily([(0, 0), (1, 0)], np.array([False, True])) == [(1, 0)]


def test_precision_recall_and_f_of_a_tally() -> None:
    tally = Tally(matched=3, predicted=4, true=12)
    assert (tally.precision, tally.recall, tally.f1) == (0.75, 0.25, 0.375)
    assert (Tally(0, 0, 5).precision, Tally(0, 5, 0).recall, Tally(0, 0, 0).f1) == (0, 0, 0)
