"""Shards: every file once, in order, named by what is in them, and moved by no other file."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.listing import Entry
from edge.shards import FEWEST_PICTURES, MOST_PICTURES, Shard, cut, pictures_per_shard

FACTS = "f" * 64
MEAN = 16


def listing(pictures: int) -> list[Entry]:
    return [Entry(f"lot/{number:05}.png", 1000 + number, "2026-01-01T00:00:00.000Z") for number in range(pictures)]


def shards_of(entries: list[Entry], facts_sha256: str = FACTS) -> list[Shard]:
    return list(cut(entries, facts_sha256, MEAN))


def ids(shards: list[Shard]) -> set[str]:
    return {shard.shard_id for shard in shards}


@pytest.mark.parametrize(
    ("pictures", "expected"), [(1, FEWEST_PICTURES), (6400, 100), (65_536, MOST_PICTURES), (10_000_000, MOST_PICTURES)]
)
def test_a_small_folder_has_many_shards_and_a_large_one_not_too_many(pictures: int, expected: int) -> None:
    assert pictures_per_shard(pictures) == expected


@settings(max_examples=30, deadline=None)
@given(pictures=st.integers(0, 700))
def test_every_file_once_in_order_and_no_shard_too_large_or_small(pictures: int) -> None:
    shards = shards_of(listing(pictures))
    assert [entry for shard in shards for entry in shard.entries()] == listing(pictures)
    assert all(shard.pictures == len(shard.entries()) <= 4 * MEAN for shard in shards)
    assert all(shard.pictures * 4 >= MEAN for shard in shards[:-1])
    assert [(s.first, s.last) for s in shards] == [(s.entries()[0].name, s.entries()[-1].name) for s in shards]


def test_shards_have_about_the_size_that_was_asked_for() -> None:
    shards = shards_of(listing(20_000))
    assert 0.8 * MEAN < 20_000 / len(shards) < 1.3 * MEAN


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 1999))
def test_a_file_that_comes_goes_or_changes_touches_its_own_neighbourhood_alone(at: int) -> None:
    entries = listing(2000)
    before = ids(shards_of(entries))
    came = [*entries[:at], Entry(entries[at].path + "+", 7, "2026-01-02T00:00:00.000Z"), *entries[at:]]
    gone = [*entries[:at], *entries[at + 1 :]]
    changed = [*entries[:at], replace(entries[at], size_bytes=1), *entries[at + 1 :]]
    for after in (came, gone):
        assert len(ids(shards_of(sorted(after, key=lambda entry: entry.path))) - before) <= 8
    assert len(ids(shards_of(changed)) - before) == 1


def test_other_facts_are_other_shards() -> None:
    entries = listing(100)
    assert ids(shards_of(entries)) == ids(shards_of(listing(100)))
    assert not ids(shards_of(entries)) & ids(shards_of(entries, "0" * 64))
