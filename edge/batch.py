"""One picture of a folder -> its row, and its heat-map; the same wherever the work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from edge.anomaly import ScoreMap
from edge.draw import draw_heatmap, enlarged, fit_within
from edge.errors import PictureError
from edge.inspector import Inspector
from edge.listing import Entry, PictureFolder
from edge.pictures import FrameBgr, write_picture
from edge.result import Inspection, Provenance, Verdict, no_verdict
from edge.results_folder import ResultsFolder
from edge.setting import InspectorSetting, inspector_for

# The map has far fewer cells than this; a larger overlay would only fill the disk.
HEATMAP_SIDE_PX = 1600


@dataclass(frozen=True)
class Drawing:
    """Which heat-maps are drawn into the results at `out`: of every picture, of rejects, or none."""

    out: Path
    is_for_all: bool = False
    is_for_rejects: bool = False

    def wants(self, verdict: Verdict) -> bool:
        """Whether a picture with this verdict gets a heat-map."""
        return (self.is_for_all and verdict != "no_verdict") or (self.is_for_rejects and verdict == "defect")

    def path(self, name: str) -> Path:
        """Where the heat-map of the picture called `name` belongs."""
        return ResultsFolder(self.out).heatmap_path(name)


@dataclass(frozen=True)
class Batch:
    """What is the same for every picture of a run. drawing None: no heat-maps."""

    setting: InspectorSetting
    folder: PictureFolder
    always_type: bool = False
    drawing: Drawing | None = None

    def inspect(self, inspector: Inspector, entry: Entry) -> Inspection:
        """The verdict on one file, with the time each stage took; its heat-map is on disk before this returns."""
        provenance = Provenance(self.folder.source, 0, entry.changed_at, entry.name)
        started_s = perf_counter()
        try:
            frame_bgr = self.folder.read(entry)
            read_ms = (perf_counter() - started_s) * 1e3
            inspection, anomaly = inspector.examine(frame_bgr, provenance, self.always_type)
        except PictureError as exc:
            return no_verdict(provenance, inspector.manifest.bundle_id, inspector.image_threshold, str(exc))
        if self.drawing and self.drawing.wants(inspection.verdict):
            _write_heatmap(self.drawing.path(entry.name), frame_bgr, anomaly, inspector)
        return inspection.with_latency("read", read_ms)


@dataclass(frozen=True)
class Chunk:
    """Pictures that are inspected in one go, by whoever is free."""

    batch: Batch
    entries: Sequence[Entry]

    def __str__(self) -> str:
        return f"{self.entries[0].name!r}"


def inspect_chunk(chunk: Chunk) -> list[Inspection]:
    """Inspections in the order of the chunk, by this process's own inspector."""
    inspector = inspector_for(chunk.batch.setting)
    return [chunk.batch.inspect(inspector, entry) for entry in chunk.entries]


def _write_heatmap(path: Path, frame_bgr: FrameBgr, anomaly: ScoreMap, inspector: Inspector) -> None:
    canvas, _ = enlarged(fit_within(frame_bgr, HEATMAP_SIDE_PX))
    threshold = inspector.manifest.thresholds.pixel_threshold
    write_picture(path, draw_heatmap(canvas, anomaly.anomaly_map, threshold))
