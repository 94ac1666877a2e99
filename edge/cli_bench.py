"""`oddkind bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_options import bundle_argument, json_option, progress, runtime_options
from edge.errors import UsageError

if TYPE_CHECKING:
    from edge.bench_cameras import CamerasReport
    from edge.bench_soak import SoakReport


@click.command()
@bundle_argument
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Inspect this picture; with --soak or --cameras also a folder of some.  [default: a generated frame]",
)
@click.option("--frame-size", default="1280x720", show_default=True, help="Size of the generated frame.")
@click.option("--frames", type=click.IntRange(1), default=100, show_default=True, help="Timed frames per runtime.")
@click.option("--soak", "soak_frames", type=click.IntRange(1), help="Inspect so many frames: does memory grow?")
@click.option("--cameras", type=click.IntRange(1), help="Throughput with so many cameras against one camera's.")
@runtime_options
@json_option
def bench(
    bundle: Path,
    picture: Path | None,
    frame_size: str,
    frames: int,
    soak_frames: int | None,
    cameras: int | None,
    as_json: bool,
    **runtime: Any,
) -> None:
    """Measure a bundle on this machine: latency per stage and runtime, memory, start-up, size.

    Every installed runtime is timed with INT8 and FP32, with one thread and with all, each in a process of its
    own. A part is timed twice, once treated as good and once as rejected and typed, whatever it shows.

    --soak and --cameras measure something else instead, with one runtime: --backend, --precision and --threads are
    theirs. --soak samples resident memory and gives its slope; --cameras feeds one inspector from several folders of
    --frames frames.

    \b
    Example:
      oddkind bench bundles/tile --picture good/0001.png
      oddkind bench bundles/tile --picture good --soak 100000
      oddkind bench bundles/tile --picture good --cameras 2 --frames 500
    """
    if soak_frames is not None or cameras is not None:
        report = _with_one_runtime(bundle, picture, parse_frame_size(frame_size), frames, soak_frames, cameras, runtime)
        click.echo(json.dumps(report.to_document(), allow_nan=False) if as_json else report.to_text())
        return
    _refuse_runtime(runtime)
    from edge.bench import Options
    from edge.bench import bench as run
    from edge.bench_report import to_text

    table = run(bundle, Options(frames, picture, parse_frame_size(frame_size)), progress)
    click.echo(json.dumps(table.to_document(), allow_nan=False) if as_json else to_text(table))


def _with_one_runtime(
    bundle: Path,
    picture: Path | None,
    frame_wh: tuple[int, int],
    frames: int,
    soak_frames: int | None,
    cameras: int | None,
    runtime: dict[str, Any],
) -> SoakReport | CamerasReport:
    from edge.bench_cameras import compare_cameras
    from edge.bench_pictures import few_pictures
    from edge.bench_soak import soak
    from edge.inspector import Inspector

    if soak_frames is not None and cameras is not None:
        raise UsageError("--soak and --cameras are two measurements; give one of them")
    pictures = few_pictures(picture, frame_wh)
    inspector = Inspector.load(bundle, **runtime)
    if soak_frames is not None:
        return soak(inspector, pictures, soak_frames)
    assert cameras is not None
    return compare_cameras(inspector, pictures, cameras, frames)


def _refuse_runtime(runtime: dict[str, Any]) -> None:
    """The table times every runtime there is; a choice that changes nothing would mislead."""
    if runtime["backend"] or runtime["precision"] or runtime["threads"] != 1:
        raise UsageError(
            "--backend, --precision and --threads go with --soak or --cameras; the table has every runtime"
        )


def parse_frame_size(text: str) -> tuple[int, int]:
    """`1280x720` -> (1280, 720); UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.strip().lower())
    if not match:
        raise UsageError(f"--frame-size {text!r}: expected width x height in pixels, such as 1280x720")
    return int(match[1]), int(match[2])
