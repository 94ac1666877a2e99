"""What goes when there is too much evidence, on any stock and any budget."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.outputs.evidence_budget import Budget, Kept, Stock, surplus

NOW_S = 100 * 86_400.0


@st.composite
def stocks(draw: st.DrawFn) -> list[Kept]:
    """Results in the order they were kept, whatever the clock said."""
    kinds = [("good", ""), ("no_verdict", ""), ("defect", "scratch"), ("defect", "chip"), ("defect", "")]
    drawn = draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 9), st.integers(0, 99)), max_size=40))
    return [
        Kept(number, day * 86_400.0, verdict, label, f"id-{number}", size)
        for number, ((verdict, label), size, day) in enumerate(drawn)
    ]


def goes(kept: list[Kept], budget: Budget) -> list[Kept]:
    return list(surplus(Stock(kept), budget, NOW_S))


def stays(kept: list[Kept], gone: list[Kept]) -> list[Kept]:
    return [each for each in kept if each not in gone]


limits = st.builds(
    Budget,
    max_bytes=st.integers(0, 200),
    max_days=st.none() | st.floats(1, 99),
    max_per_class=st.none() | st.integers(1, 9),
)


@given(stocks(), limits)
def test_what_stays_is_within_every_limit(kept: list[Kept], budget: Budget) -> None:
    left = stays(kept, goes(kept, budget))
    assert sum(each.size_bytes for each in left) <= budget.max_bytes
    assert max(Counter(each.label for each in left if each.verdict == "defect").values(), default=0) <= (
        budget.max_per_class or len(kept)
    )
    for group in {each.group for each in left}:
        oldest = next(each for each in left if each.group == group)
        assert budget.max_days is None or NOW_S - oldest.moment_s <= budget.max_days * 86_400


@given(stocks(), limits)
def test_of_each_group_the_oldest_go_and_what_may_stay_stays_for_good(kept: list[Kept], budget: Budget) -> None:
    gone = goes(kept, budget)
    left = stays(kept, gone)
    for group in {each.group for each in left}:
        first_left = min(each.number for each in left if each.group == group)
        assert all(each.number < first_left for each in gone if each.group == group)
    assert goes(left, budget) == []


@given(stocks(), st.integers(0, 200))
def test_for_the_bytes_good_ones_go_before_missing_verdicts_and_those_before_rejects(
    kept: list[Kept], max_bytes: int
) -> None:
    gone = goes(kept, Budget(max_bytes))
    left = {each.verdict for each in stays(kept, gone)}
    lost = {each.verdict for each in gone}
    assert not ("no_verdict" in lost and "good" in left)
    assert not ("defect" in lost and left & {"good", "no_verdict"})
    if gone:  # one less would have been too few
        assert sum(each.size_bytes for each in kept if each not in gone[:-1]) > max_bytes


@given(stocks(), st.integers(0, 200))
def test_of_rejects_the_class_that_has_most_loses(kept: list[Kept], max_bytes: int) -> None:
    counts = Counter(each.label for each in kept if each.verdict == "defect")
    for each in goes(kept, Budget(max_bytes)):
        if each.verdict == "defect":
            assert counts[each.label] == max(counts.values())
            counts[each.label] -= 1


@given(stocks(), limits)
def test_a_stock_that_grows_one_by_one_ends_within_the_same_limits(kept: list[Kept], budget: Budget) -> None:
    stock = Stock()
    for each in kept:
        stock.add(each)
        list(surplus(stock, budget, NOW_S))
    assert stock.next_to_go(budget, NOW_S) is None
    assert stock.size_bytes <= budget.max_bytes
    assert len(stock) == sum(stock.find(each.result_id) is each for each in kept)


def a(number: int, verdict: Any = "defect", label: str = "", result_id: str = "", day: float = 99) -> Kept:
    return Kept(number, day * 86_400, verdict, label, result_id or f"id-{number}", 1)


@pytest.mark.parametrize(
    ("kept", "budget", "due"),
    [
        ([a(0), a(1, "no_verdict"), a(2, "good"), a(3, "good")], Budget(1), [2, 3, 1]),
        ([a(0, label="x"), a(1, label="y"), a(2, label="y"), a(3, label="x")], Budget(1), [0, 1, 2]),
        ([a(0, label="x"), a(1, label="y"), a(2, label="y"), a(3, "good")], Budget(9, max_per_class=1), [1]),
        ([a(0, day=10), a(1, "good", day=95), a(2, "good", day=80)], Budget(9, max_days=10), [0]),
    ],
)
def test_by_hand(kept: list[Kept], budget: Budget, due: list[int]) -> None:
    assert [each.number for each in goes(kept, budget)] == due


def test_a_result_that_was_kept_twice_is_found_as_long_as_one_of_both_is_there() -> None:
    stock = Stock([a(0, result_id="same"), a(1, result_id="same"), a(2)])
    stock.remove_oldest(("defect", ""))
    assert stock.find("same") == a(1, result_id="same")
    stock.remove_oldest(("defect", ""))
    assert stock.find("same") is None


def test_a_consumer_that_fails_leaves_what_it_failed_at_in_the_stock() -> None:
    stock = Stock([a(0), a(1)])
    for _ in surplus(stock, Budget(0), NOW_S):
        break  # as an error would
    assert len(stock) == 2
