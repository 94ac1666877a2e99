"""Patch embeddings of good pictures -> a memory bank, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibration.coreset import StreamingCoreset
from calibration.good_pictures import Embedder, GoodSource, Track, no_track
from edge.bundle import search_columns
from edge.manifest import Embedding
from edge.memory_bank import MemoryBank, MemoryBankArrays, standardise

# Channel statistics settle long before this many pictures; more would only be read twice.
STATISTICS_PICTURES = 100
REFINE_PICTURES = 200
REFINE_STEP = 0.75  # 1 is a Lloyd step of k-means: better places, but rare good patches lose their row
MIN_STD = 1e-6
MIN_STRIDE = 8

Block = tuple[np.ndarray, np.ndarray]  # standardised patches (n, D), and (n, 3) source, row and column of each


def default_tap_weights(embedding: Embedding, taps: Sequence[str] | None = None) -> dict[str, float]:
    """Every tap of stride 8 and coarser, or `taps`, each by its stride over that of the coarsest one.

    Deep features say what a patch is, fine ones where exactly; at equal weight the fine ones' noise decides.
    """
    strides = {tap.name: tap.stride for tap in embedding.taps}
    for name in taps or ():
        embedding.tap_slice(name)  # names the taps there are
    chosen = [name for name, stride in strides.items() if (stride >= MIN_STRIDE if taps is None else name in taps)]
    return {name: strides[name] / max(strides[other] for other in chosen) for name in chosen}


@dataclass(frozen=True)
class BuiltBank:
    """A bank. coreset_radius: every patch seen is within it of a row of the greedy choice, before refinement."""

    bank: MemoryBank
    coreset_radius: float
    peak_pool_rows: int


def build_bank(
    embedder: Embedder,
    paths: Sequence[GoodSource],
    tap_weights: dict[str, float],
    rows: int,
    track: Track[Any] = no_track,
) -> BuiltBank:
    """Three passes over `paths`: channel statistics, the streaming coreset of all, and one refinement of its rows."""
    mean, std = channel_statistics(embedder, paths[:STATISTICS_PICTURES], track)
    search = search_columns(embedder.embedding, tap_weights)

    def blocks(pictures: Sequence[GoodSource], label: str) -> Iterator[Block]:
        for source_index, e in track(enumerate(embedder.embed_good(pictures)), label, len(pictures)):
            yield standardise(e, mean, std), embedder.patch_origins(source_index)

    coreset = StreamingCoreset(rows, search)
    for standardised, origins in blocks(paths, "memory bank"):
        coreset.add(standardised, origins)
    return refined(coreset, mean, std, blocks(paths[:REFINE_PICTURES], "refinement"))


def refined(coreset: StreamingCoreset, mean: np.ndarray, std: np.ndarray, blocks: Iterable[Block]) -> BuiltBank:
    """The rows that a coreset chose, moved by `refine`. mean, std: (D,) that its patches were standardised with."""
    vectors, origins, radius = coreset.result()
    bank = MemoryBank(MemoryBankArrays(vectors, mean, std, origins[:, 0], origins[:, 1:]), coreset.search)
    return BuiltBank(MemoryBank(refine(bank, blocks), coreset.search), radius, coreset.peak_pool_rows)


def refine(bank: MemoryBank, blocks: Iterable[Block]) -> MemoryBankArrays:
    """Move each row REFINE_STEP of the way to the mean of the patches nearest to it; a row without patches stays.

    The greedy choice takes patches at the edge of what is normal; between them ordinary surface is left far from
    any row and looks as odd as a faint defect. blocks: standardised (n, D) and origins (n, 3). A row's
    provenance becomes the patch nearest to where it was.
    """
    old = bank.arrays
    total, count = np.zeros(old.vectors.shape), np.zeros(bank.rows, dtype=np.int64)
    nearest, origins = np.full(bank.rows, np.inf), np.column_stack([old.source_index, old.patch_yx])
    for standardised, patch_origins in blocks:
        distances, rows = bank.nearest(standardised)
        np.add.at(total, rows, standardised)
        count += np.bincount(rows, minlength=bank.rows)
        for patch in np.flatnonzero(distances < nearest[rows]):
            if distances[patch] < nearest[rows[patch]]:
                nearest[rows[patch]], origins[rows[patch]] = distances[patch], patch_origins[patch]
    means = total / np.maximum(count, 1)[:, np.newaxis]
    step = np.where(count > 0, REFINE_STEP, 0.0)[:, np.newaxis]
    vectors = (old.vectors + step * (means - old.vectors)).astype(np.float32)
    return replace(old, vectors=vectors, source_index=origins[:, 0], patch_yx=origins[:, 1:])


def channel_statistics(
    embedder: Embedder, paths: Sequence[GoodSource], track: Track[Any] = no_track
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every feature over all patches of `paths`: two (D,) float32."""
    total = np.zeros(embedder.embedding.dim)
    total_sq = np.zeros(embedder.embedding.dim)
    count = 0
    for embeddings in track(embedder.embed_good(paths), "statistics", len(paths)):
        wide = embeddings.astype(np.float64)
        total, total_sq, count = total + wide.sum(0), total_sq + (wide**2).sum(0), count + len(wide)
    mean = total / count
    std = np.sqrt(np.maximum(total_sq / count - mean**2, 0))
    return mean.astype(np.float32), np.maximum(std, MIN_STD).astype(np.float32)
