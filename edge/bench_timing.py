"""The timing loop: bare backbone, good frame and rejected frame in turns, so that noise hits all three."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, row_search
from edge.class_store import ClassStore, Support
from edge.defect_bank import TaughtPatches
from edge.inspector import Inspector, StageClock
from edge.manifest import Search
from edge.memory_bank import INDEX_FILE, MemoryBank, RowSearch
from edge.pictures import FrameBgr
from edge.preprocess import to_network_input
from edge.relation import RelationClassifier
from edge.result import Provenance, utc_now

WARM_UP_FRAMES = 5
SEARCH_ROUNDS = 30
# These thresholds decide the verdict whatever the frame shows.
ALWAYS_GOOD, ALWAYS_REJECTED = 1e9, -1e9
# Classes for a bundle in which none is enrolled, so that typing has something to do.
OWN_CLASSES, OWN_SHOTS = 5, 2


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, latencies_ms: list[float]) -> Percentiles:
        """At least one latency."""
        p50, p95 = np.percentile(latencies_ms, [50, 95])
        return cls(round(float(p50), 3), round(float(p95), 3))


@dataclass
class FrameTimings:
    """Milliseconds of each frame so far: frame in memory -> JSON line, and its stages."""

    whole: list[float] = field(default_factory=list)
    stages: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def stage_percentiles(self) -> dict[str, Percentiles]:
        """Per stage, in the order of work."""
        return {name: Percentiles.of(latencies) for name, latencies in self.stages.items()}


@dataclass(frozen=True)
class LatencyFigures:
    """good: detection alone. rejected: detection, regions and typing. ratio: whole frame over bare backbone, p50."""

    bare_backbone_ms: Percentiles
    good_frame_ms: Percentiles
    rejected_frame_ms: Percentiles
    good_ratio: float
    rejected_ratio: float
    good_stages_ms: dict[str, Percentiles]
    rejected_stages_ms: dict[str, Percentiles]
    regions_typed: int
    classes: int


@dataclass(frozen=True)
class SearchFigures:
    """One frame's patches looked up in this bank, one thread. others: every search that the bundle has, by name."""

    queries: int
    exact_ms: Percentiles
    others: dict[str, ApproximateSearch]


@dataclass(frozen=True)
class ApproximateSearch:
    """recall_at_1: share of patches whose row is as near as the nearest. excess: how much farther the rows are, of
    the distance, on average."""

    ms: Percentiles
    recall_at_1: float
    excess: float


def time_frames(inspector: Inspector, frame_bgr: FrameBgr, frames: int) -> LatencyFigures:
    """Inspect the frame `frames` times as a good and as a rejected one."""
    if not inspector.classifier.names:
        inspector.classifier = own_classifier(inspector)
    inputs = {"images": to_network_input(frame_bgr, inspector.manifest.embedding)}
    bare: list[float] = []
    good, rejected = FrameTimings(), FrameTimings()
    regions_typed = 0
    for number in range(-WARM_UP_FRAMES, frames):
        if number == 0:
            bare, good, rejected = [], FrameTimings(), FrameTimings()
        bare.append(_latency_ms(lambda: inspector.backbone.run(inputs)))
        _time_frame(inspector, frame_bgr, ALWAYS_GOOD, good)
        regions_typed = _time_frame(inspector, frame_bgr, ALWAYS_REJECTED, rejected)
    backbone, whole_good, whole_rejected = (Percentiles.of(t) for t in (bare, good.whole, rejected.whole))
    return LatencyFigures(
        bare_backbone_ms=backbone,
        good_frame_ms=whole_good,
        rejected_frame_ms=whole_rejected,
        good_ratio=round(whole_good.p50 / backbone.p50, 3),
        rejected_ratio=round(whole_rejected.p50 / backbone.p50, 3),
        good_stages_ms=good.stage_percentiles(),
        rejected_stages_ms=rejected.stage_percentiles(),
        regions_typed=regions_typed,
        classes=len(inspector.classifier.names),
    )


