"""Boxes and regions: whatever the sizes, a box stays in the picture and covers every cell of its region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.regions import MAX_REGIONS, BoxXyxy, OddRegion, find_regions, region_from_box

SIDES_PX = st.integers(8, 300)
MAP_SIDES = st.integers(1, 40)


@st.composite
def regions_in_frames(draw: st.DrawFn) -> tuple[OddRegion, tuple[int, int]]:
    """Any non-empty set of cells of a map, and a frame."""
    map_hw = draw(MAP_SIDES), draw(MAP_SIDES)
    mask = np.zeros(map_hw, dtype=np.bool_)
    for cell in draw(st.lists(st.integers(0, mask.size - 1), min_size=1, max_size=6)):
        mask.flat[cell] = True
    return OddRegion(mask, 1.0), (draw(SIDES_PX), draw(SIDES_PX))


@st.composite
def boxes_in_frames(draw: st.DrawFn) -> tuple[BoxXyxy, tuple[int, int], tuple[int, int]]:
    """A box of at least one pixel, its frame (H, W), and the size of a map."""
    H, W = draw(SIDES_PX), draw(SIDES_PX)
    x0, y0 = draw(st.integers(0, W - 1)), draw(st.integers(0, H - 1))
    box = (x0, y0, draw(st.integers(x0 + 1, W)), draw(st.integers(y0 + 1, H)))
    return box, (H, W), (draw(MAP_SIDES), draw(MAP_SIDES))


@given(regions_in_frames())
def test_a_box_lies_in_the_frame_and_is_not_empty(drawn: tuple[OddRegion, tuple[int, int]]) -> None:
    region, (H, W) = drawn

    x0, y0, x1, y1 = region.box_xyxy((H, W))

    assert 0 <= x0 < x1 <= W
    assert 0 <= y0 < y1 <= H


@given(regions_in_frames())
def test_a_box_contains_every_cell_of_its_region(drawn: tuple[OddRegion, tuple[int, int]]) -> None:
    region, (H, W) = drawn
    map_h, map_w = region.mask.shape

    x0, y0, x1, y1 = region.box_xyxy((H, W))

    for row, column in np.argwhere(region.mask):  # a cell covers [column, column + 1) * W / map_w pixels
        assert x0 <= column * W / map_w
        assert (column + 1) * W / map_w <= x1
        assert y0 <= row * H / map_h
        assert (row + 1) * H / map_h <= y1


@given(regions_in_frames())
def test_a_box_is_less_than_a_pixel_larger_than_its_cells(drawn: tuple[OddRegion, tuple[int, int]]) -> None:
    region, (H, W) = drawn
    rows, columns = np.argwhere(region.mask).T
    map_h, map_w = region.mask.shape

    x0, y0, x1, y1 = region.box_xyxy((H, W))

    assert columns.min() * W / map_w - x0 < 1
    assert x1 - (columns.max() + 1) * W / map_w < 1
    assert rows.min() * H / map_h - y0 < 1
    assert y1 - (rows.max() + 1) * H / map_h < 1


@given(regions_in_frames())
def test_an_area_is_at_least_one_pixel_and_at_most_the_box(drawn: tuple[OddRegion, tuple[int, int]]) -> None:
    region, frame_hw = drawn
    x0, y0, x1, y1 = region.box_xyxy(frame_hw)

    assert 1 <= region.area_px(frame_hw) <= (x1 - x0) * (y1 - y0)


@given(boxes_in_frames())
def test_a_drawn_box_comes_back_covered(drawn: tuple[BoxXyxy, tuple[int, int], tuple[int, int]]) -> None:
    box, frame_hw, map_hw = drawn

    x0, y0, x1, y1 = region_from_box(np.zeros(map_hw, np.float32), box, frame_hw).box_xyxy(frame_hw)

    assert x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3]


@given(boxes_in_frames())
def test_the_box_of_a_drawn_box_stays_what_it_is(drawn: tuple[BoxXyxy, tuple[int, int], tuple[int, int]]) -> None:
    box, (H, W), (map_h, map_w) = drawn
    map_h, map_w = min(map_h, H), min(map_w, W)  # cells of a pixel or more, as on the device
    cells = np.zeros((map_h, map_w), np.float32)
    once = region_from_box(cells, box, (H, W))

    x0, y0, x1, y1 = once.box_xyxy((H, W))

    assert x1 - x0 < (box[2] - box[0]) + 2 * (W / map_w + 1)  # a cell a side, and the rounding
    assert y1 - y0 < (box[3] - box[1]) + 2 * (H / map_h + 1)


def test_a_region_of_two_cells_on_a_map_half_the_frames_size() -> None:
    mask = np.zeros((4, 5), dtype=np.bool_)
    mask[1, 2:4] = True
    region = OddRegion(mask, 1.0)

    assert region.box_xyxy((8, 10)) == (4, 2, 8, 4)
    assert region.area_px((8, 10)) == 8


def test_regions_are_what_lies_over_the_threshold_strongest_first() -> None:
    anomaly_map = np.zeros((6, 6), np.float32)
    anomaly_map[0, 0] = 2.0
    anomaly_map[4, 4], anomaly_map[5, 5] = 5.0, 3.0  # they touch at a corner: one region
    anomaly_map[0, 5] = 1.0  # at the threshold is not over it

    regions = find_regions(anomaly_map, pixel_threshold=1.0)

    assert [region.peak_score for region in regions] == [5.0, 2.0]
    assert [int(region.mask.sum()) for region in regions] == [2, 1]


def test_nothing_over_the_threshold_is_no_region_unless_one_is_asked_for() -> None:
    anomaly_map = np.zeros((5, 5), np.float32)
    anomaly_map[2, 1], anomaly_map[2, 2], anomaly_map[2, 3] = 0.5, 1.0, 0.4

    assert find_regions(anomaly_map, pixel_threshold=2.0) == []
    (strangest,) = find_regions(anomaly_map, pixel_threshold=2.0, at_least_one=True)
    assert np.argwhere(strangest.mask).tolist() == [[2, 1], [2, 2]]  # half of the height and more


def test_a_flat_map_has_one_region_when_one_is_asked_for() -> None:
    (region,) = find_regions(np.ones((3, 3), np.float32), pixel_threshold=2.0, at_least_one=True)

    assert region.box_xyxy((30, 60)) == (0, 0, 60, 30)


def test_only_the_strongest_regions_are_kept() -> None:
    anomaly_map = np.zeros((1, 41), np.float32)
    anomaly_map[0, ::2] = np.arange(21) + 1.0

    regions = find_regions(anomaly_map, pixel_threshold=0.5)

    assert [region.peak_score for region in regions] == [21.0 - n for n in range(MAX_REGIONS)]


@pytest.mark.parametrize(
    ("box", "cells"),
    [((0, 0, 1, 1), 1), ((0, 0, 10, 10), 1), ((9, 0, 11, 1), 2), ((9, 9, 11, 11), 4), ((0, 0, 40, 40), 16)],
)
def test_every_cell_a_box_touches_belongs_to_it(box: BoxXyxy, cells: int) -> None:
    anomaly_map = np.arange(16, dtype=np.float32).reshape(4, 4)  # cells of 10 x 10 px

    region = region_from_box(anomaly_map, box, (40, 40))

    assert int(region.mask.sum()) == cells
    assert region.peak_score == anomaly_map[region.mask].max()


def test_a_region_is_outlined_at_half_its_own_height() -> None:
    anomaly_map = np.zeros((3, 20), np.float32)
    anomaly_map[1, 2:9] = [2, 4, 6, 8, 6, 4, 2]  # half of 8 is 4: five cells, though all seven are over 1
    anomaly_map[1, 14:17] = [1.2, 2, 0.9]  # half of 2 is 1: two cells

    strong, faint = find_regions(anomaly_map, pixel_threshold=1.0)

    assert np.flatnonzero(strong.mask[1]).tolist() == [3, 4, 5, 6, 7]
    assert np.flatnonzero(faint.mask[1]).tolist() == [14, 15]


def test_a_peak_on_the_slope_of_a_stronger_one_is_no_region_of_its_own() -> None:
    anomaly_map = np.zeros((3, 20), np.float32)
    anomaly_map[1, 2:8] = [2, 9, 3, 3.5, 3, 2]

    assert len(find_regions(anomaly_map, pixel_threshold=1.0)) == 1
    assert len(find_regions(anomaly_map, pixel_threshold=3.2)) == 2


def test_a_picture_that_is_mostly_odd_still_has_outlines() -> None:
    anomaly_map = np.full((3, 20), 8.0, np.float32)
    anomaly_map[:, 11:] = 0
    anomaly_map[1, 3], anomaly_map[1, 15] = 10.0, 6.0  # the second peak is under the median, 8

    large, small = find_regions(anomaly_map, pixel_threshold=2.0)

    assert int(large.mask.sum()) == 33
    assert np.argwhere(small.mask).tolist() == [[1, 15]]


@given(st.lists(st.floats(-5, 50, width=32), min_size=16, max_size=16), st.floats(-2, 20))
def test_no_region_is_empty_and_no_cell_is_in_two(cells: list[float], threshold: float) -> None:
    regions = find_regions(np.array(cells, np.float32).reshape(4, 4), threshold, at_least_one=True)

    taken = np.sum([region.mask for region in regions], axis=0)

    assert all(region.mask.any() for region in regions)
    assert taken.max() == 1
