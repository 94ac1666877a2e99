"""The demo's pictures: rendered, or links to the user's own, in one folder layout either way."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2

from calibration.dataset import GOOD, MASKS
from edge.class_store import check_class_name
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.pictures import iter_picture_paths, read_picture
from edge.staging import refuse_taken

MARKER = "demo.json"
SUPPORTS_PER_KIND = 2
MIN_GOOD = 10
HOLD_OUT_EVERY = 5
MAX_HELD_OUT = 50
VIDEO_FPS = 10

LinePlan = dict[str, list[Path]]


@dataclass(frozen=True)
class Supports:
    """Pictures to enrol as one kind. all_rejected: the bundle finds each of them odd, so none needs force."""

    kind: str
    pictures: tuple[Path, ...]
    all_rejected: bool


@dataclass(frozen=True)
class DemoFolder:
    """Where everything of one demo lies, below `root`."""

    root: Path

    @property
    def line(self) -> Path:
        """Data set in the MVTec layout."""
        return self.root / "line"

    @property
    def good(self) -> Path:
        """Good pictures the bundle is calibrated on."""
        return self.line / "train" / GOOD

    @property
    def unseen(self) -> Path:
        """Pictures that were neither calibrated on nor enrolled: good, and one folder a kind."""
        return self.root / "unseen"

    @property
    def pack(self) -> Path:
        """Model pack."""
        return self.root / "pack"

    @property
    def bundle(self) -> Path:
        """Bundle."""
        return self.root / "bundle"

    @property
    def video(self) -> Path:
        """What the simulated camera sees."""
        return self.root / "camera.mkv"

    @property
    def run_records(self) -> Path:
        """Records of the camera run."""
        return self.root / "run.jsonl"

    @property
    def results(self) -> Path:
        """What `oddkind score` wrote."""
        return self.root / "results"

    @property
    def evaluation(self) -> Path:
        """What `oddkind evaluate` wrote."""
        return self.root / "evaluation"

    @property
    def marker(self) -> Path:
        """Says that the folder is a demo's, and at the end holds its figures."""
        return self.root / MARKER

    def start_afresh(self) -> bool:
        """Make the folder and remove what an earlier demo made in it, nothing else; whether there was one.

        UsageError when the folder has content and is not a demo's.
        """
        refuse_taken(self.root, MARKER, overwrite=True)
        earlier = self.marker.is_file()
        self.root.mkdir(parents=True, exist_ok=True)
        self.marker.write_text("{}\n", encoding="utf-8")
        for path in self.root.iterdir():
            if path.name in self._own_names() or path.name.startswith((".pack.", ".bundle.", ".results.")):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return earlier

    def _own_names(self) -> set[str]:
        own = (self.line, self.unseen, self.pack, self.bundle, self.video, self.run_records)
        return {path.name for path in (*own, self.results, self.evaluation)}


def plan_line(good_dir: Path, defects_dir: Path) -> LinePlan:
    """Which of the user's pictures go where, folder in the data set -> pictures; nothing is written.

    defects_dir: one folder a type; a folder `good` in it is kept for testing, else every fifth good picture is.
    UsageError when there are too few pictures, EnrolmentError when a type's name cannot be a class.
    """
    goods = _pictures_in(good_dir, "--good", MIN_GOOD)
    test_good = list(iter_picture_paths(defects_dir / GOOD)) if (defects_dir / GOOD).is_dir() else []
    if not test_good:
        test_good = goods[::HOLD_OUT_EVERY][:MAX_HELD_OUT]
        goods = sorted(set(goods) - set(test_good))
    plan = {f"train/{GOOD}": goods, f"test/{GOOD}": test_good}
    for kind in kind_folders(defects_dir):
        plan[f"test/{kind.name}"] = _pictures_in(kind, "--defects", SUPPORTS_PER_KIND + 1)
        masks = (folder / MASKS / kind.name for folder in (defects_dir.parent, defects_dir))
        plan[f"{MASKS}/{kind.name}"] = [path for folder in masks for path in iter_picture_paths(folder)]
    return plan


