"""New defect classes on the device: pictures in, supports stored, and at once how good the class is.

A picture that the bundle passed as good is taught as well: its odd patches go into the defect bank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.anomaly import ScoreMap
from edge.class_store import ClassStore, Support, check_class_name, update_class_store
from edge.defect_bank import TaughtPatches, teach
from edge.errors import EnrolmentError
from edge.inspector import Inspector
from edge.pictures import FrameBgr, read_picture
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
class Teaching:
    """What became of a defect that had been passed as good.

    what: `picture`, or `box` when the picture was rejected but not for what is in the box. score_before, score_after:
    anomaly score, or peak of the box, against `threshold`. patches: kept in the defect bank; 0 means that it cannot
    be taught, because the region looks like good parts.
    """

    source: str
    what: Literal["picture", "box"]
    score_before: float
    score_after: float
    threshold: float
    patches: int


@dataclass(frozen=True)
class ClassQuality:
    """How a class holds together. supports: one entry each, weakest own_score first. taught: by this enrolment."""

    defect_class: str
    supports: tuple[LeaveOneOut, ...]
    taught: tuple[Teaching, ...] = ()

    @property
    def confused(self) -> int:
        """How many supports another class fits better."""
        return sum(support.is_confused for support in self.supports)


@dataclass(frozen=True)
class Described:
    """One picture ready to be stored. descriptor: (F,). taught, teaching: None unless it had been passed as good."""

    support: Support
    descriptor: Floats
    taught: TaughtPatches | None = None
    teaching: Teaching | None = None


def enrol(
    inspector: Inspector, name: str, paths: Sequence[Path], box_xyxy: BoxXyxy | None = None, force: bool = False
) -> ClassQuality:
    """Add the pictures at `paths` as supports of class `name`, all of them or none.

    The region is `box_xyxy` (source pixels, for one picture) or the strongest odd region. A picture that scores good
    is refused without a box and without `force`; with either it is taught, so that it is rejected from now on.
    EnrolmentError, PictureError and BundleError leave the store as it was.
    """
    check_class_name(name)
    if not paths:
        raise EnrolmentError("no picture given; a class needs at least one, better two")
    if box_xyxy and len(paths) > 1:
        raise EnrolmentError(f"--box belongs to one picture, {len(paths)} were given; enrol them one by one")
    described = [describe_support(inspector, name, path, box_xyxy, force) for path in paths]
    descriptors = np.stack([d.descriptor for d in described])
    store = update_class_store(
        inspector.classes_path,
        inspector.manifest.bundle_id,
        descriptors.shape[1],
        lambda before: before.with_supports([d.support for d in described], descriptors, [d.taught for d in described]),
    )
    teachings = tuple(d.teaching for d in described if d.teaching)
    return replace(class_quality(inspector, store, name), taught=teachings)


def describe_support(inspector: Inspector, name: str, path: Path, box_xyxy: BoxXyxy | None, force: bool) -> Described:
    """One picture file -> what is stored of it."""
    return describe_frame(inspector, name, str(path), read_picture(path), box_xyxy, force)


def describe_frame(
    inspector: Inspector,
    name: str,
    source: str,
    frame_bgr: FrameBgr,
    box_xyxy: BoxXyxy | None = None,
    force: bool = False,
) -> Described:
    """(H, W, 3) uint8 -> what is stored of it. source: what the store, and errors, call the picture."""
    frame_hw = (frame_bgr.shape[0], frame_bgr.shape[1])
    if box_xyxy:
        check_box(box_xyxy, frame_hw)
    before = inspector.detect(frame_bgr)
    score, threshold = before.anomaly_score, inspector.image_threshold
    if not math.isfinite(score):
        raise EnrolmentError(f"{source}: its anomaly score is {score}; check the bundle with another picture")
    if score <= threshold and not (force or box_xyxy):
        raise EnrolmentError(
            f"{source}: nothing odd in it, anomaly score {score:.3f} <= threshold {threshold:.3f}; give another "
            "picture, or teach this one: --box x,y,w,h says where the defect is, --force takes the strangest place"
        )
    after, taught, teaching = _taught(inspector, source, frame_bgr, before, box_xyxy)
    region = _region(inspector, after, frame_hw, box_xyxy)
    support = Support(
        defect_class=name,
        source=source,
        picture_sha256=hashlib.sha256(frame_bgr.tobytes()).hexdigest(),
        box_xyxy=box_xyxy or region.box_xyxy(frame_hw),
        anomaly_score=round(score, 6),
        enrolled_at=utc_now(),
    )
    close = inspector.closeup(frame_bgr, after, region, inspector.taught + taught if taught else None)
    descriptor = inspector.describer.describe_support(close.anomaly, close.region, close.picture_bgr)
    return Described(support, descriptor, taught, teaching)


def _taught(
    inspector: Inspector, source: str, frame_bgr: FrameBgr, before: ScoreMap, box_xyxy: BoxXyxy | None
) -> tuple[ScoreMap, TaughtPatches | None, Teaching | None]:
    """The picture as it is seen from now on, and what is kept for that; `before` and nothing if it was not missed."""
    thresholds, frame_hw = inspector.manifest.thresholds, (frame_bgr.shape[0], frame_bgr.shape[1])
    peak = _region(inspector, before, frame_hw, box_xyxy).peak_score
    passed = before.anomaly_score <= inspector.image_threshold
    if not passed and not (box_xyxy and peak <= thresholds.pixel_threshold):
        return before, None, None
    nothing = TaughtPatches.none()
    untaught = inspector.detect(frame_bgr, taught=nothing)
    close = inspector.closeup(frame_bgr, untaught, _region(inspector, untaught, frame_hw, box_xyxy), nothing)
    taught = teach(close.anomaly, close.region, inspector.bank, inspector.manifest.score, thresholds)
    after = inspector.detect(frame_bgr, taught=inspector.taught + taught) if taught else before
    patches = len(taught) if taught else 0
    if passed:
        scores = before.anomaly_score, after.anomaly_score, inspector.image_threshold
        return after, taught, Teaching(source, "picture", *scores, patches)
    peaks = peak, _region(inspector, after, frame_hw, box_xyxy).peak_score, thresholds.pixel_threshold
    return after, taught, Teaching(source, "box", *peaks, patches)


def _region(inspector: Inspector, seen: ScoreMap, frame_hw: tuple[int, int], box_xyxy: BoxXyxy | None) -> OddRegion:
    if box_xyxy:
        return region_from_box(seen.anomaly_map, box_xyxy, frame_hw)
    return inspector.find_regions(seen)[0]


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
    ranking = inspector.classifier_for(store.keeping(keep)).rank(store.descriptors[row])
    scores = {c.defect_class: c.relation_score for c in ranking}
    own = scores.pop(left_out.defect_class, None)
    nearest = next(iter(scores), None)
    return LeaveOneOut(left_out.source, own, nearest, scores[nearest] if nearest else None)
