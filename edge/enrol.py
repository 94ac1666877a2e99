"""New defect classes on the device: pictures in, supports stored, and at once how good the class is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.class_store import ClassStore, Support, check_class_name, update_class_store
from edge.errors import EnrolmentError
from edge.inspector import Inspector
from edge.pictures import read_picture
from edge.regions import BoxXyxy, OddRegion, region_from_box
from edge.result import utc_now

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LeaveOneOut:
    """One support compared with everything else: its own class without it, and the nearest other class.

    own_score is None for the only support of a class, nearest_other None for the only class.
    """

    source: str
    own_score: float | None
    nearest_other: str | None
    other_score: float | None

    @property
    def is_confused(self) -> bool:
        """Whether another class fits this support at least as well as its own."""
        return self.own_score is not None and self.other_score is not None and self.other_score >= self.own_score


@dataclass(frozen=True)
class ClassQuality:
    """How a class holds together. supports: one entry each, weakest own_score first."""

    defect_class: str
    supports: tuple[LeaveOneOut, ...]

    @property
    def confused(self) -> int:
        """How many supports another class fits better."""
        return sum(support.is_confused for support in self.supports)


def enrol(
    inspector: Inspector, name: str, paths: Sequence[Path], box_xyxy: BoxXyxy | None = None, force: bool = False
) -> ClassQuality:
    """Add the pictures at `paths` as supports of class `name`, all of them or none.

    The region is `box_xyxy` (source pixels, for one picture) or the strongest odd region. A picture that scores
    good is refused unless `force`. EnrolmentError, PictureError and BundleError leave the store as it was.
    """
    check_class_name(name)
    if not paths:
        raise EnrolmentError("no picture given; a class needs at least one, better two")
    if box_xyxy and len(paths) > 1:
        raise EnrolmentError(f"--box belongs to one picture, {len(paths)} were given; enrol them one by one")
    pairs = [describe_support(inspector, name, path, box_xyxy, force) for path in paths]
    supports, descriptors = [s for s, _ in pairs], np.stack([d for _, d in pairs])
    store = update_class_store(
        inspector.classes_path,
        inspector.manifest.bundle_id,
        descriptors.shape[1],
        lambda before: before.with_supports(supports, descriptors),
    )
    return class_quality(inspector, store, name)


def describe_support(
    inspector: Inspector, name: str, path: Path, box_xyxy: BoxXyxy | None, force: bool
) -> tuple[Support, Floats]:
    """One picture -> its support entry and descriptor (F,)."""
    frame_bgr = read_picture(path)
    frame_hw = (frame_bgr.shape[0], frame_bgr.shape[1])
    anomaly = inspector.detect(frame_bgr)
    score, threshold = anomaly.anomaly_score, inspector.image_threshold
    if not math.isfinite(score):
        raise EnrolmentError(f"{path}: its anomaly score is {score}; check the bundle with another picture")
    if score <= threshold and not force:
        raise EnrolmentError(
            f"{path}: nothing odd in it, anomaly score {score:.3f} <= threshold {threshold:.3f}; "
            "give another picture, or --force (with --box x,y,w,h to say where)"
        )
    region: OddRegion
    if box_xyxy:
        region = region_from_box(anomaly.anomaly_map, check_box(box_xyxy, frame_hw), frame_hw)
    else:
        region = inspector.find_regions(anomaly)[0]
    support = Support(
        defect_class=name,
        source=str(path),
        picture_sha256=hashlib.sha256(frame_bgr.tobytes()).hexdigest(),
        box_xyxy=box_xyxy or region.box_xyxy(frame_hw),
        anomaly_score=round(score, 6),
        enrolled_at=utc_now(),
    )
    return support, inspector.describer.describe(anomaly, region, frame_bgr)


def check_box(box_xyxy: BoxXyxy, frame_hw: tuple[int, int]) -> BoxXyxy:
    """The box itself, if it is not empty and lies in the picture."""
    x0, y0, x1, y1 = box_xyxy
    H, W = frame_hw
    if not (0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H):
        raise EnrolmentError(
            f"--box {x0},{y0},{x1 - x0},{y1 - y0}: expected x,y,w,h inside the picture of {W} x {H} px"
        )
    return box_xyxy


def class_quality(inspector: Inspector, store: ClassStore, name: str) -> ClassQuality:
    """Leave-one-out among the supports of `name`, with the relation scores the device will use."""
    store.require(name)
    rows = [row for row, support in enumerate(store.supports) if support.defect_class == name]
    entries = [_leave_out(inspector, store, row) for row in rows]
    entries.sort(key=lambda entry: 2.0 if entry.own_score is None else entry.own_score)
    return ClassQuality(name, tuple(entries))


def _leave_out(inspector: Inspector, store: ClassStore, row: int) -> LeaveOneOut:
    left_out = store.supports[row]
    keep = [i for i in range(len(store.supports)) if i != row]
    rest = replace(store, supports=tuple(store.supports[i] for i in keep), descriptors=store.descriptors[keep])
    ranking = inspector.classifier_for(rest).rank(store.descriptors[row])
    scores = {c.defect_class: c.relation_score for c in ranking}
    own = scores.pop(left_out.defect_class, None)
    nearest = next(iter(scores), None)
    return LeaveOneOut(left_out.source, own, nearest, scores[nearest] if nearest else None)
