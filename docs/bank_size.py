"""What a larger memory bank costs: table and plot of search time, memory and recall by rows and dimensions.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python docs/bank_size.py BUNDLE DATASET OUT.svg

Rows are real patch embeddings of DATASET/train/good: EfficientNet-Lite2, strides 4 to 32 (544 columns), standardised
as a bank does, then its first principal components. Pictures give as many patches as they have; more come from the
same pictures turned over and shifted. Rows are a random sample, as no coreset of a million can be had in useful time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import hnswlib  # noqa: E402
from bank_size_plot import plot  # noqa: E402

from calibration.dataset import find_dataset  # noqa: E402
from calibration.metrics import auroc  # noqa: E402
from edge import Inspector, Provenance, read_picture  # noqa: E402
from edge.int8_search import Int8Search  # noqa: E402
from edge.list_search import ListSearch  # noqa: E402
from edge.machine import machine_facts, rss_kib  # noqa: E402
from edge.memory_bank import HnswIndex, standardise  # noqa: E402
from edge.pictures import iter_picture_paths  # noqa: E402
from edge.preprocess import resize_square  # noqa: E402
from export.bank_index import EF_CONSTRUCTION, M_LINKS, MAX_EXCESS  # noqa: E402
from export.list_centres import LEAST_ROWS, fewest_probes, list_centres  # noqa: E402

SIDE_PX, STRIDES = 256, (4, 8, 16, 32)
SIZES, DIMS = (1_000, 10_000, 100_000, 1_000_000), (64, 128, 256, 512)
MILLION_DIMS = (64, 128)  # more would be hours
TEST_PICTURES = {1_000: 60, 10_000: 60, 100_000: 40, 1_000_000: 4}  # searched exactly, half of them defects
TIMED_PICTURES, TOP_SHARE = 4, 0.01
HNSW_BUILD_S, HNSW_EFS = 60, (16, 32, 64)
PROBE_QUERIES = 240  # by which the number of lists to look into is chosen
ROUNDS = 3


def patches_of(frames_bgr: np.ndarray, embed: Callable[[Any], Any]) -> np.ndarray:
    """(n, S, S, 3) -> (n, 1024, 544) float32, backbone units."""
    import torch

    found = []
    for start in range(0, len(frames_bgr), 8):
        rgb = np.ascontiguousarray(frames_bgr[start : start + 8, ..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)
        with torch.inference_mode():
            found.append(embed((torch.from_numpy(rgb) - 127) / 128).numpy())
    return np.concatenate(found)


def views(frames_bgr: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures; then turned over in three ways; then shifted by some pixels, edges repeated."""
    yield frames_bgr
    yield from (frames_bgr[:, ::-1], frames_bgr[:, :, ::-1], frames_bgr[:, ::-1, ::-1])
    for dx, dy in ((5, 3), (-3, 5), (3, -5)):
        move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        size = (SIDE_PX, SIDE_PX)
        yield np.stack([cv2.warpAffine(f, move, size, borderMode=cv2.BORDER_REPLICATE) for f in frames_bgr])


