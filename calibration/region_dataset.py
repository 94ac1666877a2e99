"""Pictures with several defects each, every one boxed and named: the layout of DeepPCB."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import CalibrationError
from edge.pictures import iter_picture_paths
from edge.regions import BoxXyxy
from edge.result import UNKNOWN

BOXES, PICTURES, SUFFIX = "boxes", "test", "_test"
COLUMNS = ("x1", "y1", "x2", "y2", "type")
LAYOUT = (
    f"expected DIR/{PICTURES}/NAME{SUFFIX}.jpg (or NAME.jpg) with DIR/{BOXES}/NAME.csv, or folders of that kind in DIR"
)


@dataclass(frozen=True)
class TrueBox:
    """One defect. box_xyxy: source pixels, right and bottom exclusive."""

    box_xyxy: BoxXyxy
    kind: str


@dataclass(frozen=True)
class BoxedPicture:
    """A picture and every defect in it; none means a good part."""

    path: Path
    boxes_path: Path
    boxes: tuple[TrueBox, ...]

    def check_inside(self, frame_hw: tuple[int, int]) -> None:
        """CalibrationError for a box that leaves the picture."""
        H, W = frame_hw
        for line, box in enumerate(self.boxes, 2):
            x0, y0, x1, y1 = box.box_xyxy
            if x0 < 0 or y0 < 0 or x1 > W or y1 > H:
                raise CalibrationError(
                    f"{self.boxes_path}, line {line}: box {x0},{y0},{x1},{y1} leaves its picture of {W} x {H} px; "
                    "correct the box"
                )


@dataclass(frozen=True)
class RegionDataset:
    """Boxed pictures of one product, in the order of their paths."""

    folder: Path
    pictures: tuple[BoxedPicture, ...]

    @property
    def kinds(self) -> list[str]:
        """Types of defect, sorted."""
        return sorted({box.kind for picture in self.pictures for box in picture.boxes})


def is_region_dataset(folder: Path) -> bool:
    """Whether `folder` holds boxes, and not a folder for each type."""
    return next(_roots(folder), None) is not None


def find_region_dataset(folder: Path) -> RegionDataset:
    """Read every boxes file below `folder` (no picture is opened); CalibrationError says what is wrong with one."""
    pictures = tuple(picture for root in _roots(folder) for picture in _boxed_pictures(root))
    dataset = RegionDataset(folder, pictures)
    if len(dataset.kinds) < 2:
        found = f"{len(pictures)} pictures with boxes of {len(dataset.kinds)} types"
        raise CalibrationError(f"{folder}: {found}, at least two types are needed; {LAYOUT}")
    return dataset


def _roots(folder: Path) -> Iterator[Path]:
    """`folder` itself or those folders in it that have boxes."""
    if (folder / BOXES).is_dir():
        yield folder
    elif folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if (path / BOXES).is_dir())


def _boxed_pictures(root: Path) -> Iterator[BoxedPicture]:
    files = {path.stem: path for path in sorted((root / BOXES).glob("*.csv"))}
    for path in iter_picture_paths(root / PICTURES):
        boxes_path = files.pop(path.stem, None) or files.pop(path.stem.removesuffix(SUFFIX), None)
        if boxes_path is None:
            name = f"{path.stem.removesuffix(SUFFIX)}.csv"
            raise CalibrationError(
                f"{path}: no boxes, expected {root / BOXES / name}; a picture without defects has the header alone"
            )
        yield BoxedPicture(path, boxes_path, read_boxes(boxes_path))
    for stem, boxes_path in files.items():
        raise CalibrationError(f"{boxes_path}: no picture {stem}{SUFFIX} or {stem} in {root / PICTURES}; {LAYOUT}")


def read_boxes(path: Path) -> tuple[TrueBox, ...]:
    """Rows of `x1,y1,x2,y2,type` below that header; CalibrationError names the line that is wrong."""
    header, expected = None, ",".join(COLUMNS)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            header = next(rows, [])
            if tuple(cell.strip() for cell in header) != COLUMNS:
                raise CalibrationError(f"{path}: columns are {','.join(header) or 'missing'}, expected {expected}")
            return tuple(_true_box(row, f"{path}, line {rows.line_num}") for row in rows if row)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise CalibrationError(f"{path}: cannot be read ({exc}); expected a CSV file with {expected}") from exc


def _true_box(row: list[str], where: str) -> TrueBox:
    cells = [cell.strip() for cell in row]
    try:
        x0, y0, x1, y1 = (int(cell) for cell in cells[:4])
        (kind,) = cells[4:]
    except ValueError:
        raise CalibrationError(
            f"{where}: {','.join(row)!r}, expected {','.join(COLUMNS)} with whole numbers of pixels"
        ) from None
    if not (x0 < x1 and y0 < y1):
        raise CalibrationError(f"{where}: box {x0},{y0},{x1},{y1} is empty, expected x1 < x2 and y1 < y2")
    if kind in ("", UNKNOWN):
        raise CalibrationError(f"{where}: type {kind!r} is the answer for no known class; name the defect")
    return TrueBox((x0, y0, x1, y1), kind)
