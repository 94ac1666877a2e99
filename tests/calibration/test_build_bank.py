"""The memory bank: refinement by hand, channel statistics and provenance on real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.build_bank import (
    REFINE_STEP,
    BuiltBank,
    build_bank,
    channel_statistics,
    default_tap_weights,
    refine,
)
from calibration.good_pictures import Embedder
from edge.errors import BundleError
from edge.manifest import PackManifest, read_manifest
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns

PICTURES, ROWS = 5, 40


def bank_of(vectors: list[list[float]], columns: list[int]) -> MemoryBank:
    """A bank of these rows; row i comes from patch (0, i) of picture 7."""
    array = np.array(vectors, dtype=np.float32)
    rows, dim = array.shape
    origins = np.array([[0, i] for i in range(rows)])
    arrays = MemoryBankArrays(array, np.zeros(dim), np.ones(dim), np.full(rows, 7), origins)
    return MemoryBank(arrays, SearchColumns.alike(np.array(columns)))


def block(*patches: list[float], source: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Patches and their origins (source, 5, number)."""
    return np.array(patches, dtype=np.float32), np.array([[source, 5, n] for n in range(len(patches))])


def test_a_row_moves_towards_the_mean_of_its_patches() -> None:
    bank = bank_of([[0, 0], [10, 0]], columns=[0, 1])
    # (2, 0) and (2, 4) are nearest to the first row, their mean is (2, 2); (11, 0) to the second.
    refined = refine(bank, [block([2, 0], [2, 4], [11, 0])])
    expected = [[2 * REFINE_STEP, 2 * REFINE_STEP], [10 + REFINE_STEP, 0]]
    np.testing.assert_allclose(refined.vectors, expected, rtol=1e-6)


def test_the_mean_is_taken_over_all_blocks() -> None:
    bank = bank_of([[0.0], [100.0]], columns=[0])
    refined = refine(bank, [block([1.0]), block([3.0]), block([5.0], [7.0])])
    np.testing.assert_allclose(refined.vectors, [[4 * REFINE_STEP], [100.0]])


def test_a_row_without_patches_stays_with_its_provenance() -> None:
    bank = bank_of([[0, 0], [50, 50]], columns=[0, 1])
    refined = refine(bank, [block([1, 0])])
    np.testing.assert_array_equal(refined.vectors[1], [50, 50])
    assert (refined.source_index[1], refined.patch_yx[1].tolist()) == (7, [0, 1])


def test_provenance_becomes_the_patch_nearest_to_where_the_row_was() -> None:
    bank = bank_of([[0.0]], columns=[0])
    refined = refine(bank, [block([3.0], [-1.0], source=2), block([2.0], source=4)])
    assert (refined.source_index[0], refined.patch_yx[0].tolist()) == (2, [5, 1])


def test_columns_that_are_not_searched_move_along() -> None:
    bank = bank_of([[0, 0], [10, 0]], columns=[0])
    refined = refine(bank, [block([1, 80], [1, 40])])
    np.testing.assert_allclose(refined.vectors[0], [REFINE_STEP, 60 * REFINE_STEP])


@pytest.fixture(scope="module")
def embedder(pack_dir: Path) -> Embedder:
    """The pack's INT8 graph."""
    return Embedder.load(pack_dir, read_manifest(pack_dir, PackManifest), "onnxruntime", "int8")


@pytest.fixture(scope="module")
def paths(good_dir: Path) -> list[Path]:
    """A few good pictures."""
    return sorted(good_dir.iterdir())[:PICTURES]


@pytest.fixture(scope="module")
def built(embedder: Embedder, paths: list[Path]) -> BuiltBank:
    """A small bank of them."""
    return build_bank(embedder, paths, {"s8": 0.5, "s16": 1.0}, ROWS)


def test_channel_statistics_are_those_of_all_patches(embedder: Embedder, paths: list[Path]) -> None:
    mean, std = channel_statistics(embedder, paths)
    everything = np.concatenate(list(embedder.embed_good(paths))).astype(np.float64)
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std, everything.std(axis=0), rtol=1e-3, atol=1e-5)


def test_the_bank_has_the_rows_asked_for_and_the_graphs_dimensions(built: BuiltBank, embedder: Embedder) -> None:
    assert built.bank.arrays.vectors.shape == (ROWS, embedder.embedding.dim)
    assert np.isfinite(built.bank.arrays.vectors).all()


def test_provenance_names_a_patch_of_the_picture_it_says(
    built: BuiltBank, embedder: Embedder, paths: list[Path]
) -> None:
    arrays, (h, w) = built.bank.arrays, embedder.embedding.grid_hw
    assert set(arrays.source_index.tolist()) <= set(range(PICTURES))
    assert (arrays.patch_yx >= 0).all()
    assert (arrays.patch_yx < [h, w]).all()
    all_patches = [built.bank.standardise(e) for e in embedder.embed_good(paths)]
    named = np.stack(
        [all_patches[source][y * w + x] for source, (y, x) in zip(arrays.source_index, arrays.patch_yx, strict=True)]
    )
    of_named = np.linalg.norm(named - arrays.vectors, axis=1)
    of_any = np.linalg.norm(all_patches[0][::40, np.newaxis] - arrays.vectors, axis=2).mean(axis=0)
    # A row has moved part of the way from a patch to the mean of others, so it is near the patch, not on it.
    assert (of_named < of_any).mean() > 0.95


def test_without_moving_a_row_is_the_very_patch_its_provenance_names(
    monkeypatch: pytest.MonkeyPatch, embedder: Embedder, paths: list[Path]
) -> None:
    monkeypatch.setattr("calibration.build_bank.REFINE_STEP", 0.0)
    bank = build_bank(embedder, paths[:3], {"s8": 0.5, "s16": 1.0}, ROWS).bank
    patches = [bank.standardise(e) for e in embedder.embed_good(paths[:3])]
    _, w = embedder.embedding.grid_hw
    for row in range(ROWS):
        y, x = bank.arrays.patch_yx[row]
        named = patches[bank.arrays.source_index[row]][y * w + x]
        np.testing.assert_allclose(bank.arrays.vectors[row], named, atol=1e-5)


def test_every_patch_lies_within_the_coreset_radius_before_refinement(
    monkeypatch: pytest.MonkeyPatch, embedder: Embedder, paths: list[Path]
) -> None:
    monkeypatch.setattr("calibration.build_bank.REFINE_STEP", 0.0)
    built = build_bank(embedder, paths, {"s16": 1.0}, ROWS)
    farthest = max(built.bank.nearest(built.bank.standardise(e))[0].max() for e in embedder.embed_good(paths))
    assert farthest <= built.coreset_radius + 1e-2
    assert built.peak_pool_rows <= 6 * ROWS + embedder.embedding.grid_hw[0] ** 2


def test_a_tap_counts_by_its_stride_over_the_coarsest(pack_dir: Path) -> None:
    embedding = read_manifest(pack_dir, PackManifest).embedding

    assert default_tap_weights(embedding) == {"s8": 0.5, "s16": 1.0}
    assert default_tap_weights(embedding, ["s8"]) == {"s8": 1.0}
    with pytest.raises(BundleError, match="no tap 's4'"):
        default_tap_weights(embedding, ["s4"])
