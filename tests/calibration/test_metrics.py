import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from calibration.metrics import PixelTally, area_to_limit, auroc, rejected
from edge.errors import CalibrationError

SCORES = st.lists(st.integers(0, 9), min_size=4, max_size=40)


def tally_of(*pictures: tuple[np.ndarray, np.ndarray]) -> PixelTally:
    tally = PixelTally()
    for anomaly_map, mask in pictures:
        tally.add(anomaly_map.astype(np.float32), mask)
    return tally


def noisy_picture(seed: int, odd: bool) -> tuple[np.ndarray, np.ndarray]:
    """A map that is brighter, on average, on the two squares of its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), dtype=bool)
    if odd:
        mask[3:13, 4:9] = mask[25:31, 30:44] = True
    return (rng.gamma(4.0, 1.0, mask.shape) - 3.0 + 2.0 * mask).astype(np.float32), mask


def pro_threshold_by_threshold(pictures: list[tuple[np.ndarray, np.ndarray]], regions: list, limit: float) -> float:
    """The definition, the slow way: every score is a threshold, every region an overlap."""
    fprs, overlaps = [0.0], [0.0]
    good = np.concatenate([m[~mask] for m, mask in pictures])
    for threshold in sorted({float(v) for m, _ in pictures for v in m.ravel()}, reverse=True):
        fprs.append(float((good >= threshold).mean()))
        overlaps.append(float(np.mean([(pictures[i][0][where] >= threshold).mean() for i, where in regions])))
    return area_to_limit(np.array(fprs), np.array(overlaps), limit)


def test_auroc_counts_pairs_that_are_in_order():
    # good 1, 3; defects 2, 4: of the four pairs only (2, 3) is the wrong way round
    assert auroc([1, 3, 2, 4], [False, False, True, True]) == 0.75


def test_a_tie_is_half_a_pair():
    assert auroc([5, 5], [False, True]) == 0.5
    assert auroc([1, 2, 2, 3], [False, False, True, True]) == pytest.approx(3.5 / 4)


def test_a_defect_without_a_number_counts_as_strangest():
    assert auroc([1.0, 2.0, np.nan], [False, False, True]) == 1.0
    assert auroc([1.0, np.nan, 2.0], [False, False, True]) == 0.5


@given(scores=SCORES, data=st.data())
def test_auroc_agrees_with_scikit_learn(scores, data):
    is_defect = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    is_defect[:2] = [True, False]
    assert auroc(scores, is_defect) == pytest.approx(roc_auc_score(is_defect, scores), abs=1e-12)


@pytest.mark.parametrize("is_defect", [[True, True], [False, False]])
def test_auroc_of_one_kind_alone_is_refused(is_defect):
    with pytest.raises(CalibrationError, match="needs good and defect scores"):
        auroc([1.0, 2.0], is_defect)


def test_a_part_is_good_only_if_its_score_is_not_over_the_threshold():
    assert rejected([0.9, 1.0, 1.1, np.nan], 1.0).tolist() == [False, False, True, True]


def test_area_under_a_straight_line_is_half_its_end():
    line = np.array([0.0, 0.5, 1.0])
    assert area_to_limit(line, line, 1.0) == 0.5
    assert area_to_limit(line, line, 0.3) == pytest.approx(0.15)


def test_area_of_a_curve_that_is_up_at_once_is_one():
    assert area_to_limit(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]), 0.3) == 1.0


def test_pixel_auroc_and_pro_are_one_when_the_map_is_the_mask():
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:4, 2:5] = True
    tally = tally_of((mask.astype(np.float32), mask))
    assert tally.pixel_auroc == 1.0
    assert tally.pro() == pytest.approx(1.0)


def test_pro_gives_a_small_region_the_weight_of_a_large_one():
    # one region of 1 pixel is missed, one of 9 is found: pixels say 90 %, regions say half
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, 0] = mask[4:7, 4:7] = True
    anomaly_map = np.zeros((10, 10))
    anomaly_map[4:7, 4:7] = 1.0
    tally = tally_of((anomaly_map, mask))
    assert tally.regions == 2
    # overlap .5 at FPR 0, then a straight line to (1, 1), since all other pixels tie
    assert tally.pro(0.3) == pytest.approx((0.5 + (0.5 + 0.3 * 0.5)) / 2)
    assert tally.pixel_auroc == pytest.approx(0.9 + 0.1 / 2)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(4, dtype=bool)
    assert tally_of((np.ones((4, 4)), mask)).regions == 1


def test_the_order_of_pixels_below_zero_counts_too():
    # maps are in standard deviations over good parts: most of a good part lies below zero
    mask = np.array([[False, False, True, True]])
    assert tally_of((np.array([[-2.0, -1.0, -0.5, 3.0]]), mask)).pixel_auroc == 1.0
    assert tally_of((np.array([[-2.0, -0.5, -1.0, 3.0]]), mask)).pixel_auroc == 0.75
    assert tally_of((np.array([[-3.0, 0.0, -2.0, -1.0]]), mask)).pixel_auroc == 0.5


def test_pixel_auroc_over_several_pictures_agrees_with_scikit_learn():
    pictures = [noisy_picture(1, odd=True), noisy_picture(2, odd=True), noisy_picture(3, odd=False)]
    expected = roc_auc_score(
        np.concatenate([mask.ravel() for _, mask in pictures]), np.concatenate([m.ravel() for m, _ in pictures])
    )
    assert tally_of(*pictures).pixel_auroc == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_pro_agrees_with_its_definition(limit):
    pictures = [noisy_picture(1, odd=True), noisy_picture(2, odd=True), noisy_picture(3, odd=False)]
    squares = [(slice(3, 13), slice(4, 9)), (slice(25, 31), slice(30, 44))]
    regions = [(i, square) for i in (0, 1) for square in squares]
    expected = pro_threshold_by_threshold(pictures, regions, limit)
    assert tally_of(*pictures).pro(limit) == pytest.approx(expected, abs=1e-4)


def test_pro_of_regions_of_one_size_is_the_plain_roc_curve():
    pictures = [noisy_picture(1, odd=True)]
    mask = pictures[0][1].copy()
    mask[3:13, 4:9] = False  # one region left: its overlap is the true positive rate
    fpr, tpr, _ = roc_curve(mask.ravel(), pictures[0][0].ravel(), drop_intermediate=False)
    assert tally_of((pictures[0][0], mask)).pro(0.3) == pytest.approx(area_to_limit(fpr, tpr, 0.3), abs=1e-4)


def test_without_odd_pixels_there_is_no_pixel_figure():
    tally = tally_of((np.ones((4, 4)), np.zeros((4, 4), dtype=bool)))
    assert tally.pixel_auroc is None
    assert tally.pro() is None


def test_a_map_of_another_size_than_its_mask_is_refused():
    with pytest.raises(ValueError, match=r"map is \(4, 4\), mask is \(5, 4\)"):
        PixelTally().add(np.ones((4, 4), dtype=np.float32), np.zeros((5, 4), dtype=bool))
