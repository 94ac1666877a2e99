"""Descriptors of odd regions: weights that sum to 1, residuals that vanish on good patches, views that count alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.anomaly import Anomaly, enlarge
from edge.backend import Arrays, Backend
from edge.descriptor import (
    Describer,
    Whitening,
    compare_ready,
    descriptor_dim,
    pooling_weights,
    unit_views,
    view_slices,
)
from edge.errors import BundleError
from edge.manifest import Embedding, Tap
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from edge.regions import OddRegion, region_from_box
from edge.second_look import SecondLook

Floats = npt.NDArray[np.float32]

GRID_HW = (4, 4)
EMBEDDING = Embedding(
    backbone="hand-made",
    weights_sha256="",
    input_size=32,
    colour_order="rgb",
    mean=(0, 0, 0),
    scale=(1, 1, 1),
    taps=(Tap(name="s8", stride=8, channels=2), Tap(name="s16", stride=16, channels=1)),
    patch_pool=1,
    grid_hw=GRID_HW,
)
LOOK = EMBEDDING.model_copy(update={"taps": (Tap(name="s32", stride=32, channels=2),), "grid_hw": (1, 1)})
FRAME = np.full((40, 40, 3), 7, np.uint8)
# Two good patches, one at the origin and one far away.
BANK_ROWS = np.array([[0, 0, 0], [10, 10, 10]], np.float32)
finite = st.floats(-100, 100, width=32)


def bank() -> MemoryBank:
    zeros = np.zeros(3, np.float32)
    arrays = MemoryBankArrays(BANK_ROWS, zeros, zeros + 1, np.zeros(2, np.int64), np.zeros((2, 2), np.int64))
    return MemoryBank(arrays, SearchColumns.alike(np.arange(3)))


def anomaly_of(standardised: Floats) -> Anomaly:
    """(16, 3) standardised patches, compared with the hand-made bank."""
    distances, rows = bank().nearest(standardised)
    scores = distances.reshape(GRID_HW)
    return Anomaly(scores, enlarge(scores), float(scores.max()), standardised, rows, distances)


class MeanAndOne(Backend):
    """A graph a reader can compute: one patch with the mean of the input, and 1."""

    name = "onnxruntime"
    version = "by hand"

    def run(self, inputs: Arrays) -> Floats:
        return np.array([[[inputs["images"].mean(), 1.0]]], np.float32)


def unchanged(core_dim: int = 6, look_dim: int = 2) -> Whitening:
    """Whitening of a product whose good parts vary alike in every direction."""
    zeros = np.zeros(look_dim, np.float32)
    return Whitening(zeros, zeros + 1, np.eye(core_dim, dtype=np.float32), np.eye(look_dim, dtype=np.float32))


def describe(anomaly: Anomaly, region: OddRegion, whitening: Whitening | None = None) -> Floats:
    describer = Describer(bank(), SecondLook(MeanAndOne(), LOOK), whitening or unchanged())
    return describer.describe(anomaly, region, FRAME)


def region_of_patch(anomaly: Anomaly, row: int, column: int) -> OddRegion:
    """The region of one patch, as a box of a 40 x 40 px picture."""
    x0, y0 = column * 10, row * 10
    return region_from_box(anomaly.anomaly_map, (x0, y0, x0 + 10, y0 + 10), (40, 40))


def views_of(descriptor: Floats) -> list[Floats]:
    return [descriptor[view] for view in view_slices(EMBEDDING, LOOK)]


def test_views_share_out_every_column_once() -> None:
    columns = np.concatenate(
        [np.arange(descriptor_dim(EMBEDDING, LOOK))[view] for view in view_slices(EMBEDDING, LOOK)]
    )

    assert columns.tolist() == list(range(descriptor_dim(EMBEDDING, LOOK)))


def test_a_descriptor_has_the_promised_length_and_type() -> None:
    anomaly = anomaly_of(np.eye(16, 3, dtype=np.float32))

    descriptor = describe(anomaly, region_of_patch(anomaly, 0, 0))

    assert descriptor.shape == (descriptor_dim(EMBEDDING, LOOK),)
    assert descriptor.dtype == np.float32


def test_the_residual_of_one_odd_patch_is_how_it_differs_from_its_nearest_good_one() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[5] = (1, 2, -2)  # row 1, column 1: 3 away from the origin

    anomaly = anomaly_of(patches)
    descriptor = describe(anomaly, region_of_patch(anomaly, 1, 1))

    assert descriptor[:3].tolist() == [1, 2, -2]


def test_a_bank_row_that_is_near_is_taken_off() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[5] = (10, 10, 14)  # 4 away from the second good patch

    anomaly = anomaly_of(patches)
    descriptor = describe(anomaly, region_of_patch(anomaly, 1, 1))

    assert descriptor[:3].tolist() == [0, 0, 4]


def test_a_region_of_good_patches_has_no_residual() -> None:
    anomaly = anomaly_of(np.tile(BANK_ROWS, (8, 1)))

    core, _ = views_of(describe(anomaly, region_of_patch(anomaly, 0, 0)))

    assert not core[:3].any()


def test_raw_features_stand_beside_the_residual() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[5] = (10, 10, 14)

    anomaly = anomaly_of(patches)
    core, _ = views_of(describe(anomaly, region_of_patch(anomaly, 1, 1)))

    assert core.tolist() == [0, 0, 4, 10, 10, 14]


def test_the_second_look_reads_the_picture_and_takes_its_signed_root() -> None:
    anomaly = anomaly_of(np.eye(16, 3, dtype=np.float32))

    look = views_of(describe(anomaly, region_of_patch(anomaly, 0, 0)))[1]

    np.testing.assert_allclose(look, [np.sqrt(7), 1], rtol=1e-6)


def test_whitening_is_a_matrix_for_each_view_after_the_looks_own_mean_and_spread() -> None:
    anomaly = anomaly_of(np.tile(np.array([0, 0, 2], np.float32), (16, 1)))
    halved = Whitening(
        np.array([3, 0], np.float32),
        np.array([1, 1], np.float32),
        np.eye(6, dtype=np.float32) / 2,
        np.eye(2, dtype=np.float32),
    )

    core, look = views_of(describe(anomaly, region_of_patch(anomaly, 0, 0), halved))

    assert core.tolist() == [0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(look, [2, 1])  # sqrt(7 - 3)


def test_whitening_is_read_as_it_was_written(tmp_path: Path) -> None:
    unchanged().save(tmp_path / "w.npz")

    again = Whitening.load(tmp_path / "w.npz", 6, 2)

    assert again.core.tolist() == np.eye(6).tolist()
    with pytest.raises(BundleError, match="do not fit views of 4 and 2"):
        Whitening.load(tmp_path / "w.npz", 4, 2)
    (tmp_path / "w.npz").write_bytes(b"no arrays")
    with pytest.raises(BundleError, match=r"not a whitening .* calibrate again"):
        Whitening.load(tmp_path / "w.npz", 6, 2)


def test_the_core_forgets_what_lies_outside_the_region() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[0], patches[15] = (1, 0, 0), (0, 0, 5)
    anomaly = anomaly_of(patches)
    region = region_of_patch(anomaly, 0, 0)
    louder = patches.copy()
    louder[15] = (0, 0, 7)

    core = views_of(describe(anomaly, region))[0]
    core_beside_louder = views_of(describe(anomaly_of(louder), region))[0]

    assert core.tolist() == core_beside_louder.tolist()


@given(hnp.arrays(np.float32, GRID_HW, elements=finite), st.integers(0, 3), st.integers(0, 3))
def test_weights_are_shares_of_a_whole(scores: Floats, row: int, column: int) -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = True

    weights = pooling_weights(scores, OddRegion(mask, 0.0))

    assert weights.shape == GRID_HW
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-4)


def test_weights_grow_with_the_height_of_a_patch_over_three_tenths_of_the_peak() -> None:
    scores = np.zeros((1, 7), np.float32)
    scores[0, 1:4] = 5.0, 3.0, 10.0
    everywhere = OddRegion(np.ones((4, 28), np.bool_), 10.0)

    np.testing.assert_allclose(pooling_weights(scores, everywhere), [[0, 2 / 9, 0, 7 / 9, 0, 0, 0]], atol=1e-6)


def test_a_box_on_a_flat_map_counts_each_of_its_patches_alike() -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[0:8, 0:4] = True  # two patches

    weights = pooling_weights(np.ones(GRID_HW, np.float32), OddRegion(mask, 1.0))

    assert weights[:2, 0].tolist() == [0.5, 0.5]


@given(hnp.arrays(np.float32, (3, descriptor_dim(EMBEDDING, LOOK)), elements=finite))
def test_a_unit_vector_has_length_one_and_its_views_the_same_length(vectors: Floats) -> None:
    views = view_slices(EMBEDDING, LOOK)
    unit = unit_views(vectors, views)

    for view in views:
        lengths = np.linalg.norm(unit[:, view], axis=1)
        is_long = np.linalg.norm(vectors[:, view], axis=1) > 1e-3
        np.testing.assert_allclose(lengths[is_long], 1 / np.sqrt(len(views)), rtol=1e-4)
        assert (lengths <= 1 / np.sqrt(len(views)) + 1e-4).all()


def test_a_vector_of_zeros_stays_zeros_instead_of_nan() -> None:
    assert not unit_views(np.zeros((1, 4), np.float32), [slice(0, 2), slice(2, 4)]).any()


def test_the_dot_product_of_unit_views_is_the_mean_cosine() -> None:
    views = [slice(0, 2), slice(2, 4)]
    a, b = unit_views(np.array([[3, 0, 0, 5], [7, 0, 5, 0]], np.float32), views)  # cosines 1 and 0

    assert float(a @ b) == pytest.approx(0.5)


def test_centring_takes_the_centre_off_before_the_length() -> None:
    ready = compare_ready(np.array([[4, 5]], np.float32), np.array([1, 1], np.float32), [slice(0, 2)])

    np.testing.assert_allclose(ready, [[0.6, 0.8]], rtol=1e-6)


def test_a_supports_looks_are_averaged_and_keep_the_length_of_the_plain_one() -> None:
    core = np.array([1, 2, 3, 4, 5, 6], np.float32)
    looks = np.array([[9, 0], [0, 9]], np.float32)  # roots (3, 0) and (0, 3): the mean is shorter, 1.5 * sqrt(2)

    support = unchanged().apply_to_support(core, looks)

    np.testing.assert_array_equal(support[:6], core)
    np.testing.assert_allclose(support[6:], [3 / np.sqrt(2), 3 / np.sqrt(2)], rtol=1e-6)


def test_looks_are_whitened_before_they_are_averaged() -> None:
    whitening = Whitening(
        np.array([1, 1], np.float32), np.array([2, 2], np.float32), np.eye(6, dtype=np.float32), np.diag([1.0, 0.0])
    )

    support = whitening.apply_to_support(np.zeros(6, np.float32), np.array([[9, 3], [3, 9]], np.float32))

    np.testing.assert_allclose(support[6:], [2, 0])  # the root of (9 - 1) / 2; the second feature counts nothing


def test_many_supports_are_averaged_as_one_is() -> None:
    rng = np.random.default_rng(0)
    core, looks = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(4, 3, 2)).astype(np.float32)

    several = unchanged().apply_to_support(core, looks)

    one_by_one = [unchanged().apply_to_support(*one) for one in zip(core, looks, strict=True)]
    np.testing.assert_allclose(several, np.stack(one_by_one), rtol=1e-6)


def test_a_support_is_looked_at_from_all_sides_and_a_query_once() -> None:
    anomaly = anomaly_of(np.eye(16, 3, dtype=np.float32))
    region = region_of_patch(anomaly, 0, 0)
    brighter_outside = np.full((40, 40, 3), 7, np.uint8)
    brighter_outside[15:] = 200  # beyond the plain window of this corner, inside the wide one
    describer = Describer(bank(), SecondLook(MeanAndOne(), LOOK), unchanged())

    query, support = describer.describe_both(anomaly, region, brighter_outside)

    np.testing.assert_array_equal(query, describer.describe(anomaly, region, brighter_outside))
    np.testing.assert_array_equal(support, describer.describe_support(anomaly, region, brighter_outside))
    np.testing.assert_array_equal(query[:6], support[:6])
    assert np.linalg.norm(query[6:]) == pytest.approx(np.linalg.norm(support[6:]), rel=1e-5)
    assert support[6] / support[7] > query[6] / query[7]
