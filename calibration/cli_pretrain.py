"""`oddkind pretrain` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_options import json_option, progress

if TYPE_CHECKING:
    from calibration.pretrain import Pretraining


@click.command()
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Model pack that gets the relation head.")
@click.option(
    "--good",
    "good_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of good pictures of one product; repeat it for more products.  [default: rendered products]",
)
@click.option(
    "--textures", type=click.Path(path_type=Path), help="Folder of textures, such as DTD.  [default: generated]"
)
@click.option("--classes", type=int, default=96, show_default=True, help="Pseudo-defect classes to draw.")
@click.option("--episodes", type=int, default=1600, show_default=True, help="Few-shot tasks to train on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of pseudo-defects and episodes.")
@json_option
def pretrain(pack: Path, good_dirs: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Teach a pack to compare defects, from good pictures alone.

    Paints pseudo-defects on good pictures, trains a relation head on few-shot tasks made of them and writes it into
    the pack. The head is kept only if it names pseudo-defects it has never seen better than the plain cosine does.
    Without --good it learns from rendered products and serves every product alike. Bundles calibrated afterwards use
    it. Needs torch; minutes on a CPU.

    \b
    Example:
      oddkind pretrain --pack lite0.pack
      oddkind pretrain --pack lite0.pack --good bottle/good --good tile/good --textures dtd/images
    """
    from calibration.pretrain import Options
    from calibration.pretrain import pretrain as run_pretrain
    from edge.registry import load_stage

    result = run_pretrain(pack, good_dirs, load_stage("export_head"), Options(**options), progress)
    click.echo(json.dumps(_facts(result)) if as_json else _summary(pack, result))


def _facts(result: Pretraining) -> dict[str, Any]:
    head = result.manifest.relation_head
    return {
        "pack_id": result.manifest.pack_id,
        "written": result.written,
        "products": result.products,
        "pictures": result.pictures,
        "unreadable": result.unreadable,
        "pseudo_defects": result.regions,
        "missed": result.missed,
        "held_out_accuracy": {
            "cosine": round(result.accuracy.cosine, 4),
            "head": round(result.accuracy.head, 4),
        },
        "parity": head.parity if result.written and head else None,
    }


def _summary(pack: Path, result: Pretraining) -> str:
    accuracy = result.accuracy
    lines = [
        f"{result.regions} pseudo-defects on {result.pictures} good pictures of {', '.join(result.products)}; "
        f"{result.missed} more did not show",
        f"two-shot accuracy on held-out pseudo-defects: cosine {accuracy.cosine:.1%}, head {accuracy.head:.1%}",
    ]
    if result.unreadable:
        lines.append(f"{len(result.unreadable)} unreadable pictures left out, such as {result.unreadable[0]}")
    if result.written and result.manifest.relation_head:
        worst = max(result.manifest.relation_head.parity.values())
        lines.append(
            f"relation head written to {pack}, pack {result.manifest.pack_id}; scores within {worst:.2g} of torch"
        )
    else:
        lines.append(f"no better than the cosine alone: {pack} is as it was; try more --classes or more pictures")
    return "\n".join(lines)
