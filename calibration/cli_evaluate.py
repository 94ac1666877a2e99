"""`oddkind evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.cli_options import bundle_argument, json_option, overwrite_option, progress, runtime_options
from edge.errors import UsageError


@click.command()
@bundle_argument
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--shots", default="1,2,5", show_default=True, help="Supports per class, one or several counts.")
@click.option("--draws", type=click.IntRange(1), default=20, show_default=True, help="Random support sets per count.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first draw.")
@click.option("--head", default="auto", show_default=True, help="One or several of the heads below, or all.")
@click.option(
    "--good", "good_dir", type=click.Path(path_type=Path), help="Good pictures, for --head paper to learn from."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for JSON, tables, CSV and confusion pictures.")
@overwrite_option
@runtime_options
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    bundle: Path,
    dataset_dir: Path,
    shots: str,
    head: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a bundle on labelled pictures: detection, and few-shot typing of defects.

    DATASET_DIR holds test/good and test/<type>, and may hold ground_truth/<type>/*_mask.png (the MVTec layout);
    or simply good and <type>. Ends with 1 if a picture could not be read.

    Heads compared on the same draws: auto (what the device does), relation (the same, with a learned head or an
    error), views (mean cosine of the views, what a learned head must beat), cosine (whole descriptors), ridge, lda, and
    paper (the published relation network on residual maps; needs torch and --good, and takes minutes).

    \b
    Example:
      oddkind evaluate bundles/tile data/magnetic-tile --head all --shots 1,2,5 --draws 20 --out results/tile
    """
    from calibration.evaluate import Options
    from calibration.evaluate import evaluate as run
    from calibration.evaluation_report import EVALUATION_FILE, to_document, to_text, write_report
    from edge.staging import refuse_taken

    chosen = Options(shots=parse_shots(shots), heads=parse_heads(head), **options)
    if out:
        refuse_taken(out, EVALUATION_FILE, overwrite)
    evaluation = run(bundle, dataset_dir, chosen, progress)
    if out:
        write_report(evaluation, out, overwrite)
    click.echo(json.dumps(to_document(evaluation), allow_nan=False) if as_json else to_text(evaluation))
    if evaluation.scored.left_out:
        ctx.exit(1)


def parse_shots(text: str) -> tuple[int, ...]:
    """`1,2,5` -> (1, 2, 5); UsageError for anything else."""
    counts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 10**6 for part in counts):
        raise UsageError(f"--shots {text!r}: expected whole numbers from 1, such as 1,2,5")
    return tuple(int(part) for part in counts)


def parse_heads(text: str) -> tuple[str, ...]:
    """`views,ridge` -> ("views", "ridge"); the names are checked by `evaluate`."""
    return tuple(part.strip() for part in text.split(","))
