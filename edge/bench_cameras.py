"""What a second camera costs: the same pictures from one folder and from several, through one inspector."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from edge.cameras.sources import open_camera
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.loop import run
from edge.machine import machine_facts
from edge.notify import Notify, say
from edge.outputs.sinks import HeatMap, Sink
from edge.pictures import FrameBgr, write_picture
from edge.result import Inspection

ROUNDS = 5
MAX_CAMERAS = 64


@dataclass(frozen=True)
class CamerasReport:
    """frames_per_s: of all cameras together, median of the rounds. frames_per_camera: of the median's round.

    ratio: the rate with several over that with one, the median over pairs of neighbouring rounds. fairness: fewest
    frames of a camera over most, the worst round's.
    """

    bundle_id: str
    runtime: str
    machine: dict[str, object]
    cameras: int
    frames: int
    one_camera_frames_per_s: float
    frames_per_s: float
    ratio: float
    ratios: tuple[float, ...]
    frames_per_camera: tuple[int, ...]
    fairness: float

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A few lines for the terminal."""
        spread = f"{min(self.ratios):.3f} to {max(self.ratios):.3f}"
        return "\n".join(
            [
                f"bundle {self.bundle_id}, {self.runtime}, on {self.machine['cpu']}",
                f"{self.frames} frames from folders of pictures, {ROUNDS} rounds in turns, one inspector",
                f"1 camera: {self.one_camera_frames_per_s:.1f} frames/s",
                f"{self.cameras} cameras: {self.frames_per_s:.1f} frames/s in all, "
                f"{self.ratio:.3f} of one camera's ({spread})",
                f"frames of each camera: {', '.join(map(str, self.frames_per_camera))}; "
                f"fewest / most {self.fairness:.3f} in the worst round",
            ]
        )


def compare_cameras(
    inspector: Inspector, pictures: Sequence[FrameBgr], cameras: int, frames: int, notify: Notify = say
) -> CamerasReport:
    """Inspect `frames` frames with one camera and with `cameras`, in turns so that noise hits both.

    Every camera could give all the frames alone: how many are taken of each is for the loop to decide.
    """
    if not 2 <= cameras <= MAX_CAMERAS or frames < 10 * cameras:
        raise UsageError(
            f"--cameras {cameras} with --frames {frames}: expected 2 to {MAX_CAMERAS} cameras and at least ten "
            "frames for each"
        )
    with tempfile.TemporaryDirectory() as root:
        folders = _camera_folders(Path(root), pictures, cameras, frames)
        _one_round(inspector, folders, frames, notify)  # warm-up
        pairs = [
            (_one_round(inspector, folders[:1], frames, notify), _one_round(inspector, folders, frames, notify))
            for _ in range(ROUNDS)
        ]
    several = [with_all for _, with_all in pairs]
    ratios = [with_all.frames_per_s / with_one.frames_per_s for with_one, with_all in pairs]
    return CamerasReport(
        bundle_id=inspector.manifest.bundle_id,
        runtime=f"{inspector.backbone.name} {inspector.backbone.version} {inspector.precision}",
        machine=machine_facts(),
        cameras=cameras,
        frames=frames,
        one_camera_frames_per_s=round(median(with_one.frames_per_s for with_one, _ in pairs), 2),
        frames_per_s=round(median(each.frames_per_s for each in several), 2),
        ratio=round(median(ratios), 4),
        ratios=tuple(round(ratio, 4) for ratio in ratios),
        frames_per_camera=sorted(several, key=lambda each: each.frames_per_s)[ROUNDS // 2].frames_per_camera,
        fairness=round(min(min(e.frames_per_camera) / max(e.frames_per_camera) for e in several), 4),
    )


@dataclass(frozen=True)
class _Round:
    frames_per_s: float
    frames_per_camera: tuple[int, ...]


class _Clock(Sink):
    """When the first and the last record came: what opening and closing cost is not counted."""

    def __init__(self) -> None:
        self.first_s = self.last_s = 0.0

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        self.last_s = perf_counter()
        self.first_s = self.first_s or self.last_s


def _one_round(inspector: Inspector, folders: Sequence[Path], frames: int, notify: Notify) -> _Round:
    clock = _Clock()
    with ExitStack() as opened:
        cameras = [opened.enter_context(open_camera(str(folder))) for folder in folders]
        # A camera's end is no news here: every folder holds more than is taken of it.
        summary = run(cameras, inspector, [clock], max_frames=frames, notify=notify)
    rate = (summary.frames - 1) / (clock.last_s - clock.first_s)
    return _Round(rate, tuple(camera.frames for camera in summary.cameras))


def _camera_folders(root: Path, pictures: Sequence[FrameBgr], cameras: int, frames: int) -> list[Path]:
    """A folder a camera, each with more than `frames` names for the same few JPEG files."""
    files = [root / f"picture-{number}.jpg" for number in range(len(pictures))]
    for file, frame_bgr in zip(files, pictures, strict=True):
        write_picture(file, frame_bgr)
    folders = [root / f"camera-{number}" for number in range(1, cameras + 1)]
    for folder in folders:
        folder.mkdir()
        for number in range(frames + 1):
            (folder / f"{number:08d}.jpg").symlink_to(files[number % len(files)])
    return folders
