"""The product in one function: a frame goes in, a verdict comes out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from edge.anomaly import Anomaly, Neighbours, ScoreMap, judge
from edge.bundle import Bundle
from edge.class_store import ClassStore, read_class_store
from edge.defect_bank import TaughtPatches, raise_scores
from edge.descriptor import Describer, view_slices
from edge.manifest import BackendChoice, BackendName, Precision
from edge.memory_bank import PlaceYx
from edge.pictures import FrameBgr
from edge.preprocess import to_network_input
from edge.regions import OddRegion, find_regions
from edge.relation import RelationClassifier
from edge.result import UNKNOWN, Classification, Inspection, Provenance, Region, no_verdict
from edge.view import Closeup, View


class Inspector:
    """A loaded bundle. One thread at a time; `Inspector.load(folder)` is the door."""

    def __init__(
        self,
        bundle: Bundle,
        backend: BackendName | None = None,
        precision: Precision | None = None,
        threads: int = 1,
        classes_path: Path | None = None,
        products: BackendName = "onnxruntime",
    ) -> None:
        self.bundle, self.manifest, self.products = bundle, bundle.manifest, products
        limit_threads(threads)
        self.backbone = bundle.load_backbone(backend, precision, threads)
        self.precision = precision or bundle.manifest.calibrated_precision
        self.view = View.load(bundle.folder, bundle.manifest)
        self.bank = bundle.load_memory_bank(threads, products)
        self.places = bundle.load_place_statistics()
        self.discriminator = bundle.load_discriminator(self.bank, threads, products)
        second_look = bundle.load_second_look(backend, precision, threads)
        self.describer = Describer(self.bank, second_look, bundle.load_whitening())
        self.head = bundle.load_relation_head(products)
        self.centre = bundle.load_descriptor_centre()
        self.image_threshold = self.manifest.thresholds.image_threshold
        self.classes_path = classes_path or bundle.classes_path
        self._classes_stamp: tuple[int, ...] | None = None
        self.reload_classes()

    @classmethod
    def load(
        cls,
        folder: Path,
        backend: BackendChoice | None = None,
        precision: Precision | None = None,
        threads: int = 1,
        classes_path: Path | None = None,
        products: BackendName = "onnxruntime",
    ) -> Inspector:
        """Open and check `folder`, then load it. threads: of each stage, for the whole process; 0 means every core.

        backend: of the graphs; `auto` measures, or remembers, which runtime is the fastest here, see
        `edge.auto_backend`. products: of search and head, which `auto` chooses too.
        """
        bundle = Bundle.open(folder)
        if backend == "auto":
            from edge.auto_backend import choose_runtime  # few need it, and it brings subprocess with it

            choice = choose_runtime(bundle, precision, threads)
            backend, precision, products = choice.backend, choice.precision, choice.products
        return cls(bundle, backend, precision, threads, classes_path, products)

    def inspect(self, frame_bgr: FrameBgr, provenance: Provenance, always_type: bool = False) -> Inspection:
        """(H, W, 3) uint8 BGR -> verdict, odd regions and, when classes are enrolled, their names."""
        return self.examine(frame_bgr, provenance, always_type)[0]

    def examine(
        self, frame_bgr: FrameBgr, provenance: Provenance, always_type: bool = False
    ) -> tuple[Inspection, ScoreMap]:
        """The same, and the anomaly map it came from, for those who draw it."""
        clock = StageClock()
        seen = self.detect(frame_bgr, clock)
        return self._judge(seen, frame_bgr, provenance, always_type, clock), seen

    def _judge(
        self, seen: ScoreMap, frame_bgr: FrameBgr, provenance: Provenance, always_type: bool, clock: StageClock
    ) -> Inspection:
        score, threshold = seen.anomaly_score, self.image_threshold
        if not math.isfinite(score):
            return no_verdict(provenance, self.manifest.bundle_id, threshold, f"anomaly score is {score}")
        is_good = score <= threshold
        with clock.stage("regions"):
            odd = self.find_regions(seen) if always_type or not is_good else []
        with clock.stage("typing"):
            regions = tuple(self.type_region(seen, region, frame_bgr) for region in odd)
        return Inspection(
            provenance=provenance,
            bundle_id=self.manifest.bundle_id,
            verdict="good" if is_good else "defect",
            anomaly_score=score,
            image_threshold=threshold,
            regions=regions,
            defect_class=regions[0].defect_class if regions else None,
            latency_ms=clock.latency_ms,
        )

    def detect(
        self, frame_bgr: FrameBgr, clock: StageClock | None = None, taught: TaughtPatches | None = None
    ) -> ScoreMap:
        """Preprocess, embed, compare with the memory bank, and with the defects that were taught.

        Piece by piece where the bundle says so, see `edge.view`. taught: others than those of the class store.
        """
        clock, taught = clock or StageClock(), self.taught if taught is None else taught
        threshold = self.manifest.thresholds.pixel_threshold
        return self.view.see(
            frame_bgr, lambda picture, place_yx: self.look(picture, place_yx, clock, taught), threshold
        )

    def look(self, picture_bgr: FrameBgr, place_yx: PlaceYx, clock: StageClock, taught: TaughtPatches) -> Anomaly:
        """One picture, through the backbone in one piece; place_yx: where in the frame it lies."""
        with clock.stage("preprocess"):
            images = to_network_input(picture_bgr, self.manifest.embedding)
        with clock.stage("backbone"):
            patch_embeddings = self.backbone.run({"images": images})[0]  # (N, D)
        with clock.stage("memory_bank"):
            found = Neighbours.of(patch_embeddings, self.bank.near(place_yx))
        with clock.stage("map"):
            anomaly = judge(found, self.places, self.manifest.score, self.discriminator)
        if not len(taught):
            return anomaly
        with clock.stage("defect_bank"):
            return raise_scores(anomaly, taught, self.bank, self.manifest.score)

    def find_regions(self, seen: ScoreMap) -> list[OddRegion]:
        """Odd regions of a picture, at least the strangest one, strongest first."""
        return find_regions(seen.anomaly_map, self.manifest.thresholds.pixel_threshold, at_least_one=True)

    def closeup(
        self, frame_bgr: FrameBgr, seen: ScoreMap, region: OddRegion, taught: TaughtPatches | None = None
    ) -> Closeup:
        """The piece of the frame that `region` is described in, as `detect` would see it alone."""
        taught = self.taught if taught is None else taught
        return self.view.closeup(
            frame_bgr, seen, region, lambda picture, place_yx: self.look(picture, place_yx, StageClock(), taught)
        )

    def describe(self, frame_bgr: FrameBgr, seen: ScoreMap, region: OddRegion) -> npt.NDArray[np.float32]:
        """(F,) descriptor of one odd region, as it is compared with supports."""
        close = self.closeup(frame_bgr, seen, region)
        return self.describer.describe(close.anomaly, close.region, close.picture_bgr)

    def describe_both(
        self, frame_bgr: FrameBgr, seen: ScoreMap, region: OddRegion
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(F,) the same, and (F,) as enrolment would keep it."""
        close = self.closeup(frame_bgr, seen, region)
        return self.describer.describe_both(close.anomaly, close.region, close.picture_bgr)

    def type_region(self, seen: ScoreMap, region: OddRegion, frame_bgr: FrameBgr) -> Region:
        """Name one odd region; without enrolled classes it stays unnamed."""
        frame_hw = (frame_bgr.shape[0], frame_bgr.shape[1])
        names = self.classifier.names
        ranking: tuple[Classification, ...] = ()
        is_unknown = False
        if names:
            descriptor = self.describe(frame_bgr, seen, region)
            ranking, is_unknown = self.classifier.rank(descriptor), self.classifier.is_unknown(descriptor)
        best = ranking[0] if ranking else None
        return Region(
            box_xyxy=region.box_xyxy(frame_hw),
            area_px=region.area_px(frame_hw),
            peak_score=region.peak_score,
            defect_class=(UNKNOWN if is_unknown else best.defect_class) if best else None,
            relation_score=best.relation_score if best else None,
            ranking=ranking,
        )

    def reload_classes(self) -> bool:
        """Read the enrolled classes and taught defects again if their file was replaced; whether it was."""
        stamp = _stamp(self.classes_path)
        if stamp == self._classes_stamp:
            return False
        store = read_class_store(self.classes_path, self.manifest.bundle_id, len(self.centre))
        self.classifier, self.taught = self.classifier_for(store), store.taught
        self._classes_stamp = stamp
        return True

    def classifier_for(self, store: ClassStore) -> RelationClassifier:
        """The classifier this bundle would use with the classes of `store`."""
        views = view_slices(self.manifest.embedding, self.manifest.second_look.embedding)
        facts = self.manifest.typing
        one_shot = 1 in np.bincount(store.labels)
        threshold = facts.unknown_threshold_one_shot if one_shot else facts.unknown_threshold
        return RelationClassifier(store, self.centre, views, threshold, self.head)


def limit_threads(threads: int) -> None:
    """Keep OpenCV and the matrix library to as many threads as the runtime; 0 means every core.

    Left alone each takes all cores, and on a busy box two threads that wait for each other are slower than one.
    """
    count = threads or os.cpu_count() or 1
    cv2.setNumThreads(count)
    threadpool_limits(count, user_api="blas")


class StageClock:
    """Milliseconds per stage of one frame, of all its tiles together."""

    def __init__(self) -> None:
        self.latency_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body under `name`."""
        started_s = perf_counter()
        yield
        took_ms = (perf_counter() - started_s) * 1e3
        self.latency_ms[name] = round(self.latency_ms.get(name, 0.0) + took_ms, 3)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)
