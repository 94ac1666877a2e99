"""A bank for each place: a piece finds the nearest of the rows around it, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.errors import BundleError
from edge.manifest import BundleManifest, TilingFacts, read_manifest
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from edge.placed_bank import OTHER_PLACES, PlacedBank
from edge.tiling import TilePlan

Floats = npt.NDArray[np.float32]
TILING = TilingFacts(tile_px=256, overlap_px=64, margin_px=16)  # 2 patches
ROWS, D = 3000, 8


@pytest.fixture(scope="module")
def plan(bundle_dir: Path) -> TilePlan:
    """60 x 90 patches in tiles of 32 x 32."""
    return TilePlan.of((480, 720), TILING, read_manifest(bundle_dir, BundleManifest).embedding)


@pytest.fixture(scope="module")
def everywhere(plan: TilePlan) -> MemoryBank:
    """Random rows seen at random places."""
    rng = np.random.default_rng(0)
    arrays = MemoryBankArrays(
        vectors=rng.normal(size=(ROWS, D)).astype(np.float32),
        feature_mean=np.zeros(D, np.float32),
        feature_std=np.ones(D, np.float32),
        source_index=np.zeros(ROWS, np.int64),
        patch_yx=rng.integers((0, 0), plan.grid_hw, (ROWS, 2)),
    )
    return MemoryBank(arrays, SearchColumns.alike(np.arange(D)))


@pytest.mark.parametrize("in_int8", [False, True])
def test_rows_outside_the_place_and_its_margin_are_never_found(
    plan: TilePlan, everywhere: MemoryBank, in_int8: bool
) -> None:
    bank = PlacedBank.of(everywhere, plan, TILING, in_int8)
    for place in ((0, 0), (28, 58), (13, 31)):
        distances, rows = bank.near(place).nearest(everywhere.arrays.vectors)
        offset = everywhere.arrays.patch_yx[rows] - place
        assert offset.min() >= -2 and offset.max() < 34
        there = np.isin(np.arange(ROWS), bank.rows_near(place))
        assert 0 < there.sum() < ROWS
        np.testing.assert_allclose(distances[there], 0, atol=0 if not in_int8 else 0.2)
        assert (distances[~there] > 0).all()


def test_the_row_found_is_the_nearest_of_those_at_the_place(plan: TilePlan, everywhere: MemoryBank) -> None:
    queries = np.random.default_rng(1).normal(size=(50, D)).astype(np.float32)
    place = (10, 40)
    near = ((everywhere.arrays.patch_yx >= (8, 38)) & (everywhere.arrays.patch_yx < (44, 74))).all(axis=1)
    apart = np.linalg.norm(queries[:, np.newaxis] - everywhere.arrays.vectors, axis=2)
    expected = np.where(near, apart, np.inf).argmin(axis=1)
    distances, rows = PlacedBank.of(everywhere, plan, TILING, in_int8=False).near(place).nearest(queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, apart[np.arange(50), expected], rtol=1e-5)


def test_banks_of_places_are_kept_but_not_without_end(plan: TilePlan, everywhere: MemoryBank) -> None:
    bank = PlacedBank.of(everywhere, plan, TILING, in_int8=False)
    assert bank.near((0, 0)) is bank.near((0, 0))
    for row in range(28):
        for column in (0, 20, 40, 58):
            bank.near((row, column))
    assert bank._near.cache_info().currsize == len(plan.tiles) + OTHER_PLACES


def test_searched_exactly_it_keeps_its_places(plan: TilePlan, everywhere: MemoryBank) -> None:
    bank = PlacedBank.of(everywhere, plan, TILING, in_int8=True)
    assert not bank.is_exact and bank.searched_exactly().is_exact
    np.testing.assert_array_equal(bank.searched_exactly().rows_near((3, 4)), bank.rows_near((3, 4)))


def test_a_bank_that_leaves_a_place_without_rows_is_refused(plan: TilePlan, everywhere: MemoryBank) -> None:
    arrays = replace(everywhere.arrays, patch_yx=everywhere.arrays.patch_yx // 3)
    with pytest.raises(BundleError, match="places without any row near them; calibrate with more --bank-rows"):
        PlacedBank.of(MemoryBank(arrays, everywhere.search), plan, TILING, in_int8=False)
