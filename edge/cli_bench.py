"""`oddkind bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from edge.cli_options import bundle_argument, json_option, progress
from edge.errors import UsageError


@click.command()
@bundle_argument
@click.option("--picture", type=click.Path(path_type=Path), help="Inspect this picture.  [default: a generated frame]")
@click.option("--frame-size", default="1280x720", show_default=True, help="Size of the generated frame.")
@click.option("--frames", type=click.IntRange(1), default=100, show_default=True, help="Timed frames per runtime.")
@json_option
def bench(bundle: Path, picture: Path | None, frame_size: str, frames: int, as_json: bool) -> None:
    """Measure a bundle on this machine: latency per stage and runtime, memory, start-up, size.

    Every installed runtime is timed with INT8 and FP32, with one thread and with all, each in a process of its
    own. A part is timed twice, once treated as good and once as rejected and typed, whatever it shows.

    \b
    Example:
      oddkind bench bundles/tile --picture good/0001.png
    """
    from edge.bench import Options
    from edge.bench import bench as run
    from edge.bench_report import to_text

    report = run(bundle, Options(frames, picture, parse_frame_size(frame_size)), progress)
    click.echo(json.dumps(report.to_document(), allow_nan=False) if as_json else to_text(report))


def parse_frame_size(text: str) -> tuple[int, int]:
    """`1280x720` -> (1280, 720); UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.strip().lower())
    if not match:
        raise UsageError(f"--frame-size {text!r}: expected width x height in pixels, such as 1280x720")
    return int(match[1]), int(match[2])
