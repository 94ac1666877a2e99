"""Odd places of a tiled picture: looked at from their middle, few of them, and then told by that look alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.manifest import BundleManifest, TilingFacts, read_manifest
from edge.odd_places import MORE_LOOKS, from_the_middle
from edge.tiling import Tile, TilePlan

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def plan(bundle_dir: Path) -> TilePlan:
    """90 x 120 patches in tiles of 32 x 32."""
    embedding = read_manifest(bundle_dir, BundleManifest).embedding
    return TilePlan.of((720, 960), TilingFacts(tile_px=256, overlap_px=64), embedding)


class Looks:
    """Tiles of a picture whose true scores are `truth`; counts the looks beyond the plan's own."""

    def __init__(self, plan: TilePlan, truth: Floats) -> None:
        self.plan, self.truth = plan, truth
        self.asked: list[Tile] = []

    def __call__(self, tile: Tile) -> Floats:
        self.asked.append(tile)
        return self.truth[self.plan.patches(tile)]


def with_peaks(plan: TilePlan, *peaks: tuple[int, int, float]) -> Floats:
    """(h, w) zeros with these scores at (row, column)."""
    scores = np.zeros(plan.grid_hw, np.float32)
    for row, column, score in peaks:
        scores[row, column] = score
    return scores


def test_the_strangest_place_is_looked_at_from_its_middle_even_when_it_is_not_odd(plan: TilePlan) -> None:
    look = Looks(plan, with_peaks(plan, (40, 50, 3)))
    scores = from_the_middle(plan, with_peaks(plan, (40, 50, 2)), look, None, odd_above=5)
    assert [(tile.row, tile.column) for tile in look.asked] == [(24, 34)]
    assert scores[40, 50] == 3


def test_every_odd_place_is_told_by_the_look_at_its_middle(plan: TilePlan) -> None:
    look = Looks(plan, with_peaks(plan, (40, 20, 9), (40, 34, 8), (70, 100, 7), (20, 100, 4)))
    faint = with_peaks(plan, (40, 20, 6), (40, 34, 6.5), (70, 100, 6.2), (20, 100, 4.5))
    scores = from_the_middle(plan, faint, look, None, odd_above=5)
    assert len(look.asked) == 3
    assert [scores[at] for at in ((40, 20), (40, 34), (70, 100), (20, 100))] == [9, 8, 7, 4.5]


def test_a_peak_that_moves_under_the_second_look_is_looked_at_where_it_moved_to(plan: TilePlan) -> None:
    look = Looks(plan, with_peaks(plan, (40, 54, 9)))
    scores = from_the_middle(plan, with_peaks(plan, (40, 50, 6)), look, None, odd_above=5)
    assert [tile.column for tile in look.asked] == [34, 38]
    assert scores[40, 54] == 9 and scores[40, 50] == 0


def test_the_order_of_the_looks_does_not_matter(plan: TilePlan) -> None:
    rng = np.random.default_rng(0)
    truth = {
        tile: rng.normal(size=plan.tile_hw).astype(np.float32) for tile in (plan.around(40, 44), plan.around(40, 60))
    }
    maps = []
    for first, second in ((6, 7), (7, 6)):
        joint = with_peaks(plan, (40, 44, first), (40, 60, second))
        # Nothing odd is left after the two looks; the joint map differs only in the peaks that they replace.
        maps.append(from_the_middle(plan, joint, lambda tile: truth[tile] - 4, None, odd_above=5))
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_looks_are_bounded_however_much_is_odd(plan: TilePlan) -> None:
    look = Looks(plan, np.random.default_rng(0).uniform(6, 9, plan.grid_hw).astype(np.float32))
    scores = from_the_middle(plan, look.truth, look, None, odd_above=5)
    assert len(look.asked) == MORE_LOOKS
    np.testing.assert_allclose(scores, look.truth, rtol=1e-6)


def test_masked_patches_stay_nothing_and_nan_stays_nan(plan: TilePlan) -> None:
    keep = np.ones(plan.grid_hw, dtype=np.bool_)
    keep[41] = False
    joint = with_peaks(plan, (40, 50, 6))
    scores = from_the_middle(plan, joint, lambda tile: np.full(plan.tile_hw, 9, np.float32), keep, odd_above=5)
    assert (scores[41] == 0).all() and scores[40, 50] == 9
    joint[3, 3] = np.nan
    assert np.isnan(from_the_middle(plan, joint, Looks(plan, joint), None, odd_above=5)[3, 3])
