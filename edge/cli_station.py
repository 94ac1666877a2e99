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
