"""`oddkind station`: the file that describes a station."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def station() -> None:
    """Describe a station in one file: cameras, bundle, outputs.

    \b
    Example:
      oddkind station init station.yaml
      oddkind station check station.yaml
    """


@station.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say everything that is wrong with a station file, or what it will do.

    Keys, types, ranges, combinations, and whether bundle, classes and sources are there; nothing is opened or written.
    Each problem is a line `FILE:LINE: key: what is wrong`. Exit code 1 when there is one.

    \b
    Example:
      oddkind station check station.yaml
    """
    from edge.errors import StationError
    from edge.station.check import check_station
    from edge.station.summary import summary

    checked = check_station(file)
    for line in checked.lines():
        click.echo(line)
    if checked.station is None:
        count = len(checked.problems)
        raise StationError(f"{file}: {count} problem{'s' if count > 1 else ''}")
    click.echo(f"{file}: nothing wrong\n{summary(checked.station)}")


@station.command()
@click.argument("file", type=click.Path(path_type=Path), default="station.yaml")
def init(file: Path) -> None:
    """Write a commented example; FILE is station.yaml unless you say otherwise, and never overwritten.

    \b
    Example:
      oddkind station init
      oddkind station init press-3.yaml
    """
    from edge.station.example import write_example

    write_example(file)
    click.echo(f"{file} written; set bundle and source in it, then: oddkind station check {file}")


@station.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, help="Seconds.")
@click.pass_context
def health(context: click.Context, file: Path, timeout_s: float) -> None:
    """Ask the running station of a file how it is: a line that says so, exit code 0 when it inspects, 1 when not.

    Asked is `outputs.http` of the file, so this works on the station's own machine.

    \b
    Example:
      oddkind station health station.yaml
    """
    from edge.station.ask_health import ask_health
    from edge.station.check import load_station

    answer = ask_health(load_station(file), timeout_s)
    click.echo(answer.words)
    context.exit(0 if answer.is_healthy else 1)
