"""A product's memory bank and how it is searched: one bank, or one for each place of aligned parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from calibration.build_bank import BuiltBank, build_bank
from calibration.build_placed_bank import build_placed_bank
from calibration.good_pictures import Embedder, Track
from calibration.recipe import Recipe
from calibration.sources import Sources
from edge.bundle import searched_as
from edge.errors import UsageError
from edge.manifest import MemoryBankFacts, Search, SearchFacts
from edge.memory_bank import MemoryBank
from edge.placed_bank import PlacedBank


class IndexBank(Protocol):
    """The stage that finds the fastest search of a bank, see `export.bank_index`."""

    def __call__(self, folder: Path, bank: MemoryBank, good: np.ndarray, pseudo: np.ndarray, seed: int) -> SearchFacts:
        """Write what searches need; their facts, and the fastest that finds what exact search finds."""


def build(embedder: Embedder, sources: Sources, recipe: Recipe, rows: int, track: Track[Any]) -> BuiltBank:
    """One bank, or one for each place of aligned parts; searched exactly so far."""
    view, plan = sources.view, sources.view.aligned_plan
    if plan and view.tiling:
        return build_placed_bank(embedder, sources.fit, recipe.tap_weights, rows, plan, view.tiling, track)
    return build_bank(embedder, sources.fit, recipe.tap_weights, rows, track)


def asked_for(searches: SearchFacts, search: Search, rows: int) -> SearchFacts:
    """With the search that a user asks for; UsageError where the bank has none of its kind."""
    if (search == "lists" and searches.lists is None) or (search == "projected" and searches.projection is None):
        raise UsageError(
            f"--search {search}: this bank of {rows:,} rows has none, as it is too small for it or rows found would be "
            "too far; leave --search out, which takes the fastest"
        )
    return searches.model_copy(update={"search": search})


def bank_facts(built: BuiltBank, sources: Sources, recipe: Recipe, rows: int, searches: SearchFacts) -> MemoryBankFacts:
    """What the manifest says of the bank. rows: that were asked for."""
    return MemoryBankFacts(
        rows=built.bank.rows,
        rows_a_place=rows if sources.view.aligned_plan else None,
        tap_weights=recipe.tap_weights,
        search_dim=built.bank.keys.shape[1],
        coreset_radius=round(built.coreset_radius, 4),
        **dict(searches),
    )


def searched(bank: MemoryBank, facts: MemoryBankFacts, sources: Sources, folder: Path) -> MemoryBank:
    """The bank as the device will search it; what the search needs lies in `folder`."""
    view, plan = sources.view, sources.view.aligned_plan
    if plan and view.tiling:
        return PlacedBank.of(bank, plan, view.tiling, facts.search == "int8")
    return searched_as(bank, facts, folder)
