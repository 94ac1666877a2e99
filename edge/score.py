"""A folder of pictures -> a folder of results. Every file gets its row, whatever is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from edge.anomaly import ScoreMap
from edge.draw import draw_heatmap, enlarged, fit_within
from edge.errors import PictureError, UsageError
from edge.figures import Figures
from edge.inspector import Inspector
from edge.pictures import FrameBgr, iter_files, read_picture, write_picture
from edge.result import Inspection, Provenance, Verdict, iso_utc, no_verdict, utc_now
from edge.results_folder import RUN_FILE, ResultsFolder, RunFacts, digest_of, read_run_facts

# The map has far fewer cells than this; a larger overlay would only fill the disk.
HEATMAP_SIDE_PX = 1600
LAST_TIMESTAMP_S = 253402300799.0  # the end of 9999: a file system holds times that a calendar does not

Progress = Callable[[Sequence[str]], Iterable[str]]


@dataclass(frozen=True)
class ScoreOptions:
    """heatmaps: of every picture. report: also write report.html, for which rejects get heat-maps too.

    always_type: name the strongest region of good pictures as well. overwrite: drop an earlier result.
    """

    heatmaps: bool = False
    report: bool = False
    always_type: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ScoreSummary:
    """What a run came to. scored_now: pictures inspected by this very run; the others had their rows."""

    figures: Figures
    scored_now: int
    files: tuple[Path, ...]

    @property
    def errors(self) -> int:
        """Files without a verdict."""
        return self.figures.verdicts["no_verdict"]

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        figures = self.figures
        return {
            "pictures": figures.pictures,
            "scored_now": self.scored_now,
            **{verdict: figures.verdicts[verdict] for verdict in ("good", "defect", "no_verdict")},
            "good_share": figures.good_share,
            "defect_classes": dict(figures.classes.most_common()),
            "latency_p50_ms": figures.latency_ms(50),
            "latency_p95_ms": figures.latency_ms(95),
            "files": [printable(path) for path in self.files],
        }


def score_folder(
    inspector: Inspector,
    folder: Path,
    out: Path,
    options: ScoreOptions = ScoreOptions(),
    on_progress: Progress = iter,
) -> ScoreSummary:
    """Inspect every file below `folder` and write rows, heat-maps, table and report to `out`.

    A run that was killed goes on when it is started again; files that changed since are scored again.
    on_progress wraps the list of what is left to do. UsageError when folder and out cannot mean anything.
    """
    files = find_files(folder, out)
    with ResultsFolder.opened(out, run_facts(inspector, folder, options), options.overwrite) as results:
        verdicts = _verdicts_so_far(results, files)
        batch = _Batch(inspector, folder.resolve(), results, options, files, verdicts)
        batch.run(on_progress)
        written = [results.records_path, results.write_table()]
        if options.report:
            from edge.report import write_report

            written.append(write_report(results, files, inspector.manifest))
        return ScoreSummary(Figures.of(results.records()), batch.scored, tuple(written))


def find_files(folder: Path, out: Path) -> dict[str, Path]:
    """Path as it stands in the record -> file, sorted; results of this and earlier runs are left out."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a folder of pictures")
    root, own = folder.resolve(), out.resolve()
    if root.is_relative_to(own):
        raise UsageError(f"--out {out} is or contains the folder of pictures; choose another --out")
    paths = list(iter_files(root))
    skipped = {own, *(p.parent for p in paths if p.name == RUN_FILE and read_run_facts(p) is not None)}
    files = {printable(p.relative_to(root)): p for p in paths if skipped.isdisjoint(p.parents)}
    if not files:
        raise UsageError(f"{folder}: no files in it; give a folder of pictures")
    return files


def run_facts(inspector: Inspector, folder: Path, options: ScoreOptions) -> RunFacts:
    """What the rows of this run depend on."""
    return RunFacts(
        bundle_id=inspector.manifest.bundle_id,
        folder=printable(folder.resolve()),
        classes_sha256=digest_of(inspector.classes_path),
        backend=inspector.backbone.name,
        precision=inspector.precision,
        always_type=options.always_type,
    )


