"""Writes docs/cli.md from the commands' own help: python docs/make_cli.py (a test says when it is due)."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from edge.cli import main

Words = tuple[str, ...]
PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# Commands

*Made from the commands' help by `python docs/make_cli.py`.*

`oddkind COMMAND --help` says the same on the terminal. What a command finds goes to stdout, complaints and progress
bars to stderr, bars only on a terminal. Where there is `--json`, stdout is one JSON document.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed, or something could not be inspected; one line on stderr says what, and what to do |
| 2 | the command was given wrongly; nothing was done |

Nothing is left half-written: folders appear whole, files are replaced whole, records are whole lines.
"""


def page() -> str:
    """The whole of docs/cli.md."""
    return INTRODUCTION + "".join(section(path, command) for path, command in commands())


def commands(
    group: click.Group = main, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, such as (("classes", "list"), ...); groups before their members."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


def section(path: Words, command: click.Command) -> str:
    """Heading, description, usage and example, and a table of options."""
    prose, examples = split_help(command)
    usage = " ".join(["oddkind", *path, *command.collect_usage_pieces(click.Context(command))])
    lines = [f"\n{'#' * (1 + len(path))} oddkind {' '.join(path)}\n", f"`{usage}`\n", prose, ""]
    lines += ["```sh", *examples, "```", ""] if examples else []
    rows = [option_row(option) for option in command.params if isinstance(option, click.Option)]
    lines += ["| option | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def split_help(command: click.Command) -> tuple[str, list[str]]:
    """A docstring's paragraphs, filled to the page's width, and the lines of its example."""
    before, _, after = inspect.cleandoc(command.help or "").partition("Example:")
    paragraphs = [" ".join(p.split()) for p in before.replace("\b\n", "").split("\n\n")]
    prose = "\n\n".join(textwrap.fill(p, 118, break_on_hyphens=False, break_long_words=False) for p in paragraphs if p)
    return prose, [line.strip() for line in after.splitlines() if line.strip()]


def option_row(option: click.Option) -> str:
    """One line of the table: flags and value, help, default."""
    flags, text = option.get_help_record(click.Context(click.Command("any"))) or ("", "")
    flags, text = (part.replace("|", "\\|") for part in (flags, text))  # a bar would end the cell
    return f"| `{flags}` | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
