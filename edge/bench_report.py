"""A bench as tables for a terminal."""

from __future__ import annotations

from typing import Any

from edge.bench import BenchReport, RuntimeReport
from edge.bench_timing import SEARCH_ROUNDS, WARM_UP_FRAMES
from edge.text_table import aligned

GENERATED_HINT = "a generated frame is odd everywhere and the search slow on it; --picture takes a part of your own"


def to_text(report: BenchReport) -> str:
    """Machine, stages of the default runtime, all runtimes, search, sizes."""
    return "\n\n".join([_head(report), _stages(report), _runtimes(report), _search(report), _sizes(report)])


def _head(report: BenchReport) -> str:
    manifest, machine = report.bundle.manifest, report.machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    width, height = report.frame_wh
    picture = report.options.picture
    lines = [
        f"bundle {manifest.bundle_id} ({manifest.product}), {manifest.embedding.input_size} px",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average_1min']}, {machine['system']}",
        ", ".join([f"Python {machine['python']}", *(f"{name} {version}" for name, version in versions.items())]),
        f"{width} x {height} px, {picture or 'generated'}; {report.options.frames} frames in turns, "
        f"{WARM_UP_FRAMES} before them to warm up; ms as p50 / p95",
    ]
    return "\n".join(lines if picture else [*lines, GENERATED_HINT])


def _stages(report: BenchReport) -> str:
    latency = _figures(report.default)["latency"]
    good, rejected = latency["good_stages_ms"], latency["rejected_stages_ms"]
    rows = [["stage", "good part", "rejected part"]]
    rows += [[stage, _ms(good[stage]), _ms(rejected[stage])] for stage in good]
    rows.append(["whole frame", _ms(latency["good_frame_ms"]), _ms(latency["rejected_frame_ms"])])
    rows.append(["bare backbone", *[_ms(latency["bare_backbone_ms"])] * 2])
    rows.append(["whole / bare", f"{latency['good_ratio']:.2f}", f"{latency['rejected_ratio']:.2f}"])
    return (
        f"Stages, {_name(report.default)}, 1 thread; rejected: {latency['regions_typed']} regions typed, "
        f"{latency['classes']} classes\n{aligned(rows)}"
    )


def _runtimes(report: BenchReport) -> str:
    rows = [["runtime", "threads", "backbone", "good part", "rejected part", "ratios", "start-up s", "peak RSS MiB"]]
    rows += [_runtime_row(runtime) for runtime in report.runtimes]
    errors = [f"  {_name(r)}, {r.threads} threads: {r.error}" for r in report.runtimes if r.error]
    return "\n".join(["Runtimes", aligned(rows), *errors])


def _runtime_row(runtime: RuntimeReport) -> list[str]:
    if runtime.figures is None:
        return [_name(runtime), str(runtime.threads), "failed"]
    latency = runtime.figures["latency"]
    return [
        _name(runtime),
        str(runtime.threads),
        _ms(latency["bare_backbone_ms"]),
        _ms(latency["good_frame_ms"]),
        _ms(latency["rejected_frame_ms"]),
        f"{latency['good_ratio']:.2f} {latency['rejected_ratio']:.2f}",
        f"{runtime.start_up_s:.2f}",
        f"{runtime.figures['peak_rss_mb']:.0f}",
    ]


def _search(report: BenchReport) -> str:
    bank, search = report.bundle.manifest.memory_bank, _figures(report.default)["search"]
    title = (
        f"Search, {search['queries']} patches in {bank.rows} rows of {bank.search_dim}, 1 thread, "
        f"{SEARCH_ROUNDS} rounds; the bundle uses {bank.search}"
    )
    rows = [["", "ms", "recall@1", "farther by"], ["exact", _ms(search["exact_ms"]), "1", "0"]]
    for name, found in search["others"].items():
        rows.append([name, _ms(found["ms"]), f"{found['recall_at_1']:.4f}", f"{found['excess']:.3%}"])
    return f"{title}\n{aligned(rows)}"


def _sizes(report: BenchReport) -> str:
    by_size = sorted(report.sizes_bytes.items(), key=lambda item: -item[1])
    rows = [[name, f"{size / 1024:.1f}"] for name, size in by_size]
    rows.append(["total", f"{sum(report.sizes_bytes.values()) / 1024:.1f}"])
    return f"Bundle on disk, KiB\n{aligned(rows)}"


def _figures(runtime: RuntimeReport) -> dict[str, Any]:
    assert runtime.figures is not None  # bench() raises when the default runtime fails
    return runtime.figures


def _name(runtime: RuntimeReport) -> str:
    return f"{runtime.backend} {runtime.precision}"


def _ms(percentiles: dict[str, float]) -> str:
    return f"{percentiles['p50']:.2f} / {percentiles['p95']:.2f}"
