"""`oddkind run`: the camera loop on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edge.cli_options import bundle_argument, classes_option, runtime_options


class OnePerLine(click.types.StringParamType):
    """Several values of an environment variable stand on a line each: the name of a folder may have spaces."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Lines that are not blank."""
        return [line for line in rv.splitlines() if line.strip()]


@click.command()
@bundle_argument
@click.option(
    "--source",
    "sources",
    required=True,
    multiple=True,
    type=OnePerLine(),
    envvar="ODDKIND_SOURCE",
    help="Camera number, /dev/videoN, rtsp:// or http:// (MJPEG) address, video file, picture or folder of pictures; "
    "once for each camera. Or in ODDKIND_SOURCE, one a line, which keeps a password off the process list.",
)
@classes_option
@click.option("--out", default="-", show_default=True, metavar="FILE|-", help="Append records here; -: stdout.")
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="SQLite file that gets a row for every inspection; created when absent.",
)
@click.option("--annotated", type=click.Path(path_type=Path), metavar="DIR", help="Frames with their verdict drawn.")
@click.option("--keep-annotated", type=click.IntRange(1), default=1000, show_default=True, help="Newest N stay.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many records.")
@click.option("--always-type", is_flag=True, help="Name the strangest region of good frames too.")
@click.option(
    "--lost-after",
    "lost_after_s",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    help="Seconds without a frame after which a camera is lost and opened again.",
)
@click.option("--wait-for-camera", is_flag=True, help="Keep trying when the camera is not there at the start.")
@runtime_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    bundle: Path,
    sources: tuple[str, ...],
    classes_path: Path | None,
    out: str,
    database: Path | None,
    **options: Any,
) -> None:
    """Inspect what a camera sees: one JSON line a frame.

    Live sources: the newest frame wins, what was dropped is counted, a lost camera is opened again. Files: every
    frame. Classes enrolled meanwhile are used from the next frame on. Ctrl-C or SIGTERM stops after a whole record.

    Several cameras share one inspector, which takes a frame of each in turn; `source` in a record says whose it is.
    One that ends, is lost or never opens is told of and the others go on.

    \b
    Exit code: 0 done or stopped, 1 a camera failed for good, 2 wrong usage.
    Example:
      oddkind run bottle.bundle --source rtsp://camera/1 --out results.jsonl --annotated frames
      oddkind run bottle.bundle --source 0 --source 1 --max-frames 100
    """
    from edge.notify import say
    from edge.station import Station, run_station

    station = Station(bundle, sources, classes_path, None if out == "-" else Path(out), **options)
    if database:
        from edge.database_sink import DatabaseSettings

        station = replace(station, database=DatabaseSettings(file=database))
    summary = run_station(station)
    say(str(summary))
    ctx.exit(1 if summary.failed else 0)