def time_search(inspector: Inspector, frame_bgr: FrameBgr) -> SearchFigures:
    """Every search of the same patches in turns; the bank's own columns and `ef`."""
    bank = inspector.bank
    frame_hw = frame_bgr.shape[0], frame_bgr.shape[1]
    box_xyxy = x0, y0, x1, y1 = inspector.view.pieces_xyxy(frame_hw)[0]
    piece_bgr = np.ascontiguousarray(frame_bgr[y0:y1, x0:x1])
    place_yx = inspector.view.place_yx(box_xyxy, frame_hw)
    seen = inspector.look(piece_bgr, place_yx, StageClock(), TaughtPatches.none())
    queries = bank.search.keys(seen.standardised)
    searches = other_searches(inspector.bundle, bank)
    exact_ms: list[float] = []
    others_ms: dict[Search, list[float]] = {name: [] for name in searches}
    for _ in range(SEARCH_ROUNDS):
        exact_ms.append(_latency_ms(lambda: bank.nearest_rows_exact(queries)))
        for name, search in searches.items():
            others_ms[name].append(_latency_ms(partial(search.nearest_rows, queries)))
    return SearchFigures(
        queries=len(queries),
        exact_ms=Percentiles.of(exact_ms),
        others={name: _compared(bank, queries, search, others_ms[name]) for name, search in searches.items()},
    )


def other_searches(bundle: Bundle, bank: MemoryBank) -> dict[Search, RowSearch]:
    """Every search but the exact one that the bundle has what it takes for, also those that calibration ruled out."""
    facts = bundle.manifest.memory_bank
    built: dict[Search, object] = {
        "int8": True,
        "projected": facts.projection,
        "lists": facts.lists,
        "hnsw": facts.index if INDEX_FILE in bundle.manifest.files else None,
    }
    return {
        name: row_search(bank, facts.model_copy(update={"search": name}), bundle.folder)
        for name, has in built.items()
        if has
    }


def own_classifier(inspector: Inspector) -> RelationClassifier:
    """Supports scattered around the bundle's descriptor centre: typing costs the same whatever they show."""
    rng = np.random.default_rng(0)
    numbers = [k for k in range(OWN_CLASSES) for _ in range(OWN_SHOTS)]
    supports = tuple(Support(f"class {k}", "bench", "", (0, 0, 1, 1), 0.0, "") for k in numbers)
    scatter = rng.standard_normal((len(numbers), len(inspector.centre))).astype(np.float32)
    store = ClassStore(inspector.manifest.bundle_id, supports, inspector.centre + scatter)
    return inspector.classifier_for(store)


def _time_frame(inspector: Inspector, frame_bgr: FrameBgr, image_threshold: float, timings: FrameTimings) -> int:
    """Inspect once, keep the latencies; number of regions found."""
    inspector.image_threshold = image_threshold
    provenance = Provenance("bench", 0, utc_now())
    started_s = perf_counter()
    inspection = inspector.inspect(frame_bgr, provenance)
    inspected_s = perf_counter()
    inspection.to_json()
    ended_s = perf_counter()
    timings.whole.append((ended_s - started_s) * 1e3)
    for stage, latency_ms in {**inspection.latency_ms, "record": (ended_s - inspected_s) * 1e3}.items():
        timings.stages[stage].append(latency_ms)
    return len(inspection.regions)


def _compared(
    bank: MemoryBank, queries: npt.NDArray[np.float32], search: RowSearch, latencies_ms: list[float]
) -> ApproximateSearch:
    """With exact search; ties count as found."""
    found = np.linalg.norm(queries - bank.keys[search.nearest_rows(queries)], axis=1)
    exact = np.linalg.norm(queries - bank.keys[bank.nearest_rows_exact(queries)], axis=1)
    return ApproximateSearch(
        ms=Percentiles.of(latencies_ms),
        recall_at_1=round(float(np.mean(found <= exact * (1 + 1e-6))), 4),
        excess=round(float((found - exact).sum() / exact.sum()), 6) if exact.any() else 0.0,
    )


def _latency_ms(work: Callable[[], object]) -> float:
    started_s = perf_counter()
    work()
    return (perf_counter() - started_s) * 1e3