def link_line(line: Path, plan: LinePlan) -> None:
    """Lay the user's pictures out as a data set, by links: nothing is copied and nothing of theirs is touched."""
    for folder, pictures in plan.items():
        if pictures:
            link_all(pictures, line / folder)


def kind_folders(defects_dir: Path) -> list[Path]:
    """Folders of defect types in the user's folder, sorted; UsageError when there is none."""
    if not defects_dir.is_dir():
        raise UsageError(f"--defects {defects_dir}: no such folder; give a folder with one subfolder a type of defect")
    kinds = [p for p in sorted(defects_dir.iterdir()) if p.is_dir() and p.name not in (GOOD, MASKS, "train")]
    kinds = [p for p in kinds if not p.name.startswith(".")]
    if not kinds:
        raise UsageError(f"--defects {defects_dir}: no subfolders; sort the pictures into one subfolder a type")
    for kind in kinds:
        check_class_name(kind.name)
    return kinds


def link_all(pictures: Sequence[Path], folder: Path) -> None:
    """One link a picture in `folder`, under its own name; a name that is taken gets its number in front."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        link = folder / picture.name
        if link.exists():
            link = folder / f"{number:05}-{picture.name}"
        link.symlink_to(picture.resolve())


def link_unseen(unseen: Path, line: Path, enrolled: Collection[Path]) -> None:
    """Link every test picture that is not enrolled, kind by kind."""
    for kind in sorted(path for path in (line / "test").iterdir() if path.is_dir()):
        link_all([path for path in iter_picture_paths(kind) if path not in enrolled], unseen / kind.name)


def choose_supports(bundle: Path, line: Path) -> list[Supports]:
    """Per kind the first two pictures that the bundle rejects: only a rejected part can be shown to a person.

    Where it rejects fewer, the strangest of the others fill up.
    """
    inspector = Inspector.load(bundle)
    return [_first_rejected(inspector, kind) for kind in kind_folders(line / "test")]


def write_video(video: Path, unseen: Path, frames: int) -> int:
    """Film good and bad parts in turn; the number of frames written, at most `frames`.

    FFV1 loses nothing: a bundle fits the camera it was calibrated through, and JPEG is a different camera.
    Pictures of other sizes are stretched to the first one's size.
    """
    shown = _in_turn([list(iter_picture_paths(folder)) for folder in sorted(unseen.iterdir())])[:frames]
    height, width = read_picture(shown[0]).shape[:2]
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"FFV1"), VIDEO_FPS, (width, height))
    if not writer.isOpened():
        raise UsageError(f"{video}: OpenCV cannot write a video here; choose another --out")
    try:
        for path in shown:
            writer.write(cv2.resize(read_picture(path), (width, height), interpolation=cv2.INTER_AREA))
    finally:
        writer.release()
    return len(shown)


def _first_rejected(inspector: Inspector, kind: Path) -> Supports:
    """Stops looking as soon as two are found."""
    rejected: list[Path] = []
    accepted: list[tuple[float, Path]] = []
    for path in iter_picture_paths(kind):
        score = inspector.detect(read_picture(path)).anomaly_score
        if score > inspector.image_threshold:
            rejected.append(path)
        else:
            accepted.append((score, path))
        if len(rejected) == SUPPORTS_PER_KIND:
            return Supports(kind.name, tuple(rejected), True)
    strangest = [path for _, path in sorted(accepted, reverse=True)]
    return Supports(kind.name, tuple((rejected + strangest)[:SUPPORTS_PER_KIND]), False)


def _pictures_in(folder: Path, option: str, at_least: int) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{option} {folder}: no such folder")
    pictures = list(iter_picture_paths(folder))
    if len(pictures) < at_least:
        raise UsageError(f"{option} {folder}: {len(pictures)} pictures, at least {at_least} needed for a demo")
    return pictures


def _in_turn(rows: Iterable[Sequence[Path]]) -> list[Path]:
    """First of each row, then second of each, until all are used up."""
    return [path for column in zip_longest(*rows) for path in column if path is not None]
