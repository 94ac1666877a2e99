"""Protocols of few-shot typing on pictures whose descriptors are written down."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.dataset import GOOD
from calibration.few_shot import FewShotTrial, ShotResult
from calibration.paper_head import PaperHead
from calibration.scored_pictures import ScoredPicture, ScoredPictures, region_from_mask
from calibration.spread import PairedDifference, Spread
from calibration.support_draws import SupportDraws
from calibration.typing_heads import BaselineHead, cosine_scores

COSINE = BaselineHead("cosine", cosine_scores)
X, Y = (1.0, 0.0), (0.0, 1.0)
Looks = tuple[float, ...]


def pictures(
    parts: list[tuple[str, Looks]], masked: list[Looks | None] | None = None, scores: list[float] | None = None
) -> ScoredPictures:
    """Parts in the order of their file names, descriptors as given, the true mask's in `masked`; score 1 each."""
    masks: list[Looks | None] = masked or [None] * len(parts)
    numbers = scores or [1.0] * len(parts)
    return ScoredPictures.of(
        [
            ScoredPicture(
                f"{i}.png",
                kind,
                numbers[i],
                1,
                (0, 0, 8, 8),
                np.array(look, np.float32),
                None if masks[i] is None else np.array(masks[i], np.float32),
            )
            for i, (kind, look) in enumerate(parts)
        ]
    )


def run(scored: ScoredPictures, n_shot: int = 1, seeds: tuple[int, ...] = (0, 1, 2)) -> ShotResult:
    result = FewShotTrial(scored, image_threshold=0.5, head=COSINE).run(n_shot, seeds)
    assert result is not None
    return result


# draws


def test_a_draw_splits_every_type_and_keeps_supports_when_shots_grow():
    kinds = np.array(["a"] * 5 + [GOOD] + ["b"] * 4)
    draws = SupportDraws(kinds, kinds != GOOD)
    one, two = draws.draw(1, seed=3), draws.draw(2, seed=3)
    assert two.ways == ("a", "b") and two.supports.shape == (2, 2)
    assert two.supports[:, 0].tolist() == one.supports[:, 0].tolist()
    assert sorted([*two.support_rows, *two.query_rows]) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert (kinds[two.query_rows] == np.array(two.ways)[two.query_labels]).all()
    assert draws.left_out(4) == ("b",) and draws.ways(4) == ()


def test_first_files_are_the_supports_of_the_papers_protocol():
    # The third torn part looks bent: with the first files as supports one of four queries is named wrong.
    scored = pictures([("bent", X), ("bent", X), ("bent", X), ("torn", Y), ("torn", Y), ("torn", X)])
    assert run(scored).first_files == 0.75
    turned = pictures([("bent", X), ("bent", X), ("bent", X), ("torn", X), ("torn", Y), ("torn", Y)])
    assert run(turned).first_files == 0.5  # its support looks bent; a tie goes to the first class


# the mask given


def test_with_the_mask_given_supports_and_queries_are_described_inside_it():
    parts = [("bent", X)] * 3 + [("torn", X)] * 3  # the predicted region tells nothing
    result = run(pictures(parts, masked=[X] * 3 + [Y] * 3))
    assert result.mask_given == (1.0, 1.0, 1.0)
    assert result.mean_and_spread("typing") == (0.5, 0.0)


def test_a_defect_without_a_mask_is_neither_support_nor_query_when_masks_are_given():
    parts = [("bent", X)] * 3 + [("torn", Y)] * 4
    masked = [X, X, X, Y, Y, None, Y]
    assert run(pictures(parts, masked)).mask_given == (1.0, 1.0, 1.0)  # a row without would be NaN and wrong
    assert run(pictures(parts, masked), n_shot=2).mask_given == (1.0, 1.0, 1.0)


def test_too_few_masks_or_none_leave_the_figure_out():
    parts = [("bent", X)] * 3 + [("torn", Y)] * 3
    assert run(pictures(parts)).mask_given == ()
    assert run(pictures(parts, masked=[X, X, X, Y, None, None])).mask_given == ()


