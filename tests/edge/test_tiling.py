"""Tiles: they cover every picture, their joint map has no seam, and only one is in memory at a time."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.errors import PictureError
from edge.inspector import Inspector
from edge.manifest import BundleManifest, Embedding, TilingFacts, read_manifest
from edge.pictures import FrameBgr, read_picture
from edge.tiling import TilePlan

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def embedding(bundle_dir: Path) -> Embedding:
    """Of the real pack: 256 px, 32 x 32 patches, coarsest tap of stride 16."""
    return read_manifest(bundle_dir, BundleManifest).embedding


def test_a_picture_as_large_as_a_tile_is_one_tile(embedding: Embedding) -> None:
    plan = TilePlan.of((512, 512), TilingFacts(tile_px=512, overlap_px=64), embedding)
    assert [tile.box_xyxy for tile in plan.tiles] == [(0, 0, 512, 512)]
    assert plan.grid_hw == embedding.grid_hw


def test_neighbours_share_the_overlap_and_the_last_ends_with_the_picture(embedding: Embedding) -> None:
    plan = TilePlan.of((256, 720), TilingFacts(tile_px=256, overlap_px=32), embedding)
    assert [tile.box_xyxy for tile in plan.tiles] == [
        (0, 0, 256, 256),
        (224, 0, 480, 256),
        (448, 0, 704, 256),
        (464, 0, 720, 256),
    ]
    assert [tile.column for tile in plan.tiles] == [0, 28, 56, 58]
    assert plan.grid_hw == (32, 90)


@given(
    height=st.integers(200, 3000), width=st.integers(200, 3000), tile_px=st.integers(64, 200), share=st.floats(0, 0.5)
)
@settings(max_examples=60, deadline=None)
def test_every_pixel_and_patch_is_covered_and_patches_lie_where_their_pixels_are(
    embedding: Embedding, height: int, width: int, tile_px: int, share: float
) -> None:
    plan = TilePlan.of((height, width), TilingFacts(tile_px=tile_px, overlap_px=int(share * tile_px)), embedding)
    for axis, side_px in ((0, height), (1, width)):
        starts = sorted({tile.box_xyxy[1 - axis] for tile in plan.tiles})
        assert starts[0] == 0 or len(starts) == 1
        assert starts[-1] + tile_px == side_px
        assert all(after - before <= tile_px for before, after in pairwise(starts))
        patch_px = side_px / plan.grid_hw[axis]
        for tile in plan.tiles:
            first = (tile.row, tile.column)[axis]
            assert abs(first * patch_px - tile.box_xyxy[1 - axis]) <= patch_px + 1
            assert abs(plan.place_yx(*tile.box_xyxy[:2])[axis] - first) <= 1
    ones = plan.joined(lambda tile: np.ones(embedding.grid_hw, np.float32))
    np.testing.assert_allclose(ones, 1, atol=1e-5)


def test_where_tiles_agree_the_joint_map_is_theirs(embedding: Embedding) -> None:
    plan = TilePlan.of((700, 900), TilingFacts(tile_px=256, overlap_px=64), embedding)
    truth = np.random.default_rng(0).normal(size=plan.grid_hw).astype(np.float32)
    joint = plan.joined(lambda tile: truth[tile.row : tile.row + 32, tile.column : tile.column + 32])
    np.testing.assert_allclose(joint, truth, atol=1e-5)


def test_nan_in_one_tile_is_nan_in_the_whole(embedding: Embedding) -> None:
    plan = TilePlan.of((256, 480), TilingFacts(tile_px=256, overlap_px=32), embedding)
    scores = np.zeros(embedding.grid_hw, np.float32)
    scores[5, 5] = np.nan
    assert np.isnan(plan.joined(lambda tile: scores)).any()


def test_tiles_that_nobody_looks_at_are_not_looked_at(embedding: Embedding) -> None:
    plan = TilePlan.of((256, 720), TilingFacts(tile_px=256, overlap_px=32), embedding)
    keep = np.zeros(plan.grid_hw, dtype=bool)
    keep[3, 3] = True
    asked: list[int] = []

    def look(tile: object) -> Floats:
        asked.append(1)
        return np.full(embedding.grid_hw, 7, np.float32)

    scores = plan.joined(look, keep)
    assert len(asked) == 1
    assert scores[3, 3] == pytest.approx(7) and scores.sum() == pytest.approx(7)


def test_a_defect_on_a_seam_is_one_region_with_the_score_it_has_in_the_middle(
    tiled_bundle_dir: Path, boards_dir: Path
) -> None:
    """The same mark on the same surroundings, at eight places relative to the tiles, beside a stranger one."""
    inspector = Inspector.load(tiled_bundle_dir)
    board_bgr = read_picture(sorted(boards_dir.iterdir())[0])
    cv2.rectangle(board_bgr, (405, 205), (440, 240), (255, 0, 255), cv2.FILLED)
    cv2.ellipse(board_bgr, (300, 310), (26, 16), 30, 0, 360, (100, 60, 60), cv2.FILLED, cv2.LINE_AA)
    peaks, scores = [], []
    for right, down in product((0, 64, 128, 192), (0, 96)):
        frame_bgr = cv2.copyMakeBorder(board_bgr, down, 192 - down, right, 192 - right, cv2.BORDER_REFLECT)
        seen = inspector.detect(frame_bgr)
        mark = seen.anomaly_map.shape[0] * (310 + down) // 832, seen.anomaly_map.shape[1] * (300 + right) // 832
        regions = [region for region in inspector.find_regions(seen) if region.mask[mark]]
        assert len(regions) == 1
        peaks.append(regions[0].peak_score)
        scores.append(seen.anomaly_score)
        assert regions[0].peak_score < seen.anomaly_map.max()
    assert len(inspector.view.pieces_xyxy((832, 832))) == 16
    for values in (np.array(peaks), np.array(scores)):
        off = np.abs(values / np.median(values) - 1)
        assert off.max() < 0.02, values


def test_the_features_of_one_tile_at_a_time_are_in_memory(bundle_dir: Path) -> None:
    """Ten times the area: what is held beyond the frame's own map does not grow."""
    inspector = Inspector.load(bundle_dir)
    inspector.view = replace(inspector.view, tiling=TilingFacts(tile_px=128, overlap_px=32))

    def peak_bytes(frame_bgr: FrameBgr) -> int:
        tracemalloc.start()
        seen = inspector.detect(frame_bgr)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - 4 * seen.anomaly_map.nbytes

    small, large = (peak_bytes(np.zeros((side, side, 3), np.uint8)) for side in (400, 1280))
    assert large < 1.3 * small


def test_a_picture_smaller_than_a_tile_is_refused(embedding: Embedding) -> None:
    with pytest.raises(PictureError, match="300 x 200 px, tiles of 256 px"):
        TilePlan.of((200, 300), TilingFacts(tile_px=256, overlap_px=0), embedding)


def test_an_overlap_of_more_than_half_a_tile_is_refused() -> None:
    with pytest.raises(ValidationError, match="more than half a tile"):
        TilingFacts(tile_px=256, overlap_px=129)
