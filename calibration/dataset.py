"""Labelled test pictures on disk: the MVTec layout, or a plain folder of folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import CalibrationError
from edge.pictures import iter_picture_paths
from edge.result import UNKNOWN

GOOD = "good"
MASKS = "ground_truth"
LAYOUT = f"expected DIR/test/{GOOD} and DIR/test/<type>, or DIR/{GOOD} and DIR/<type>, with pictures in them"


@dataclass(frozen=True)
class Sample:
    """One labelled picture. kind: `good` or the type of its defect. mask_path: its odd pixels, if they are known."""

    path: Path
    kind: str
    mask_path: Path | None = None

    @property
    def is_defect(self) -> bool:
        """Whether the part ought to be rejected."""
        return self.kind != GOOD


@dataclass(frozen=True)
class Dataset:
    """Test pictures of one product, good ones first, each kind in the order of its file names."""

    folder: Path
    samples: tuple[Sample, ...]

    @property
    def kinds(self) -> list[str]:
        """Types of defect, sorted."""
        return sorted({s.kind for s in self.samples if s.is_defect})

    @property
    def has_masks(self) -> bool:
        """Whether any defect has a mask."""
        return any(s.mask_path for s in self.samples)


def find_dataset(folder: Path) -> Dataset:
    """Read the layout below `folder` (no picture is opened); CalibrationError says what is missing.

    Masks lie in `ground_truth/<type>/<stem>_mask.png`, or `<stem>.png`; they are optional.
    """
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder; give a data set: {LAYOUT}")
    root = folder / "test" if (folder / "test").is_dir() else folder
    kind_folders = {path.name: path for path in sorted(root.iterdir()) if _is_kind_folder(path)}
    goods = list(iter_picture_paths(kind_folders.pop(GOOD))) if GOOD in kind_folders else []
    if not goods:
        raise CalibrationError(f"{root}: no pictures in a folder '{GOOD}'; {LAYOUT}")
    samples = [Sample(path, GOOD) for path in goods]
    for kind, kind_folder in kind_folders.items():
        samples += _defects(kind, kind_folder, folder / MASKS / kind)
    if len(samples) == len(goods):
        raise CalibrationError(f"{root}: no pictures of defects beside '{GOOD}'; {LAYOUT}")
    return Dataset(folder, tuple(samples))


def _is_kind_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name not in (MASKS, "train")


def _defects(kind: str, kind_folder: Path, mask_folder: Path) -> Iterator[Sample]:
    if kind == UNKNOWN:
        raise CalibrationError(f"{kind_folder}: {UNKNOWN!r} is the answer for no known class; rename the folder")
    for path in iter_picture_paths(kind_folder):
        yield Sample(path, kind, _mask_of(path, mask_folder))


def _mask_of(picture: Path, mask_folder: Path) -> Path | None:
    for name in (f"{picture.stem}_mask.png", f"{picture.stem}.png"):
        if (mask_folder / name).is_file():
            return mask_folder / name
    return None
