"""`oddkind station`: the file that describes a station."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

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


F = TypeVar("F", bound=Callable[..., object])


def asking(command: F) -> F:
    """FILE of a running station, and how long its answer may take."""
    seconds = click.FloatRange(0.1, 60)
    waits = click.option("--timeout", "timeout_s", type=seconds, default=5.0, show_default=True, help="Seconds.")
    return click.argument("file", type=click.Path(path_type=Path))(waits(command))


@station.command()
@asking
@click.pass_context
def health(context: click.Context, file: Path, timeout_s: float) -> None:
    """Ask the running station of a file how it is: a line that says so, exit code 0 when it inspects, 1 when not.

    Asked is `outputs.http` of the file, so this works on the station's own machine.

    \b
    Example:
      oddkind station health station.yaml
    """
    from edge.station.ask import ask_health
    from edge.station.check import load_station

    answer = ask_health(load_station(file), timeout_s)
    click.echo(answer.words)
    context.exit(0 if answer.is_healthy else 1)


@station.command()
@asking
def arm(file: Path, timeout_s: float) -> None:
    """Have the running station inspect. Refused while master parts are to be shown.

    \b
    Example:
      oddkind station arm station.yaml
    """
    _ask(file, "arm", {}, timeout_s)


@station.command()
@asking
@click.option("--reason", help="What the page and the records of triggers say.")
def pause(file: Path, timeout_s: float, reason: str | None) -> None:
    """Have the running station inspect nothing until it is armed.

    \b
    Example:
      oddkind station pause station.yaml --reason cleaning
    """
    _ask(file, "pause", {"reason": reason}, timeout_s)


@station.command()
@asking
@click.option("--camera", help="One of several triggered cameras; all without it.")
@click.option("--part-id", help="What its record calls the part.")
def trigger(file: Path, timeout_s: float, camera: str | None, part_id: str | None) -> None:
    """Have the triggered cameras of the running station judge the part in view. Prints the number of the trigger.

    \b
    Example:
      oddkind station trigger station.yaml --part-id A-17
    """
    _ask(file, "trigger", {"camera": camera, "part_id": part_id}, timeout_s)


@station.command()
@asking
@click.argument("name")
def master(file: Path, name: str, timeout_s: float) -> None:
    """Tell the paused station that the master part NAME is in view; its next picture is judged as that.

    How it was judged stands on the live page, in the records (master_part) and in the messages of the station
    (journalctl -u oddkind), not in the answer of this command, which comes before the picture.

    \b
    Example:
      oddkind station master station.yaml good-1
    """
    _ask(file, "master", {"name": name}, timeout_s)


def _ask(file: Path, command: str, given: dict[str, str | None], timeout_s: float) -> None:
    from edge.station.ask import ask
    from edge.station.check import load_station

    click.echo(ask(load_station(file), command, {k: v for k, v in given.items() if v is not None}, timeout_s))