class Space:
    """Backbone units -> principal components of standardised embeddings."""

    def __init__(self, sample: np.ndarray) -> None:
        """sample: (n, D)."""
        self.mean, self.std = sample.mean(0), np.maximum(sample.std(0), 1e-6)
        z = standardise(sample, self.mean, self.std)
        self.middle = z.mean(0)
        values, vectors = np.linalg.eigh(np.cov((z - self.middle).T))
        self.axes = np.ascontiguousarray(vectors[:, ::-1][:, : max(DIMS)]).astype(np.float32)
        self.kept = {d: float(values[::-1][:d].sum() / values.sum()) for d in DIMS}

    def keys(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, 512), the first columns are the strongest."""
        return np.asarray((standardise(embeddings, self.mean, self.std) - self.middle) @ self.axes, dtype=np.float32)


def gather_rows(good_bgr: np.ndarray, embed: Callable[[Any], Any], rows: int) -> tuple[Space, np.ndarray, int]:
    """`rows` random patches (rows, 512), evenly of as many views as it takes."""
    rng, grid = np.random.default_rng(0), (SIDE_PX // 8) ** 2
    pictures = min(int(np.ceil(rows / grid * 1.1)), 7 * len(good_bgr))
    space = Space(patches_of(good_bgr[::10], embed).reshape(-1, embed_dim(embed)))
    taken = -(-rows // pictures)
    found, seen = [], 0
    for view in views(good_bgr):
        for start in range(0, len(view), 8):
            block = patches_of(view[start : start + 8], embed)
            for each in block[: pictures - seen]:
                found.append(space.keys(each[rng.choice(grid, min(taken, grid), replace=False)]))
                seen += 1
            if seen >= pictures:
                keys = np.concatenate(found)
                return space, keys[rng.permutation(len(keys))[:rows]], pictures
    raise SystemExit("too few pictures")


def embed_dim(embed: Any) -> int:
    """D."""
    return int(embed(__import__("torch").zeros(1, 3, SIDE_PX, SIDE_PX)).shape[-1])


def exact_rows(keys: np.ndarray, half: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(N, d) -> rows (N,), as MemoryBank does it, block by block."""
    size = max(1, min(512, (1 << 22) // len(keys)))
    blocks = (queries[i : i + size] for i in range(0, len(queries), size))
    return np.concatenate([(block @ keys.T - half).argmax(1) for block in blocks])


def hnsw_within(keys: np.ndarray, limit_s: float) -> HnswIndex | None:
    """As export/bank_index.py builds it, one thread; None when it takes longer than `limit_s`."""
    index = hnswlib.Index(space="l2", dim=keys.shape[1])
    index.init_index(len(keys), M=M_LINKS, ef_construction=EF_CONSTRUCTION, random_seed=0)
    started_s = perf_counter()
    for start in range(0, len(keys), 1000):
        index.add_items(keys[start : start + 1000], np.arange(start, min(start + 1000, len(keys))), num_threads=1)
        if perf_counter() - started_s > limit_s:
            return None
    return HnswIndex(index, HNSW_EFS[0])


def lists_of(keys: np.ndarray, choosing: np.ndarray) -> ListSearch | None:
    """As export/bank_index.py builds them; choosing: (n, d) patches; None when they miss too much."""
    exact = np.linalg.norm(choosing - keys[exact_rows(keys, 0.5 * np.einsum("md,md->m", keys, keys), choosing)], axis=1)

    def excess(search: ListSearch) -> float:
        found = np.linalg.norm(choosing - keys[search.nearest_rows(choosing)], axis=1)
        return float((found - exact).sum() / exact.sum())

    centres = list_centres(keys)
    facts = fewest_probes(keys, centres, excess, MAX_EXCESS)
    return ListSearch(keys, centres, facts) if facts else None


def searches(
    keys: np.ndarray, choosing: np.ndarray
) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray] | None, dict[str, Any]]]:
    """Name, search, facts of each; None for what was not built."""
    half = 0.5 * np.einsum("md,md->m", keys, keys)
    yield "exact", lambda q: exact_rows(keys, half, q), {"build_s": 0.0, "mib": keys.nbytes / 2**20}
    for name, make, size in (
        ("int8", lambda: Int8Search(keys), keys.nbytes / 4 / 2**20),
        ("lists", lambda: lists_of(keys, choosing), (keys.nbytes + 12 * len(keys)) / 2**20),
        ("hnsw", lambda: hnsw_within(keys, HNSW_BUILD_S), (keys.nbytes + len(keys) * (M_LINKS * 8 + 16)) / 2**20),
    ):
        if (name == "lists" and len(keys) < LEAST_ROWS) or (name == "hnsw" and len(keys) > 100_000):
            continue
        before_kib, started_s = rss_kib(), perf_counter()
        built = make()
        facts = {"build_s": perf_counter() - started_s, "rss_mib": (rss_kib() - before_kib) / 1024}
        if built is None:
            yield name, None, facts
            continue
        facts["mib"] = size
        for ef in HNSW_EFS if name == "hnsw" else (0,):
            if ef:
                built.set_ef(ef)
            yield f"{name} {ef}" if ef else name, built.nearest_rows, facts


