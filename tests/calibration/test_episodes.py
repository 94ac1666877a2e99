"""Episodes: who is a support, who is asked, and that they are prepared as the device does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.episodes import QUERIES_PER_CLASS, EpisodePool, split_classes
from edge.relation import SupportSet

F = 6
VIEWS = [slice(0, 2), slice(2, 6)]


def pool_of(counts: list[int]) -> EpisodePool:
    """Class c has counts[c] regions; each region is different, and different as a support."""
    labels = np.repeat(np.arange(len(counts)), counts)
    descriptors = np.random.default_rng(0).normal(size=(len(labels), F)).astype(np.float32)
    return EpisodePool(descriptors, 1.5 * descriptors, labels, np.full(F, 0.1, dtype=np.float32), VIEWS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=10), st.integers(0, 1000))
def test_every_class_of_an_episode_has_a_prototype_and_a_query(counts: list[int], seed: int) -> None:
    pool = pool_of(counts)
    usable = [c for c, count in enumerate(counts) if count >= 2]
    assert pool.usable_classes().tolist() == usable
    if len(usable) < 2:
        return
    episode = pool.draw(np.random.default_rng(seed))
    n_way = len(episode.prototypes)
    assert min(3, len(usable)) <= n_way <= min(8, len(usable))
    assert np.unique(episode.answers).tolist() == list(range(n_way))
    assert len(episode.queries) == len(episode.answers) <= n_way * QUERIES_PER_CLASS


def test_a_two_shot_episode_is_what_the_device_would_compute() -> None:
    pool = pool_of([3, 3])
    episode = pool.draw(np.random.default_rng(5), ways=(2, 2), shots=(2, 2))
    rng = np.random.default_rng(5)  # the same draws again, by hand
    rng.integers(2, 3)
    order = []
    for label in rng.choice([0, 1], 2, replace=False):
        order.append(rng.permutation(np.flatnonzero(pool.labels == label)))
        rng.integers(2, 3)
    supports = np.concatenate([rows[:2] for rows in order])
    expected = SupportSet.build(pool.supports[supports], np.array([0, 0, 1, 1]), pool.pseudo_centre, VIEWS)
    queries = pool.descriptors[[rows[2] for rows in order]] - expected.centre
    np.testing.assert_array_equal(episode.prototypes, expected.prototypes)
    np.testing.assert_array_equal(episode.queries, queries)
    assert episode.answers.tolist() == [0, 1]


def test_a_query_is_never_one_of_the_supports() -> None:
    pool = pool_of([2, 2, 2])
    for seed in range(20):
        episode = pool.draw(np.random.default_rng(seed), ways=(3, 3), shots=(1, 1))
        assert not any(np.allclose(q, p) for q in episode.queries for p in episode.prototypes)


def test_a_class_with_few_regions_gives_fewer_supports_than_asked_for() -> None:
    episode = pool_of([2, 8]).draw(np.random.default_rng(0), ways=(2, 2), shots=(5, 5))
    asked = np.bincount(episode.answers)
    assert sorted(asked.tolist()) == [1, 3]


def test_only_keeps_the_classes_asked_for_and_the_centre_of_the_product() -> None:
    pool = pool_of([2, 3, 4])
    kept = pool.only(np.array([0, 2]))
    assert np.bincount(kept.labels).tolist() == [2, 0, 4]
    np.testing.assert_array_equal(kept.pseudo_centre, pool.pseudo_centre)


@pytest.mark.parametrize(("count", "held_out"), [(16, 4), (180, 45), (4, 2)])
def test_no_class_is_both_trained_on_and_held_out(count: int, held_out: int) -> None:
    train, test = split_classes(np.arange(count), 0.25, seed=0)
    assert len(test) == held_out
    assert sorted([*train, *test]) == list(range(count))


def test_a_split_holds_out_a_share_of_every_class_and_no_region_twice() -> None:
    pool = pool_of([3, 6, 9])
    seen, unseen = pool.split(1 / 3, seed=0)
    assert np.bincount(seen.labels).tolist() == [2, 4, 6]
    assert np.bincount(unseen.labels).tolist() == [1, 2, 3]
    both = np.concatenate([seen.descriptors, unseen.descriptors])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, pool.descriptors.tolist()))
