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
@click.option("--shots", help="Supports per class, one or several counts.  [default: 1,2,5, of boxes 1,2,5,10]")
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
    shots: str | None,
    head: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a bundle on labelled pictures: detection, and few-shot typing of defects.

    DATASET_DIR holds test/good and test/<type>, and may hold ground_truth/<type>/*_mask.png (the MVTec layout);
    or simply good and <type>. Ends with 1 if a picture could not be read.

    With several defects a picture it holds test/NAME_test.jpg and boxes/NAME.csv (x1,y1,x2,y2,type in pixels), or
    folders of that kind. Then supports are boxes, and regions are counted that lie on a true box of their name.

    Heads compared on the same draws: auto (what the device does, supports looked at from several sides), relation (the
    same, with a learned head or an error), relation-once (the learned head, supports looked at once like queries, as in
    all that follow), views (mean cosine of the views, what a learned head must beat), cosine (whole descriptors),
    ridge, lda, and paper (the published relation network on residual maps; needs torch and --good, takes minutes).

    \b
    Example:
      oddkind evaluate bundles/tile data/magnetic-tile --head all --shots 1,2,5 --draws 20 --out results/tile
    """
    from calibration.evaluate import Options
    from calibration.measure import default_shots, measure

    shot_counts = parse_shots(shots) if shots else default_shots(dataset_dir)
    chosen = Options(shots=shot_counts, heads=parse_heads(head), **options)
    measured = measure(bundle, dataset_dir, chosen, out, overwrite, progress)
    click.echo(json.dumps(measured.document, allow_nan=False) if as_json else measured.text)
    if measured.left_out:
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