def measure(keys: np.ndarray, tests: np.ndarray, is_defect: np.ndarray) -> list[dict[str, Any]]:
    """Every search of one bank. tests: (n, 1024, d) of good pictures and defects in turns."""
    cells: list[dict[str, Any]] = []
    exact: np.ndarray | None = None
    choosing = tests[-6:].reshape(-1, tests.shape[2])[:: 6 * tests.shape[1] // PROBE_QUERIES]
    for name, find, facts in searches(keys, choosing):
        cell: dict[str, Any] = {"rows": len(keys), "dim": keys.shape[1], "search": name, **facts}
        cells.append(cell)
        if find is None:
            continue
        distances = np.stack([np.linalg.norm(q - keys[find(q)], axis=1) for q in tests])
        exact = distances if exact is None else exact
        scores, true_scores = picture_scores(distances), picture_scores(exact)
        cell["search_ms"] = [round(each, 3) for each in timed_ms(find, tests)]
        cell["recall"] = float(np.mean(distances <= exact * (1 + 1e-5) + 1e-5))
        cell["score_error"] = float(np.abs(scores / true_scores - 1).mean())
        cell["auroc"] = auroc(scores, is_defect)
    return cells


def picture_scores(distances: np.ndarray) -> np.ndarray:
    """(n, 1024) -> (n,): mean of the largest hundredth, without what a bundle knows of places."""
    top = round(TOP_SHARE * distances.shape[1])
    return np.sort(distances, axis=1)[:, -top:].mean(axis=1)


def timed_ms(find: Callable[[np.ndarray], np.ndarray], tests: np.ndarray) -> list[float]:
    """One frame's patches, p50 over pictures, of each round; the least counts, as others may be at work."""
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for queries in tests[:TIMED_PICTURES]:
            started_s = perf_counter()
            find(queries)
            taken.append((perf_counter() - started_s) * 1e3)
        rounds.append(float(np.median(taken)))
        if rounds[0] > 2000:
            break
    return rounds


def rest_of_frame_ms(bundle: Path, frame_bgr: np.ndarray) -> float:
    """A good frame's whole inspection less the search in the bundle's own bank, p50."""
    inspector = Inspector.load(bundle)
    inspector.image_threshold = 1e9
    queries = np.resize(inspector.bank.keys, (1024, inspector.bank.keys.shape[1]))
    find = Int8Search(inspector.bank.keys).nearest_rows
    whole, search = [], []
    for _ in range(60):
        started_s = perf_counter()
        inspector.inspect(frame_bgr, Provenance("bank size", 0, "2026-01-01T00:00:00.000Z")).to_json()
        middle_s = perf_counter()
        find(queries)
        whole.append((middle_s - started_s) * 1e3)
        search.append((perf_counter() - middle_s) * 1e3)
    return float(np.median(whole) - np.median(search))


def table(cells: list[dict[str, Any]], rest_ms: float) -> str:
    """Markdown. A frame is the rest of the inspection and the search; over 1k is against the fastest at 1,000 rows."""
    lines = [
        "| rows | dims | search | search, ms (rounds) | frame over 1k | recall@1 | score error | AUROC | MiB | "
        "RSS, MiB | build, s |",
        "|" + "---|" * 11,
    ]
    for cell in cells:
        head = f"| {cell['rows']:,} | {cell['dim']} | {cell['search']} |"
        if "search_ms" not in cell:
            lines.append(f"{head} not built in {HNSW_BUILD_S} s | | | | | | | |")
            continue
        base = min(
            min(c["search_ms"]) for c in cells if c["rows"] == SIZES[0] and c["dim"] == cell["dim"] and "mib" in c
        )
        ms = min(cell["search_ms"])
        lines.append(
            f"{head} {ms:.2f} (to {max(cell['search_ms']):.2f}) | "
            f"{(rest_ms + ms) / (rest_ms + base):.2f} | {cell['recall']:.4f} | {100 * cell['score_error']:.2f} % | "
            f"{cell['auroc']:.4f} | {cell['mib']:.1f} | {cell.get('rss_mib', 0):.0f} | {cell['build_s']:.1f} |"
        )
    return "\n".join(lines)


def main(bundle: Path, dataset_folder: Path, out: Path) -> None:
    """Everything; cells are also written beside the plot as JSON while they come."""
    from export.backbone import load_backbone, patch_embedder

    dataset = find_dataset(dataset_folder)
    backbone = load_backbone("efficientnet-lite2", None, SIDE_PX, STRIDES)
    embed = patch_embedder(backbone, SIDE_PX)
    good = [resize_square(read_picture(p), SIDE_PX) for p in sorted(iter_picture_paths(dataset_folder / "train/good"))]
    rest_ms = rest_of_frame_ms(bundle, good[0])
    space, keys, pictures = gather_rows(np.stack(good), embed, max(SIZES))
    tests, is_defect = test_patches(dataset, embed, space)
    print(json.dumps(machine_facts()), f"\nrest of a frame {rest_ms:.2f} ms; {pictures} views; kept {space.kept}")
    cells: list[dict[str, Any]] = []
    for rows in SIZES:
        for dim in DIMS if rows < SIZES[-1] else MILLION_DIMS:
            some = slice(0, TEST_PICTURES[rows])
            bank = np.ascontiguousarray(keys[:rows, :dim])
            cells += measure(bank, np.ascontiguousarray(tests[some, :, :dim]), is_defect[some])
            out.with_suffix(".json").write_text(json.dumps({"rest_ms": rest_ms, "cells": cells}))
    out.write_text(plot(cells, rest_ms))
    print(table(cells, rest_ms))


def test_patches(dataset: Any, embed: Callable[[Any], Any], space: Space) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1024, 512) and (n,) whether defect, in turns, evenly over the test split."""
    count = max(TEST_PICTURES.values()) // 2
    goods = [s for s in dataset.samples if not s.is_defect]
    odds = [s for s in dataset.samples if s.is_defect]
    chosen = [
        s for i in range(count) for s in (goods[i * len(goods) // count], odds[(i * 7 % count) * len(odds) // count])
    ]
    frames = np.stack([resize_square(read_picture(s.path), SIDE_PX) for s in chosen])
    patches = patches_of(frames, embed)
    return np.stack([space.keys(each) for each in patches]), np.array([s.is_defect for s in chosen])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
