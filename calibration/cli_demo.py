"""`oddkind demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder for all of it.")
@click.option("--good", type=click.Path(path_type=Path), metavar="DIR", help="Your good pictures, with --defects.")
@click.option(
    "--defects",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Your defects, one subfolder a type; the test folder of an MVTec layout will do.",
)
@click.option("--pack", type=click.Path(path_type=Path), help="Use this model pack instead of exporting one.")
@click.option("--quick", is_flag=True, help="Fewer pictures and a shorter training, to see that everything works.")
def demo(out: Path, good: Path | None, defects: Path | None, pack: Path | None, quick: bool) -> None:
    """See the whole path work: every command once, on a rendered product line or on your own pictures.

    Renders good and bad parts, exports a pack, pre-trains, calibrates, enrols two pictures of each kind of
    defect, inspects a film and a folder, and measures itself. An earlier demo at --out is replaced.

    \b
    Example:
      oddkind demo
      oddkind demo --out tile-demo --good tile/train/good --defects tile/test
    """
    from calibration.demo import Demo, run_demo

    run_demo(Demo(out, good, defects, pack, quick), click.echo)
