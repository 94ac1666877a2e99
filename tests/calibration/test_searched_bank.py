"""The search a user asks for, where a bank has it and where it has not."""

from __future__ import annotations

import pytest

from calibration.searched_bank import asked_for
from edge.errors import UsageError
from edge.manifest import ListFacts, ProjectionFacts, Search, SearchFacts

FASTEST = SearchFacts(
    search="int8",
    projection=ProjectionFacts(dims=64, excess=0.002),
    lists=ListFacts(lists=10, probes=2, odd_probes=16, excess=0.001),
)


@pytest.mark.parametrize("search", ["exact", "int8", "projected", "lists", "hnsw"])
def test_what_was_asked_for_is_taken_and_all_else_stays(search: Search) -> None:
    assert asked_for(FASTEST, search, rows=2000) == FASTEST.model_copy(update={"search": search})


@pytest.mark.parametrize("search", ["projected", "lists"])
def test_a_search_that_the_bank_has_not_is_one_clear_line(search: Search) -> None:
    with pytest.raises(UsageError, match=f"--search {search}: this bank of 2,000 rows has none, .* leave --search out"):
        asked_for(SearchFacts(search="int8"), search, rows=2000)
