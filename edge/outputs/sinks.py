"""Where inspections go. A sink is a context manager: whoever opens it closes it."""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pydantic

from edge.draw import draw_inspection
from edge.errors import OutputError, PictureError
from edge.notify import Notify, Trouble, one_line
from edge.outputs.line_file import LineFile, may_pass, write_all
from edge.pictures import FrameBgr, write_picture
from edge.result import Inspection
from edge.station.control import Control, Status
from edge.station.parts import StationPart, StationPath

HeatMap = npt.NDArray[np.float32]
KEEP_ANNOTATED = 1000
# Only files with such a name are ever removed.
_ANNOTATED_NAME = re.compile(r"\d{8}T\d{9}Z_(cam\d+_)?\d{8,}_(good|defect|no_verdict)\.jpg")


class Sink(ABC):
    """Takes every inspection of a run."""

    @abstractmethod
    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Take one inspection. frame_bgr: (H, W, 3) uint8, None when there was no picture.

        heat_map: (h', w') float32 over the whole frame, 1 where a pixel begins to be odd; None without a verdict.
        """

    def see(self, camera: str, frame_bgr: FrameBgr) -> None:  # noqa: B027  # few show pictures
        """A picture that is not inspected, as while the station is paused."""

    def came_round(self, status: Status) -> None:  # noqa: B027  # few tell others how the station is
        """The loop that inspects is alive; called by it several times a second, with or without parts."""

    def close(self) -> None:  # noqa: B027  # not every sink holds something open
        """Let go of what is open; safe to call twice."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Output(StationPart):
    """A sink as a station describes it; the model stands beside its sink; `station_outputs` lists them all."""

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink, for cameras of these names. control: for those that people or machines answer through.

        OutputError when it cannot be used.
        """
        raise NotImplementedError

    def in_words(self) -> str:
        """What it will do, for a person, in one line."""
        raise NotImplementedError


class JsonLinesSink(Sink):
    """One record a line, flushed line by line, appended to a file or written to stdout (`path` None).

    OutputError when a record cannot be written; those before it are whole, see `LineFile`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._name = str(path or "standard output")
        self._file = _open_for_lines(path) if path else None
        self._stdout = sys.stdout.buffer

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Append one line; OutputError when it cannot be written."""
        line = json_line(inspection)
        try:
            if self._file:
                self._file.append(line)
            else:
                write_all(self._stdout, line)  # Python's -u takes its buffer away
                self._stdout.flush()
        except BrokenPipeError:  # the reader of our output has gone, which is its right
            raise
        except OSError as exc:
            raise OutputError(
                f"{self._name}: record {inspection.result_id} cannot be written ({exc.strerror or exc}); "
                "free some space, then run again: records are appended"
            ) from exc

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._file:
            self._file.close()


class AnnotatedFrameSink(Sink):
    """Frames with their verdict drawn on them, as JPEG files in a folder; the `keep` newest stay.

    What goes wrong with a picture costs the picture, not the inspection: `notify` hears when it begins and when a disk
    takes pictures again.
    cameras: names of several sources, whose pictures would otherwise take each other's place.
    """

    def __init__(self, folder: Path, keep: int, notify: Notify, cameras: Sequence[str] = ()) -> None:
        self._folder, self._keep = folder, keep
        self._camera_numbers = {name: number for number, name in enumerate(cameras, start=1)}
        self._disk, self._drawing = Trouble(notify), Trouble(notify)
        self._kept: dict[Path, None] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            earlier = [path for path in folder.iterdir() if _ANNOTATED_NAME.fullmatch(path.name)]
            self._kept = dict.fromkeys(sorted(earlier, key=lambda path: (path.stat().st_mtime_ns, path.name)))
        except OSError as exc:
            text = f"{folder}: cannot be used for annotated frames ({exc.strerror or exc})"
            if not may_pass(exc):
                raise OutputError(text) from exc
            self._disk.met(text)

    def write(self, inspection: Inspection, frame_bgr: FrameBgr | None, heat_map: HeatMap | None = None) -> None:
        """Draw and write one picture, then remove the oldest ones over `keep`."""
        if frame_bgr is None:
            return
        number = self._camera_numbers.get(inspection.provenance.source)
        path = self._folder / annotated_name(inspection, number)
        try:
            write_picture(path, draw_inspection(frame_bgr, inspection))
            self._keep_newest(path)
        except (PictureError, OSError) as exc:  # a full disk
            self._disk.met(f"annotated frames are not complete: {exc}")
        except Exception as exc:  # a frame too strange to draw on
            self._drawing.met(f"annotated frames are not complete: {one_line(exc)}")
        else:
            self._disk.over(f"{self._folder}: annotated frames are written again")

    def _keep_newest(self, path: Path) -> None:
        self._kept.pop(path, None)  # a picture that was written again is the newest
        self._kept[path] = None
        while len(self._kept) > self._keep:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            oldest.unlink(missing_ok=True)


class AnnotatedOutput(Output):
    """Pictures with their verdict drawn on them, in a folder of their own. keep: the newest stay."""

    folder: StationPath
    keep: int = pydantic.Field(default=KEEP_ANNOTATED, ge=1, le=10_000_000)

    def open(self, cameras: Sequence[str], notify: Notify, control: Control) -> Sink:
        """The sink; names in files tell several cameras apart."""
        return AnnotatedFrameSink(self.folder, self.keep, notify, cameras if len(cameras) > 1 else ())

    def in_words(self) -> str:
        """Folder and number."""
        return f"annotated pictures in {self.folder}, the {self.keep} newest"


def annotated_name(inspection: Inspection, camera_number: int | None = None) -> str:
    """Such as `20261123T204812123Z_00000042_defect.jpg`, or `..Z_cam2_0..`: sorts by time, then camera, then frame."""
    p = inspection.provenance
    moment = re.sub(r"[^0-9TZ]", "", p.captured_at)
    camera = f"cam{camera_number}_" if camera_number else ""
    return f"{moment}_{camera}{p.frame_id:08d}_{inspection.verdict}.jpg"


def json_line(inspection: Inspection) -> bytes:
    """The record as it stands in a file of records."""
    return (inspection.to_json() + "\n").encode()


def _open_for_lines(path: Path) -> LineFile:
    try:
        return LineFile(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot take records ({exc.strerror or exc}); choose another --out") from exc