def printable(path: Path) -> str:
    """The path as text that UTF-8 can hold: names that are not UTF-8, or hold a backslash, are escaped."""
    encoded = os.fsencode(path.as_posix())
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        text = ""
    if text and "\\" not in text:
        return text
    return encoded.replace(b"\\", b"\\\\").decode(errors="backslashreplace")


def captured_at(path: Path) -> str:
    """Time of the file's last change, so that scoring it again gives the same row."""
    try:
        return iso_utc(min(max(path.stat().st_mtime, 0.0), LAST_TIMESTAMP_S))
    except OSError:  # it went away between listing and reading
        return utc_now()


@dataclass
class _Batch:
    """One run over `files`; verdicts: of the pictures that have a row already."""

    inspector: Inspector
    root: Path
    results: ResultsFolder
    options: ScoreOptions
    files: dict[str, Path]
    verdicts: dict[str, Verdict]
    scored: int = 0

    def run(self, on_progress: Progress) -> None:
        """Score what has no row, and draw the heat-maps that are missing."""
        todo = [name for name in self.files if self._is_open(name)]
        with self.results.appending() as sink:
            for name in on_progress(todo):
                inspection, frame_bgr, anomaly = self._inspect(name)
                if anomaly is not None and frame_bgr is not None and self._wants_heatmap(inspection.verdict):
                    self._write_heatmap(name, frame_bgr, anomaly)  # before the row: a row says all is there
                if name not in self.verdicts:
                    sink.write(inspection, None)
                self.scored += 1

    def _is_open(self, name: str) -> bool:
        verdict = self.verdicts.get(name)
        if verdict is None:
            return True
        return self._wants_heatmap(verdict) and not self.results.heatmap_path(name).exists()

    def _wants_heatmap(self, verdict: Verdict) -> bool:
        return (self.options.heatmaps and verdict != "no_verdict") or (self.options.report and verdict == "defect")

    def _inspect(self, name: str) -> tuple[Inspection, FrameBgr | None, ScoreMap | None]:
        path = self.files[name]
        provenance = Provenance(printable(self.root), 0, captured_at(path), name)
        started_s = perf_counter()
        try:
            frame_bgr = read_picture(path)
            read_ms = (perf_counter() - started_s) * 1e3
            inspection, anomaly = self.inspector.examine(frame_bgr, provenance, self.options.always_type)
        except PictureError as exc:
            bundle_id, threshold = self.inspector.manifest.bundle_id, self.inspector.image_threshold
            return no_verdict(provenance, bundle_id, threshold, _reason(exc, path)), None, None
        return inspection.with_latency("read", read_ms), frame_bgr, anomaly

    def _write_heatmap(self, name: str, frame_bgr: FrameBgr, anomaly: ScoreMap) -> None:
        threshold = self.inspector.manifest.thresholds.pixel_threshold
        canvas, _ = enlarged(fit_within(frame_bgr, HEATMAP_SIDE_PX))
        write_picture(self.results.heatmap_path(name), draw_heatmap(canvas, anomaly.anomaly_map, threshold))


def _verdicts_so_far(results: ResultsFolder, files: dict[str, Path]) -> dict[str, Verdict]:
    """Verdicts of the pictures that need not be scored again; rows of changed pictures are removed."""
    verdicts: dict[str, Verdict] = {}
    changed = set()
    for record in results.records():
        name = record["path"]
        verdicts[name] = record["verdict"]
        if name in files and captured_at(files[name]) != record["captured_at"]:
            changed.add(name)
    results.forget(changed)
    return {name: verdict for name, verdict in verdicts.items() if name not in changed}


def _reason(exc: PictureError, path: Path) -> str:
    """The error without the path, which the record has already (and which may not be UTF-8)."""
    return os.fsencode(str(exc).removeprefix(f"{path}: ")).decode(errors="backslashreplace")
