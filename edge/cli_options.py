"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click

from edge.errors import UsageError

Item = TypeVar("Item")

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an earlier result at --out.")
classes_option = click.option(
    "--classes",
    "classes_path",
    type=click.Path(path_type=Path),
    help="File of enrolled classes.  [default: classes.npz in the bundle]",
)


def runtime_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--backend, --precision and --threads."""
    own = "[default: the one calibrated with]"
    options: list[Callable[..., Any]] = [
        click.option("--threads", type=click.IntRange(0), default=1, show_default=True, help="0: every core."),
        click.option("--precision", type=click.Choice(["int8", "fp32"]), help=own),
        click.option(
            "--backend",
            type=click.Choice(["onnxruntime", "openvino", "auto"]),
            help=f"auto: the fastest here that agrees with the calibrated one.  {own}",
        ),
    ]
    for option in options:
        command = option(command)
    return command


def progress(items: Iterable[Item], label: str, length: int | None = None) -> Iterator[Item]:
    """Show a bar on stderr while iterating, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, length=length, label=label, file=sys.stderr) as bar:
        yield from bar


def parse_box(text: str, option: str) -> tuple[int, int, int, int]:
    """`x,y,w,h` -> box_xyxy."""
    try:
        x, y, w, h = (int(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"{option} {text!r}: expected four whole numbers x,y,w,h") from exc
    return x, y, x + w, y + h


def progress_with_rate(items: Sequence[Item], label: str, unit: str = "pictures") -> Iterator[Item]:
    """The same with the number done a second."""
    if not sys.stderr.isatty():
        yield from items
        return
    started_s, done = monotonic(), 0

    def rate(item: Item | None) -> str:
        return f"{done / max(monotonic() - started_s, 1e-3):.1f} {unit}/s"

    with click.progressbar(items, label=label, file=sys.stderr, item_show_func=rate) as bar:
        for item in bar:
            yield item
            done += 1
