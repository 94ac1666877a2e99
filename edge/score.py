"""A folder of pictures -> a folder of results. Every file gets its row, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.batch import Batch, Chunk, Drawing, inspect_chunk
from edge.errors import UsageError
from edge.figures import Figures
from edge.inspector import Inspector
from edge.listing import Entry, LocalFolder, iter_entries, printable
from edge.machine import usable_cores
from edge.manifest import BundleManifest
from edge.pool import ProcessCrew
from edge.result import Inspection, Verdict
from edge.results_folder import RECORDS_FILE, ResultsFolder, RunFacts, digest_of
from edge.setting import InspectorSetting
from edge.table import PARQUET_FILE, TABLE_FILE
from edge.timing import Stopwatch

# Pictures from which processes of their own pay, per process: to start one takes as long as some tens of pictures.
PAYS_FROM_PER_JOB = 60
CHUNK = 16

Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class ScoreOptions:
    """heatmaps: of every picture. report: also write report.html, for which rejects get heat-maps too.

    always_type: name the strangest region of good pictures as well. overwrite: drop an earlier result.
    since_last: only files that have no row, whatever became of the others. parquet: also write results.parquet.
    jobs: processes to work in, 0 for every core; only where they can load their own inspector.
    """

    heatmaps: bool = False
    report: bool = False
    always_type: bool = False
    overwrite: bool = False
    since_last: bool = False
    parquet: bool = False
    jobs: int = 0


@dataclass(frozen=True)
class ScoreSummary:
    """What a run came to. scored_now: pictures inspected by this very run; the others had their rows.

    timing: of this run, see `edge.timing`; None when there was nothing to do.
    """

    figures: Figures
    scored_now: int
    files: tuple[Path | str, ...]
    timing: Mapping[str, Any] | None = None

    @property
    def errors(self) -> int:
        """Files without a verdict."""
        return self.figures.verdicts["no_verdict"]

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        figures, timing = self.figures, self.timing or {}
        speed = ("jobs", "took_s", "pictures_per_s", "latency_p50_ms", "latency_p95_ms", "stage_p50_ms")
        return {
            "pictures": figures.pictures,
            "scored_now": self.scored_now,
            **{verdict: figures.verdicts[verdict] for verdict in ("good", "defect", "no_verdict")},
            "good_share": figures.good_share,
            "defect_classes": dict(figures.classes.most_common()),
            **{name: timing.get(name) for name in speed},
            "files": [printable(path) for path in self.files],
        }


def score_folder(
    inspector: Inspector | InspectorSetting,
    folder: Path,
    out: Path,
    options: ScoreOptions = ScoreOptions(),
    on_progress: Progress = iter,
) -> ScoreSummary:
    """Inspect every file below `folder` and write rows, heat-maps, tables and report to `out`.

    inspector: a loaded one does the work in this process; from a setting as many are loaded as pay, in processes
    of their own. The rows are the same, and in the same order. A run that was killed goes on when it is started
    again; files that changed since are scored again. on_progress wraps the names of what is left to do.
    UsageError when folder and out cannot mean anything, WorkerError when a process died.
    """
    if options.parquet:
        from edge.parquet_table import arrow

        arrow()  # now, not after a night's work
    loaded = inspector if isinstance(inspector, Inspector) else None
    setting = inspector if isinstance(inspector, InspectorSetting) else InspectorSetting.of(inspector)
    manifest = loaded.manifest if loaded else setting.manifest()
    files = find_files(folder, out, may_be_empty=options.since_last)
    setting = setting.resolved()
    facts = run_facts(manifest, setting, printable(folder.resolve()), options.always_type)
    with ResultsFolder.opened(out, facts, options.overwrite, options.since_last) as results:
        run = _Run(Batch(setting, LocalFolder(folder.resolve()), options.always_type, _drawing(out, options)), results)
        first_row = run.choose_new(files) if options.since_last else run.choose_open(files)
        run.work(loaded, options.jobs, on_progress)
        written = run.finish(options, first_row)
        if options.report:
            from edge.report import write_report

            paths = {name: folder.resolve() / entry.path for name, entry in files.items()}
            written.append(write_report(results, paths, manifest, first_row))
        return ScoreSummary(run.figures, run.stopwatch.pictures, tuple(written), run.timing)


def find_files(folder: Path, out: Path, may_be_empty: bool = False) -> dict[str, Entry]:
    """Path as it stands in the record -> file, sorted; results of this and earlier runs are left out."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a folder of pictures")
    root, own = folder.resolve(), out.resolve()
    if root.is_relative_to(own):
        raise UsageError(f"--out {out} is or contains the folder of pictures; choose another --out")
    inside = own.relative_to(root).as_posix() if own.is_relative_to(root) else None
    entries = {entry.name: entry for entry in iter_entries(LocalFolder(root), lambda below: below == inside)}
    if not entries and not may_be_empty:
        raise UsageError(f"{folder}: no files in it; give a folder of pictures")
    return entries