def test_every_map_cell_that_the_mask_touches_belongs_to_the_region():
    anomaly_map = np.arange(16, dtype=np.float32).reshape(4, 4)
    mask = np.zeros((6, 6), dtype=bool)  # a cell is 1.5 pixels wide
    mask[1, 4] = True  # rows 1..2 px: cells 0 and 1; columns 4..5 px: cells 2 (3..4.5) and 3 (4.5..6)
    region = region_from_mask(anomaly_map, mask)
    assert np.argwhere(region.mask).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert region.peak_score == 7.0


@pytest.mark.parametrize("side_px", [2, 4, 9])
def test_a_mask_all_over_covers_the_map_and_parts_stay_one_region(side_px):
    anomaly_map = np.zeros((4, 4), dtype=np.float32)
    assert region_from_mask(anomaly_map, np.ones((side_px, side_px), dtype=bool)).mask.all()
    corners = np.zeros((8, 8), dtype=bool)
    corners[0, 0] = corners[7, 7] = True
    assert np.argwhere(region_from_mask(anomaly_map, corners).mask).tolist() == [[0, 0], [3, 3]]


# the open set and the whole inspector


def test_the_open_set_needs_three_types():
    two = pictures([("bent", X)] * 3 + [("torn", Y)] * 3)
    assert run(two).open_set == ()
    three = pictures([("bent", (1, 0, 0))] * 2 + [("holed", (0, 1, 0))] * 2 + [("torn", (0, 0, 1))] * 2)
    result = run(three)
    assert [draw.seed for draw in result.open_set] == [0, 1, 2]
    assert result.mean_and_spread("auroc") == (1.0, 0.0)
    assert result.values("bundle_caught") == []  # this head has no threshold


def test_a_defect_counts_in_the_whole_only_if_rejected_and_named_right_and_a_good_part_if_passed():
    parts = [("bent", X)] * 3 + [("torn", Y)] * 3 + [(GOOD, X)] * 2
    result = run(pictures(parts, scores=[0.4] * 3 + [0.6] * 3 + [0.6, 0.5]))
    for draw in result.draws:  # two bent that pass, two torn that are named, one good part of two passed
        assert (draw.typing, draw.inspection, draw.whole) == (1.0, 0.5, 3 / 6)


# heads on the same draws


def test_a_difference_is_paired_by_draw():
    assert Spread.of([0.1, 0.3]) == Spread(pytest.approx(0.2), pytest.approx(0.2 / 2**0.5))
    assert Spread.of([0.3]) == Spread(0.3, 0.0)
    difference = PairedDifference.of([0.5, 0.9, 0.4], [0.4, 0.8, 0.3])  # always 0.1 better
    assert difference.mean == pytest.approx(0.1)
    assert difference.standard_error == pytest.approx(0.0, abs=1e-12)
    assert PairedDifference.of([0.2, 0.4], [0.0, 0.0]) == PairedDifference(pytest.approx(0.3), pytest.approx(0.1))
    assert PairedDifference.of([0.2], [0.1]).standard_error is None


# the paper's head


class NearestMap:
    """Stands in for a trained network: minus the distance to each label's support, on whole maps."""

    def run(self, residual_maps, labels, supports, queries):
        keys = np.stack(
            [residual_maps[supports[labels[supports] == k]].mean(axis=0) for k in np.unique(labels[supports])]
        )
        gaps = residual_maps[queries][:, None] - keys
        return -np.abs(gaps).sum(axis=(2, 3, 4)).astype(np.float32)


def test_the_papers_head_sees_the_maps_of_the_right_pictures_and_no_region():
    looks = {"bent": 0.0, "torn": 5.0, GOOD: 9.0}
    rows = []
    for i, kind in enumerate([GOOD, "bent", "bent", GOOD, "bent", "torn", "torn", "torn"]):
        kept = None if kind == GOOD else np.full((2, 2, 3), looks[kind] + 0.1 * i, dtype=np.float16)
        nothing = np.zeros(2, dtype=np.float32)
        rows.append(ScoredPicture(f"{i}.png", kind, 0.0, 1, (0, 0, 8, 8), nothing, nothing, residual_map=kept))
    scored = ScoredPictures.of(rows)
    result = FewShotTrial(scored, 0.5, PaperHead(NearestMap(), scored)).run(1, [0, 1])
    assert result is not None
    assert [draw.typing for draw in result.draws] == [1.0, 1.0]
    assert result.first_files == 1.0
    assert result.mask_given == () and result.open_set == ()
