"""How fast, how big and how soon a bundle is on this machine, with every runtime installed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from edge.backend import BACKEND_NAMES, installed_backends
from edge.bench_worker import FIRST_VERDICT, Job
from edge.bundle import Bundle
from edge.errors import BackendError, UsageError
from edge.fresh_process import ask
from edge.machine import machine_facts, usable_cores
from edge.manifest import MANIFEST_NAME, BackendName, Precision, graph_key
from edge.pictures import MAX_PIXELS, MIN_SIDE_PX, read_picture

SCHEMA_VERSION = 1
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")

Track = Callable[[Iterable[Job], str, int], Iterable[Job]]


@dataclass(frozen=True)
class Options:
    """frames: timed inspections per runtime. picture: a file to inspect, or None to generate one of `frame_wh`."""

    frames: int = 100
    picture: Path | None = None
    frame_wh: tuple[int, int] = (1280, 720)


@dataclass(frozen=True)
class RuntimeReport:
    """One runtime. start_up_s: from starting the process to its first verdict. figures: None after an error."""

    backend: BackendName
    precision: Precision
    threads: int
    start_up_s: float | None
    figures: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class BenchReport:
    """All runtimes, the default one first. sizes_bytes: by file of the bundle. frame_wh: of the timed frame."""

    bundle: Bundle
    options: Options
    frame_wh: tuple[int, int]
    machine: dict[str, object]
    runtimes: tuple[RuntimeReport, ...]
    sizes_bytes: dict[str, int]

    @property
    def default(self) -> RuntimeReport:
        """The runtime the bundle was calibrated with, one thread."""
        return self.runtimes[0]

    def to_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        manifest, bank = self.bundle.manifest, self.bundle.manifest.memory_bank
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": self.machine,
            "bundle_id": manifest.bundle_id,
            "product": manifest.product,
            "backbone": manifest.embedding.backbone,
            "input_size": manifest.embedding.input_size,
            "memory_bank": {"rows": bank.rows, "search_dim": bank.search_dim, "search": bank.search},
            "frame": {"picture": self._picture, "size_wh": list(self.frame_wh)},
            "frames": self.options.frames,
            "runtimes": [asdict(runtime) for runtime in self.runtimes],
            "not_installed": sorted(set(BACKEND_NAMES) - set(installed_backends())),
            "sizes_bytes": self.sizes_bytes,
            "total_bytes": sum(self.sizes_bytes.values()),
        }

    @property
    def _picture(self) -> str | None:
        return str(self.options.picture) if self.options.picture else None


def no_track(items: Iterable[Job], label: str, length: int) -> Iterable[Job]:
    """The silent progress reporter."""
    return items


def bench(bundle_dir: Path, options: Options = Options(), track: Track = no_track) -> BenchReport:
    """Time every runtime in a process of its own; BackendError when the default one does not run."""
    _check(options)
    bundle = Bundle.open(bundle_dir)
    frame_wh = _picture_wh(options.picture) if options.picture else options.frame_wh
    machine = machine_facts()  # before the bench makes a load of its own
    jobs = plan_jobs(bundle, options)
    runtimes = tuple(run_in_fresh_process(job) for job in track(jobs, "runtimes", len(jobs)))
    if runtimes[0].error:
        raise BackendError(f"{bundle_dir}: its own runtime cannot be timed: {runtimes[0].error}")
    return BenchReport(bundle, options, frame_wh, machine, runtimes, bundle_sizes(bundle))


def plan_jobs(bundle: Bundle, options: Options) -> list[Job]:
    """Installed backend x precision x (1, every core), the bundle's own runtime with one thread first."""
    manifest = bundle.manifest
    own = (manifest.calibrated_backend, manifest.calibrated_precision, 1)
    grid = product(installed_backends(), PRECISIONS, sorted({1, usable_cores()}))
    runtimes = [own, *(r for r in grid if r != own and graph_key(r[0], r[1]) in manifest.graphs)]
    return [
        Job(
            bundle=str(bundle.folder),
            backend=backend,
            precision=precision,
            threads=threads,
            frames=options.frames,
            picture=str(options.picture) if options.picture else None,
            frame_wh=options.frame_wh,
            with_search=(backend, precision, threads) == own,
        )
        for backend, precision, threads in runtimes
    ]


def run_in_fresh_process(job: Job) -> RuntimeReport:
    """One worker from start to end; what goes wrong in it becomes `error`, and the bench goes on."""
    answer = ask("edge.bench_worker", asdict(job), job.threads, ready_line=FIRST_VERDICT)
    error = answer.error
    return RuntimeReport(
        backend=job.backend,
        precision=job.precision,
        threads=job.threads,
        start_up_s=None if error else round(answer.start_up_s, 3),
        figures=None if error else answer.document,
        error=error,
    )


def bundle_sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes of every file that travels with the bundle, its manifest and enrolled classes included."""
    names = [*bundle.manifest.files, MANIFEST_NAME, bundle.classes_path.name]
    paths = [bundle.folder / name for name in dict.fromkeys(names)]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def _picture_wh(picture: Path) -> tuple[int, int]:
    height, width = read_picture(picture).shape[:2]
    return width, height


def _check(options: Options) -> None:
    width, height = options.frame_wh
    if min(width, height) < MIN_SIDE_PX or width * height > MAX_PIXELS:
        raise UsageError(
            f"--frame-size {width}x{height}: expected sides of at least {MIN_SIDE_PX} px, "
            f"{MAX_PIXELS // 10**6} megapixels at most"
        )
    if options.frames < 1:
        raise UsageError(f"--frames {options.frames}: expected at least 1")
