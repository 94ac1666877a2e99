"""`oddkind score`: a folder of pictures on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli_options import (
    bundle_argument,
    classes_option,
    json_option,
    overwrite_option,
    progress_with_rate,
    runtime_options,
)

if TYPE_CHECKING:
    from edge.manifest import BackendChoice, Precision
    from edge.score import ScoreSummary


@click.command()
@bundle_argument
@click.argument("folder")
@click.option("--out", required=True, metavar="RESULTS", help="Folder for results, a path or a URL.")
@click.option("--heatmaps", is_flag=True, help="Draw the anomaly map over every picture.")
@click.option("--report", is_flag=True, help="Write report.html, one file to look at or send; draws rejects.")
@click.option("--always-type", is_flag=True, help="Name the strangest region of good pictures too.")
@click.option("--parquet", is_flag=True, help="Write results.parquet too; needs 'oddkind[parquet]'.")
@click.option("--jobs", type=click.IntRange(0), default=0, help="Processes to work in, at most.  [default: every core]")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do it, such as tcp://host:8786.")
@click.option("--dask-workers", type=click.IntRange(1), help="Dask workers to start on this machine for it.")
@click.option("--since-last", is_flag=True, help="Score only files that are new here; old rows and files rest.")
@classes_option
@runtime_options
@overwrite_option
@json_option
@click.pass_context
def score(
    ctx: click.Context,
    bundle: Path,
    folder: str,
    out: str,
    heatmaps: bool,
    report: bool,
    always_type: bool,
    parquet: bool,
    jobs: int,
    scheduler: str | None,
    dask_workers: int | None,
    since_last: bool,
    classes_path: Path | None,
    backend: BackendChoice | None,
    precision: Precision | None,
    threads: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Inspect every file below FOLDER: one row each in results.jsonl and results.csv.

    A run that was stopped goes on when the same command is given again. Files that are no pictures become
    rows with an error. All cores work, and the rows are those of one core, byte for byte.

    FOLDER and --out may be URLs such as s3://bucket/lot; with --scheduler or --dask-workers a Dask cluster does
    the work. Needs 'oddkind[cluster]'; see docs/scale.md.

    \b
    Exit code: 0 every file scored, 1 some without a verdict, 2 wrong usage.
    Example:
      oddkind score bottle.bundle monday/ --out monday.results --report
      oddkind score bottle.bundle line-1/ --out line-1.results --since-last
      oddkind score bottle.bundle s3://line-1/lot --out s3://line-1/results --scheduler tcp://host:8786 --parquet
    """
    from edge.score import ScoreOptions
    from edge.score_anywhere import score_anywhere
    from edge.setting import InspectorSetting

    setting = InspectorSetting(bundle, backend, precision, threads, classes_path)
    options = ScoreOptions(heatmaps, report, always_type, overwrite, since_last, parquet, jobs)
    summary = score_anywhere(
        setting, folder, out, options, scheduler, dask_workers, lambda todo: progress_with_rate(todo, "score")
    )
    click.echo(json.dumps(summary.to_document(), indent=2) if as_json else to_text(summary))
    ctx.exit(1 if summary.errors else 0)


def to_text(summary: ScoreSummary) -> str:
    """A few lines for the terminal."""
    document = summary.to_document()
    verdicts = f"{document['good']} good, {document['defect']} defect, {document['no_verdict']} without a verdict"
    lines = [f"{document['pictures']} files: {verdicts}; {document['scored_now']} of them scored now"]
    if document["defect_classes"]:
        lines.append("defects: " + ", ".join(f"{name} {n}" for name, n in document["defect_classes"].items()))
    if document["pictures_per_s"] is not None:
        jobs = "1 process" if document["jobs"] == 1 else f"{document['jobs']} processes"
        lines.append(f"{document['took_s']:.1f} s, {document['pictures_per_s']:g} pictures/s in {jobs}")
    if document["latency_p50_ms"] is not None:
        lines.append(f"ms a picture: p50 {document['latency_p50_ms']:.2f}, p95 {document['latency_p95_ms']:.2f}")
    return "\n".join([*lines, *document["files"]])
