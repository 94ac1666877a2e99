"""The `oddkind` command: parse, call one function, print. Subcommands load when they are called."""

from __future__ import annotations

import sys
from typing import Any

import click

from edge.errors import OddkindError
from edge.registry import COMMANDS, load


class LazyGroup(click.Group):
    """A click group whose commands are imported only when they, or their help, are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None when there is no such command."""
        target = COMMANDS.get(cmd_name)
        command: click.Command | None = load(target) if target else None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our own errors become one line and their exit code."""
        try:
            return super().invoke(ctx)
        except OddkindError as exc:
            click.echo(f"oddkind: {exc}", err=True)
            ctx.exit(exc.exit_code)
        except BrokenPipeError:  # the reader of our output has gone: `oddkind run ... | head`
            sys.stderr.close()
            ctx.exit(0)
        except OSError as exc:  # a full disk, a permission, a file where a folder should be
            where = f"{exc.filename}: " if exc.filename else ""
            click.echo(
                f"oddkind: {where}{exc.strerror or exc}; choose another path, or free space and rights", err=True
            )
            ctx.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="oddkind")
def main() -> None:
    """Find the odd part and name its kind.

    \b
    On the workstation:  export, pretrain, evaluate
    On either:           calibrate
    On the device:       enrol, classes, score, run, station, bench
    See it work:         oddkind demo
    """


if __name__ == "__main__":
    main()
