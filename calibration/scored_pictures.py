"""One pass over labelled pictures: what every figure of an evaluation is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from calibration.dataset import GOOD, Dataset, Sample
from calibration.descriptors import Descriptors
from calibration.good_pictures import Track, no_track
from calibration.metrics import PixelTally, rejected
from edge.anomaly import Anomaly, ScoreMap
from edge.class_store import Support
from edge.errors import CalibrationError, PictureError
from edge.inspector import Inspector
from edge.pictures import FrameBgr, read_picture
from edge.regions import BoxXyxy, Mask, OddRegion

Floats = npt.NDArray[np.float32]
ResidualMap = npt.NDArray[np.float16]


@dataclass(frozen=True)
class ScoredPicture:
    """One picture through the bundle. descriptor: (F,) of its strongest region, also when the part is good.

    mask_descriptor: (F,) of the region its true mask covers, None without a mask or with an empty one.
    residual_map: (h, w, D), kept only when asked for, of defects and rejected parts.
    support_descriptor, mask_support_descriptor: (F,) the same regions as enrolment keeps them; None if they are never
    supports.
    """

    name: str
    kind: str
    anomaly_score: float
    region_count: int
    box_xyxy: BoxXyxy
    descriptor: Floats
    mask_descriptor: Floats | None = None
    residual_map: ResidualMap | None = None
    support_descriptor: Floats | None = None
    mask_support_descriptor: Floats | None = None


@dataclass(frozen=True)
class ScoredPictures:
    """Columns over n pictures. kinds: (n,) `good` or the type. scores: (n,).

    mask_descriptors: NaN where there is no mask; None when there is none at all.
    """

    rows: tuple[ScoredPicture, ...]
    kinds: npt.NDArray[np.str_]
    scores: npt.NDArray[np.float64]
    descriptors: Descriptors
    mask_descriptors: Descriptors | None

    @classmethod
    def of(cls, rows: Sequence[ScoredPicture]) -> ScoredPictures:
        """At least one picture."""
        return cls(
            rows=tuple(rows),
            kinds=np.array([row.kind for row in rows]),
            scores=np.array([row.anomaly_score for row in rows]),
            descriptors=Descriptors.of([r.descriptor for r in rows], [r.support_descriptor for r in rows]),
            mask_descriptors=_mask_descriptors(rows),
        )

    @property
    def is_defect(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the part ought to be rejected."""
        return np.asarray(self.kinds != GOOD)

    @property
    def has_mask_descriptor(self) -> npt.NDArray[np.bool_]:
        """(n,) whether it is known where the part is odd."""
        return np.array([row.mask_descriptor is not None for row in self.rows])

    def supports(self, numbers: npt.NDArray[np.int64]) -> tuple[Support, ...]:
        """These pictures as if `enrol --force` had taken them."""
        chosen = (self.rows[i] for i in numbers)
        return tuple(Support(p.kind, p.name, "", p.box_xyxy, p.anomaly_score, "") for p in chosen)


@dataclass(frozen=True)
class Pass:
    """pixels: None when the data set has no masks. left_out: why a picture counts nowhere, one line each."""

    pictures: ScoredPictures
    pixels: PixelTally | None
    defects_without_mask: int
    left_out: tuple[str, ...]


def score_pictures(
    inspector: Inspector, dataset: Dataset, track: Track[Sample] = no_track, keep_residuals: bool = False
) -> Pass:
    """Every picture once through `Inspector.detect`.

    keep_residuals: hold the residual map of each defect and rejected part, N * D * 2 bytes apiece; otherwise no map
    is kept, so thousands of pictures need no memory.
    """
    rows: list[ScoredPicture] = []
    left_out: list[str] = []
    pixels = PixelTally() if dataset.has_masks else None
    without_mask = 0
    for sample in track(dataset.samples, "evaluate", len(dataset.samples)):
        try:
            frame_bgr, mask = _read(sample)
            anomaly = inspector.detect(frame_bgr)
            if not math.isfinite(anomaly.anomaly_score):
                raise PictureError(f"{sample.path}: anomaly score is {anomaly.anomaly_score}")
        except PictureError as exc:
            left_out.append(str(exc))
            continue
        name = sample.path.relative_to(dataset.folder).as_posix()
        row = _scored(inspector, name, sample.kind, frame_bgr, anomaly, mask)
        if keep_residuals and (sample.is_defect or rejected([row.anomaly_score], inspector.image_threshold)[0]):
            row = replace(row, residual_map=_residual_map(inspector, anomaly))
        rows.append(row)
        if pixels is not None and mask is not None:
            pixels.add(_to_source_pixels(anomaly.anomaly_map, mask.shape), mask)
        without_mask += mask is None
    if not rows:
        raise PictureError(f"{dataset.folder}: none of {len(left_out)} pictures can be read; the first: {left_out[0]}")
    return Pass(ScoredPictures.of(rows), pixels, without_mask, tuple(left_out))


