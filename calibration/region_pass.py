"""One pass over boxed pictures: what every region figure is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calibration.descriptors import Descriptors
from calibration.good_pictures import Track, no_track
from calibration.metrics import rejected
from calibration.region_dataset import BoxedPicture, RegionDataset
from calibration.region_match import overlapping_pairs
from edge.anomaly import ScoreMap
from edge.errors import PictureError
from edge.inspector import Inspector
from edge.pictures import FrameBgr, read_picture
from edge.regions import BoxXyxy, OddRegion, region_from_box

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DescribedBoxes:
    """Boxes over all pictures, row for row. picture: (R,) number in the pass. box_xyxy: (R, 4) source pixels.

    peak_score: (R,) of the anomaly map inside.
    """

    picture: Ints
    box_xyxy: Ints
    peak_score: npt.NDArray[np.float64]
    descriptors: Descriptors

    def __len__(self) -> int:
        return len(self.picture)


@dataclass(frozen=True)
class RegionPass:
    """names: of the pictures. predicted: regions of the pictures that are rejected, as the device shows them.

    true: the boxes a person drew; kinds: (T,) their types. pairs: rows of `predicted` and `true` that overlap enough,
    strongest first. passed: pictures with a defect that are not rejected. left_out: why a picture counts nowhere.
    """

    names: tuple[str, ...]
    predicted: DescribedBoxes
    true: DescribedBoxes
    kinds: npt.NDArray[np.str_]
    pairs: list[tuple[int, int]]
    passed: int
    left_out: tuple[str, ...]


@dataclass
class _Rows:
    picture: list[int] = field(default_factory=list)
    box_xyxy: list[BoxXyxy] = field(default_factory=list)
    peak_score: list[float] = field(default_factory=list)
    descriptors: list[Floats] = field(default_factory=list)
    supports: list[Floats] = field(default_factory=list)

    def add(
        self, picture: int, box_xyxy: BoxXyxy, region: OddRegion, descriptor: Floats, support: Floats | None = None
    ) -> None:
        """support: the region as enrolment keeps it, of those that may be enrolled."""
        self.picture.append(picture)
        self.box_xyxy.append(box_xyxy)
        self.peak_score.append(region.peak_score)
        self.descriptors.append(descriptor)
        self.supports.append(descriptor if support is None else support)

    def done(self, descriptor_dim: int) -> DescribedBoxes:
        return DescribedBoxes(
            picture=np.array(self.picture, dtype=np.int64),
            box_xyxy=np.array(self.box_xyxy, dtype=np.int64).reshape(-1, 4),
            peak_score=np.array(self.peak_score, dtype=np.float64),
            descriptors=Descriptors(
                np.array(self.descriptors, dtype=np.float32).reshape(-1, descriptor_dim),
                np.array(self.supports, dtype=np.float32).reshape(-1, descriptor_dim),
            ),
        )


def describe_boxes(inspector: Inspector, dataset: RegionDataset, track: Track[BoxedPicture] = no_track) -> RegionPass:
    """Every picture once through `Inspector.detect`; its odd regions and its true boxes described."""
    predicted, true = _Rows(), _Rows()
    names: list[str] = []
    kinds: list[str] = []
    left_out: list[str] = []
    passed = 0
    for picture in track(dataset.pictures, "evaluate", len(dataset.pictures)):
        try:
            anomaly, frame_bgr = _detect(inspector, picture)
        except PictureError as exc:
            left_out.append(str(exc))
            continue
        number, frame_hw = len(names), (frame_bgr.shape[0], frame_bgr.shape[1])
        names.append(picture.path.relative_to(dataset.folder).as_posix())
        for box in picture.boxes:
            region = region_from_box(anomaly.anomaly_map, box.box_xyxy, frame_hw)
            true.add(number, box.box_xyxy, region, *inspector.describe_both(frame_bgr, anomaly, region))
            kinds.append(box.kind)
        is_rejected = bool(rejected([anomaly.anomaly_score], inspector.image_threshold)[0])
        passed += bool(picture.boxes) and not is_rejected
        for region in inspector.find_regions(anomaly) if is_rejected else []:
            descriptor = inspector.describe(frame_bgr, anomaly, region)
            predicted.add(number, region.box_xyxy(frame_hw), region, descriptor)
    if not kinds:
        raise PictureError(f"{dataset.folder}: no box in a readable picture; the first: {_first(left_out)}")
    odd, drawn = predicted.done(len(inspector.centre)), true.done(len(inspector.centre))
    pairs = _pairs(odd, drawn, len(names))
    return RegionPass(tuple(names), odd, drawn, np.array(kinds), pairs, passed, tuple(left_out))


def _detect(inspector: Inspector, picture: BoxedPicture) -> tuple[ScoreMap, FrameBgr]:
    frame_bgr = read_picture(picture.path)
    picture.check_inside((frame_bgr.shape[0], frame_bgr.shape[1]))
    anomaly = inspector.detect(frame_bgr)
    if not math.isfinite(anomaly.anomaly_score):
        raise PictureError(f"{picture.path}: anomaly score is {anomaly.anomaly_score}")
    return anomaly, frame_bgr


def _pairs(predicted: DescribedBoxes, true: DescribedBoxes, pictures: int) -> list[tuple[int, int]]:
    pairs = []
    for number in range(pictures):
        rows, columns = np.flatnonzero(predicted.picture == number), np.flatnonzero(true.picture == number)
        found = overlapping_pairs(predicted.box_xyxy[rows], predicted.peak_score[rows], true.box_xyxy[columns])
        pairs += [(int(rows[p]), int(columns[t])) for p, t in found]
    return pairs


def _first(left_out: Sequence[str]) -> str:
    return left_out[0] if left_out else "every boxes file is empty"