def run_facts(manifest: BundleManifest, setting: InspectorSetting, source: str, always_type: bool) -> RunFacts:
    """What the rows of this run depend on."""
    return RunFacts(
        bundle_id=manifest.bundle_id,
        folder=source,
        classes_sha256=digest_of(setting.enrolled),
        backend=setting.backend or manifest.calibrated_backend,
        precision=setting.precision or manifest.calibrated_precision,
        always_type=always_type,
    )


def chunks_of(batch: Batch, entries: Sequence[Entry], jobs: int) -> Iterator[Chunk]:
    """Equal parts: small enough that all processes end at about the same time, large enough to be worth sending."""
    size = max(1, min(CHUNK, len(entries) // (jobs * 8)))
    for start in range(0, len(entries), size):
        yield Chunk(batch, entries[start : start + size])


class _Run:
    """One run over the pictures of `batch`; todo: what it has to look at; verdicts: of those with a row already."""

    def __init__(self, batch: Batch, results: ResultsFolder) -> None:
        self.batch, self.results = batch, results
        self.todo: dict[str, Entry] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.stopwatch, self.figures = Stopwatch(), Figures()
        self.timing: dict[str, Any] | None = None

    def choose_open(self, files: Mapping[str, Entry]) -> int:
        """Take what has no row, has changed since, or lacks its heat-map; 0, the first row the summary is about."""
        last: dict[str, str] = {}
        for record in self.results.records():
            self.verdicts[record["path"]], last[record["path"]] = record["verdict"], record["captured_at"]
        changed = {name for name, moment in last.items() if name in files and files[name].changed_at != moment}
        self.results.forget(changed)
        for name in changed:
            del self.verdicts[name]
        self.todo = {name: entry for name, entry in files.items() if self._is_open(name)}
        return 0

    def choose_new(self, files: Mapping[str, Entry]) -> int:
        """Take the files without a row of their name and time; returns the number of rows there are."""
        self.todo, rows = dict(files), 0
        for record in self.results.records():
            rows += 1
            entry = self.todo.get(record["path"])
            if entry and entry.changed_at == record["captured_at"]:
                del self.todo[record["path"]]
        return rows

    def work(self, inspector: Inspector | None, jobs: int, on_progress: Progress) -> None:
        """Inspect what is to do; rows are written here, in the order of the listing, each one whole."""
        if not self.todo:
            return
        with self.results.appending() as sink, closing(self._inspections(inspector, jobs)) as inspections:
            for name in on_progress(list(self.todo)):
                inspection = next(inspections)
                if name not in self.verdicts:
                    sink.write(inspection.without_latency(), None)
                self.stopwatch.add(inspection.latency_ms)

    def finish(self, options: ScoreOptions, first_row: int) -> list[Path]:
        """Write the tables of all rows and add up those from first_row on; the files there are now."""
        if self.stopwatch.pictures:
            self.timing = self.stopwatch.timing()
            self.results.note_run(self.timing)
        with self.results.tables(options.parquet) as tables:
            for number, record in enumerate(self.results.records()):
                for table in tables:
                    table.add(record)
                if number >= first_row:
                    self.figures.add(record)
        names = (RECORDS_FILE, TABLE_FILE, PARQUET_FILE) if options.parquet else (RECORDS_FILE, TABLE_FILE)
        return [self.results.folder / name for name in names]

    def _inspections(self, inspector: Inspector | None, jobs: int) -> Generator[Inspection, None, None]:
        entries = list(self.todo.values())
        jobs = min(jobs or usable_jobs(self.batch.setting), len(entries) // PAYS_FROM_PER_JOB)
        if inspector is not None or jobs < 2:
            inspector = inspector or self.batch.setting.load()
            yield from (self.batch.inspect(inspector, entry) for entry in entries)
            return
        self.stopwatch.jobs = jobs
        for done in ProcessCrew(jobs).map(inspect_chunk, chunks_of(self.batch, entries, jobs)):
            yield from done

    def _is_open(self, name: str) -> bool:
        verdict, drawing = self.verdicts.get(name), self.batch.drawing
        if verdict is None:
            return True
        return drawing is not None and drawing.wants(verdict) and not drawing.path(name).exists()


def usable_jobs(setting: InspectorSetting) -> int:
    """Processes that keep every core busy when each takes the threads it was given."""
    return usable_cores() // setting.threads if setting.threads else 1


def _drawing(out: Path, options: ScoreOptions) -> Drawing | None:
    return Drawing(out, options.heatmaps, options.report) if options.heatmaps or options.report else None
