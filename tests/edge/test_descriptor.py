"""Descriptors of odd regions: weights that sum to 1, residuals that vanish on good patches, views that count alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.anomaly import Anomaly, enlarge
from edge.descriptor import compare_ready, describe, descriptor_dim, pooling_weights, unit_views, view_slices
from edge.manifest import Embedding, Tap
from edge.memory_bank import MemoryBank, MemoryBankArrays
from edge.regions import OddRegion, region_from_box

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
# Two good patches, one at the origin and one far away.
BANK_ROWS = np.array([[0, 0, 0], [10, 10, 10]], np.float32)
finite = st.floats(-100, 100, width=32)


def bank() -> MemoryBank:
    zeros = np.zeros(3, np.float32)
    arrays = MemoryBankArrays(BANK_ROWS, zeros, zeros + 1, np.zeros(2, np.int64), np.zeros((2, 2), np.int64))
    return MemoryBank(arrays, np.arange(3))


def anomaly_of(standardised: Floats) -> Anomaly:
    """(16, 3) standardised patches, compared with the hand-made bank."""
    distances, rows = bank().nearest(standardised)
    scores = distances.reshape(GRID_HW)
    return Anomaly(standardised, rows, scores, enlarge(scores), float(scores.max()))


def region_of_patch(anomaly: Anomaly, row: int, column: int) -> OddRegion:
    """The region of one patch, as a box of a 40 x 40 px picture."""
    x0, y0 = column * 10, row * 10
    return region_from_box(anomaly.anomaly_map, (x0, y0, x0 + 10, y0 + 10), (40, 40))


def views_of(descriptor: Floats) -> list[Floats]:
    return [descriptor[view] for view in view_slices(EMBEDDING)]


def test_views_share_out_every_column_once() -> None:
    columns = np.concatenate([np.arange(descriptor_dim(EMBEDDING))[view] for view in view_slices(EMBEDDING)])

    assert columns.tolist() == list(range(descriptor_dim(EMBEDDING)))


def test_a_descriptor_has_the_promised_length_and_type() -> None:
    anomaly = anomaly_of(np.eye(16, 3, dtype=np.float32))

    descriptor = describe(anomaly, region_of_patch(anomaly, 0, 0), bank())

    assert descriptor.shape == (descriptor_dim(EMBEDDING),)
    assert descriptor.dtype == np.float32


def test_the_residual_of_one_odd_patch_is_how_it_differs_from_its_nearest_good_one() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[5] = (1, 2, -2)  # row 1, column 1: 3 away from the origin

    anomaly = anomaly_of(patches)
    descriptor = describe(anomaly, region_of_patch(anomaly, 1, 1), bank())

    assert descriptor[:3].tolist() == [1, 2, -2]


def test_a_bank_row_that_is_near_is_taken_off() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[5] = (10, 10, 14)  # 4 away from the second good patch

    anomaly = anomaly_of(patches)
    descriptor = describe(anomaly, region_of_patch(anomaly, 1, 1), bank())

    assert descriptor[:3].tolist() == [0, 0, 4]


def test_a_region_of_good_patches_has_no_residual() -> None:
    anomaly = anomaly_of(np.tile(BANK_ROWS, (8, 1)))

    core, surroundings = views_of(describe(anomaly, region_of_patch(anomaly, 0, 0), bank()))

    assert not core[:3].any()
    assert not surroundings.any()


def test_the_core_forgets_what_lies_outside_the_region() -> None:
    patches = np.zeros((16, 3), np.float32)
    patches[0], patches[15] = (1, 0, 0), (0, 0, 5)
    anomaly = anomaly_of(patches)
    region = region_of_patch(anomaly, 0, 0)
    louder = patches.copy()
    louder[15] = (0, 0, 7)

    core = views_of(describe(anomaly, region, bank()))[0]
    core_beside_louder = views_of(describe(anomaly_of(louder), region, bank()))[0]

    assert core.tolist() == core_beside_louder.tolist()


@given(
    hnp.arrays(np.float32, GRID_HW, elements=finite),
    st.integers(0, 3),
    st.integers(0, 3),
    st.floats(0, 0.95),
    st.integers(0, 5),
)
def test_weights_are_shares_of_a_whole(scores: Floats, row: int, column: int, fraction: float, grow: int) -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = True

    weights = pooling_weights(scores, OddRegion(mask, 0.0), fraction, grow)

    assert weights.shape == GRID_HW
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-4)


def test_weights_grow_with_the_height_of_a_patch_over_the_median() -> None:
    scores = np.zeros((1, 5), np.float32)
    scores[0, 1:3] = 1.0, 3.0
    everywhere = OddRegion(np.ones((4, 20), np.bool_), 3.0)

    assert pooling_weights(scores, everywhere, fraction=0.0).tolist() == [[0, 0.25, 0.75, 0, 0]]
    assert pooling_weights(scores, everywhere, fraction=0.5).tolist() == [[0, 0, 1, 0, 0]]  # over 1.5 only


def test_a_grown_region_takes_in_its_neighbours() -> None:
    scores = np.array([[0, 0, 0, 2, 4, 2, 2]], np.float32) - 2  # the median is 0
    middle = OddRegion(np.kron(np.array([[0, 0, 0, 0, 1, 0, 0]]), np.ones((4, 4))).astype(np.bool_), 2.0)

    assert pooling_weights(scores, middle, 0.0).argmax() == 4
    assert np.count_nonzero(pooling_weights(scores - 0.5, middle, 0.0, grow_patches=0)) == 1
    raised = np.array([[0, 0, 0, 0, 4, 4, 0]], np.float32)
    assert pooling_weights(raised, middle, 0.0, grow_patches=1).tolist() == [[0, 0, 0, 0, 0.5, 0.5, 0]]


def test_a_box_on_a_flat_map_counts_each_of_its_patches_alike() -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[0:8, 0:4] = True  # two patches

    weights = pooling_weights(np.ones(GRID_HW, np.float32), OddRegion(mask, 1.0), 0.6)

    assert weights[:2, 0].tolist() == [0.5, 0.5]


@given(hnp.arrays(np.float32, (3, descriptor_dim(EMBEDDING)), elements=finite))
def test_a_unit_vector_has_length_one_and_its_views_the_same_length(vectors: Floats) -> None:
    views = view_slices(EMBEDDING)
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
