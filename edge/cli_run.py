"""`oddkind run`: the camera loop on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edge.cli_options import classes_option, runtime_options

if TYPE_CHECKING:
    from edge.station.file import Station


class OnePerLine(click.types.StringParamType):
    """Several values of an environment variable stand on a line each: the name of a folder may have spaces."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Lines that are not blank."""
        return [line for line in rv.splitlines() if line.strip()]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--station",
    "station_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A station file in place of BUNDLE and all other options, see `oddkind station`.",
)
@click.option(
    "--source",
    "sources",
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
    type=click.FloatRange(0.1, 86400.0),
    default=5.0,
    show_default=True,
    help="Seconds without a frame after which a camera is lost and opened again.",
)
@click.option("--wait-for-camera", is_flag=True, help="Keep trying when the camera is not there at the start.")
@runtime_options
@click.pass_context
def run(ctx: click.Context, /, station_path: Path | None, **flags: Any) -> None:
    """Inspect what a camera sees: one JSON line a frame.

    Live sources: the newest frame wins, what was dropped is counted, a lost camera is opened again. Files: every
    frame. Classes enrolled meanwhile are used from the next frame on. Ctrl-C or SIGTERM stops after a whole record.

    Several cameras share one inspector, which takes a frame of each in turn; `source` in a record says whose it is.
    One that ends, is lost or never opens is told of and the others go on.

    A station file says the same and more, such as limits beyond which a picture is frozen, dark or overexposed.

    \b
    Exit code: 0 done or stopped, 1 a camera failed for good, 2 wrong usage.
    Example:
      oddkind run bottle.bundle --source rtsp://camera/1 --out results.jsonl --annotated frames
      oddkind run bottle.bundle --source 0 --source 1 --max-frames 100
      oddkind run --station station.yaml
    """
    from edge.notify import say
    from edge.station.run import run_station

    station = _from_file(ctx, station_path) if station_path else _from_flags(ctx, **flags)
    if station.name:
        say(f"station {station.name}: {len(station.cameras)} camera{'s' if len(station.cameras) > 1 else ''}")
    summary = run_station(station, watch_faults=station_path is not None)
    say(str(summary))
    ctx.exit(1 if summary.failed else 0)


def _from_file(ctx: click.Context, path: Path) -> Station:
    """The station of a file, beside which no flag counts."""
    from edge.station.check import load_station

    given = [p for p in ctx.command.params if ctx.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE]
    others = [p.human_readable_name if isinstance(p, click.Argument) else p.opts[0] for p in given]
    others.remove("--station")
    if others:
        raise click.UsageError(f"--station says it all: leave out {', '.join(others)}, or put it into {path}", ctx)
    return load_station(path)


def _from_flags(
    ctx: click.Context,
    bundle: Path | None,
    sources: tuple[str, ...],
    classes_path: Path | None,
    out: str,
    database: Path | None,
    annotated: Path | None,
    keep_annotated: int,
    lost_after_s: float,
    wait_for_camera: bool,
    **options: Any,
) -> Station:
    """The same station that a file would describe."""
    from pydantic import ValidationError

    from edge.outputs.database_sink import DatabaseSettings
    from edge.outputs.record_files import RecordsOutput
    from edge.outputs.sinks import AnnotatedOutput
    from edge.outputs.station_outputs import Outputs
    from edge.station.file import CameraEntry, Runtime, Station

    if bundle is None:
        raise _missing(ctx, "bundle", "'BUNDLE'")
    if not sources:
        raise _missing(ctx, "sources")
    runtime = {name: options.pop(name) for name in ("backend", "precision", "threads")}
    try:
        pictures = AnnotatedOutput(folder=annotated, keep=keep_annotated) if annotated else None
        cameras = [CameraEntry(source=s, lost_after_s=lost_after_s, wait_for_camera=wait_for_camera) for s in sources]
        rows = DatabaseSettings(file=database) if database else None
        outputs = Outputs(records=RecordsOutput(file=Path(out), queue_records=0), annotated=pictures, database=rows)
        return Station(
            bundle=bundle,
            classes=classes_path,
            runtime=Runtime(**runtime),
            cameras=cameras,
            outputs=outputs,
            **options,
        )
    except ValidationError as exc:
        first = exc.errors()[0]
        raise click.UsageError(
            f"{'.'.join(map(str, first['loc']))}: {first.get('ctx', {}).get('error', first['msg'])}", ctx
        ) from exc


def _missing(ctx: click.Context, name: str, hint: str | None = None) -> click.MissingParameter:
    """What click says of a required parameter; these are required only where there is no station file."""
    return click.MissingParameter(ctx=ctx, param=next(p for p in ctx.command.params if p.name == name), param_hint=hint)
