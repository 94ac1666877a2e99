"""`oddkind calibrate`: good pictures and a model pack become a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli_options import json_option, overwrite_option, progress


@click.command()
@click.argument("good", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Model pack from `oddkind export`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder the bundle is written to.")
@click.option("--bank-rows", default=2000, show_default=True, help="Rows of the memory bank.")
@click.option("--false-reject-rate", default=0.01, show_default=True, help="Share of good parts that may be rejected.")
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "openvino"]),
    default="onnxruntime",
    show_default=True,
    help="Runtime to measure with, and the device's default.",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp32"]),
    default="int8",
    show_default=True,
    help="Graph to measure with, and the device's default.",
)
@click.option("--taps", help="Taps the memory bank searches, such as s8,s16.  [default: stride 8 and coarser]")
@click.option("--search", type=click.Choice(["hnsw", "exact"]), help="[default: the faster for this bank]")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed and pictures give the same bytes.",
)
@overwrite_option
@json_option
def calibrate(
    good: tuple[Path, ...],
    pack: Path,
    out: Path,
    bank_rows: int,
    false_reject_rate: float,
    backend: str,
    precision: str,
    taps: str | None,
    search: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Learn what is normal from folders of good pictures.

    \b
    Example:
      oddkind calibrate pictures/good --pack pack --out bundle
      oddkind calibrate boards/*/template --pack pack --out bundle
    """
    from calibration.calibrate import Options
    from calibration.calibrate import calibrate as build
    from edge.registry import load_stage

    options = Options(
        bank_rows=bank_rows,
        false_reject_rate=false_reject_rate,
        backend=backend,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        detection_taps=tuple(taps.split(",")) if taps else None,
        seed=seed,
        search=search,  # type: ignore[arg-type]
        overwrite=overwrite,
    )
    done = build(good[0], pack, out, load_stage("index_bank"), options, progress, more_good=good[1:])
    m = done.manifest
    for complaint in done.unreadable:
        click.echo(f"left out: {complaint}", err=True)
    if as_json:
        click.echo(m.model_dump_json(exclude={"files"}))
        return
    t, bank = m.thresholds, m.memory_bank
    index = bank.index
    click.echo(f"bundle      {out}  ({m.bundle_id})")
    click.echo(f"pictures    {m.good_pictures} good, {len(done.unreadable)} left out")
    click.echo(f"bank        {bank.rows} rows of {bank.search_dim}, searched by {bank.search}")
    worth = worth_of_threshold(t.false_reject_rate, t.promised_false_reject_rate, t.held_out_pictures)
    if index:
        click.echo(f"index       ef {index.ef}, recall@1 {index.recall_good:.4f} good, {index.recall_pseudo:.4f} odd")
    click.echo(f"threshold   {t.image_threshold:.4f}, from {t.held_out_pictures} pictures ({t.method})")
    click.echo(f"worth       {worth}")
    click.echo(f"memory      peak {done.peak_rss_mb:.0f} MB, coreset pool at most {done.coreset_pool_rows} rows")


def worth_of_threshold(asked: float, promised: float, pictures: int) -> str:
    """In words, what false-reject rate so many good pictures can vouch for."""
    if promised <= asked:
        return f"at most {promised:.2%} of good parts rejected on average (asked: {asked:.2%})"
    needed = round(1 / asked) - 1
    return (
        f"{pictures} pictures vouch for {promised:.1%} of good parts rejected, not for {asked:.2%}; "
        f"the threshold is extrapolated: add good pictures, {needed} held out are enough"
    )