def _scored(
    inspector: Inspector, name: str, kind: str, frame_bgr: FrameBgr, anomaly: ScoreMap, mask: Mask | None
) -> ScoredPicture:
    regions = inspector.find_regions(anomaly)

    def describe(region: OddRegion) -> tuple[Floats, Floats | None]:
        if kind == GOOD:  # a good part is asked about, never enrolled
            return inspector.describe(frame_bgr, anomaly, region), None
        return inspector.describe_both(frame_bgr, anomaly, region)

    descriptor, support = describe(regions[0])
    masked: tuple[Floats | None, Floats | None] = (None, None)
    if mask is not None and mask.any():
        masked = describe(region_from_mask(anomaly.anomaly_map, mask))
    return ScoredPicture(
        name=name,
        kind=kind,
        anomaly_score=anomaly.anomaly_score,
        region_count=len(regions),
        box_xyxy=regions[0].box_xyxy((frame_bgr.shape[0], frame_bgr.shape[1])),
        descriptor=descriptor,
        mask_descriptor=masked[0],
        support_descriptor=support,
        mask_support_descriptor=masked[1],
    )


def _residual_map(inspector: Inspector, anomaly: ScoreMap) -> ResidualMap:
    if not isinstance(anomaly, Anomaly):
        raise CalibrationError("the paper's method takes pictures whole; leave out --head paper for this bundle")
    from calibration.paper_pseudo import nearest_residual_map  # nobody else needs what it imports

    return nearest_residual_map(anomaly, inspector.bank)


def region_from_mask(anomaly_map: Floats, mask: Mask) -> OddRegion:
    """(H, W) bool in source pixels, not empty -> every map cell that it touches, one region even if in parts."""
    (map_h, map_w), (H, W) = anomaly_map.shape, mask.shape
    touched = _overlaps(map_h, H) @ mask.astype(np.float32) @ _overlaps(map_w, W).T
    cells = touched > 0
    return OddRegion(cells, float(anomaly_map[cells].max()))


def _overlaps(cells: int, pixels: int) -> Floats:
    """(cells, pixels): 1 where a cell and a pixel of the same length of picture overlap, else 0."""
    cell, pixel = np.arange(cells)[:, np.newaxis], np.arange(pixels)
    return ((pixel * cells < (cell + 1) * pixels) & ((pixel + 1) * cells > cell * pixels)).astype(np.float32)


def _mask_descriptors(rows: Sequence[ScoredPicture]) -> Descriptors | None:
    if all(row.mask_descriptor is None for row in rows):
        return None
    nowhere = np.full_like(rows[0].descriptor, np.nan)
    queries = [nowhere if row.mask_descriptor is None else row.mask_descriptor for row in rows]
    return Descriptors.of(queries, [row.mask_support_descriptor for row in rows])


def _read(sample: Sample) -> tuple[FrameBgr, Mask | None]:
    """The picture, and where it is odd: nowhere on a good part, unknown without a mask."""
    frame_bgr = read_picture(sample.path)
    if not sample.is_defect:
        return frame_bgr, np.zeros(frame_bgr.shape[:2], dtype=np.bool_)
    if sample.mask_path is None:
        return frame_bgr, None
    mask = read_picture(sample.mask_path).max(axis=2) > 0
    if mask.shape != frame_bgr.shape[:2]:
        raise PictureError(
            f"{sample.mask_path}: {mask.shape[1]} x {mask.shape[0]} px, "
            f"its picture is {frame_bgr.shape[1]} x {frame_bgr.shape[0]}; make the mask again"
        )
    return frame_bgr, mask


def _to_source_pixels(anomaly_map: Floats, hw: tuple[int, ...]) -> Floats:
    return np.asarray(cv2.resize(anomaly_map, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
