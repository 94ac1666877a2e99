"""`oddkind calibrate`: good pictures and a model pack become a bundle, or make a bundle better."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edge.cli_options import json_option, overwrite_option, parse_box, progress
from edge.errors import UsageError
from edge.manifest import Search

if TYPE_CHECKING:
    from calibration.calibrate import Options
    from calibration.tune import Tuning


@click.command()
@click.argument("good", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--pack",
    "packs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Model pack from `oddkind export`; not with --add. Several with --tune.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder the bundle is written to.")
@click.option("--add", is_flag=True, help="Add GOOD, pictures or folders of them, to the bundle at --out.")
@click.option("--even-far", is_flag=True, help="With --add: also pictures that score like defects.")
@click.option("--tune", is_flag=True, help="Choose taps, score and pack for this product; takes minutes.")
@click.option("--budget-ms", type=click.FloatRange(0, min_open=True), help="With --tune: what a frame may take here.")
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
@click.option("--tile", "tile_px", type=click.IntRange(32), help="Inspect large pictures in squares of so many pixels.")
@click.option("--overlap", "overlap_px", type=click.IntRange(0), help="Pixels that tiles share.  [default: a quarter]")
@click.option("--aligned", is_flag=True, help="With --tile: parts always lie at the same place; each has its own bank.")
@click.option("--roi", metavar="X,Y,W,H", help="Inspect only this rectangle of every frame, in pixels.")
@click.option("--mask", type=click.Path(path_type=Path), help="Picture of a frame's size; black in it is ignored.")
@click.option("--search", type=click.Choice(get_args(Search)), help="[default: the fastest, measured on this bank]")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed and pictures give the same bytes.",
)
@overwrite_option
@json_option
@click.pass_context
def calibrate(
    ctx: click.Context,
    good: tuple[Path, ...],
    packs: tuple[Path, ...],
    out: Path,
    add: bool,
    even_far: bool,
    tune: bool,
    budget_ms: float | None,
    bank_rows: int,
    false_reject_rate: float,
    backend: str,
    precision: str,
    taps: str | None,
    tile_px: int | None,
    overlap_px: int | None,
    aligned: bool,
    roi: str | None,
    mask: Path | None,
    search: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Learn what is normal from folders of good pictures.

    With --add a bundle learns more good pictures, such as parts that it rejected by mistake, without those it was
    made from. Its thresholds stay, and so do enrolled classes.

    With --tune recipes are compared by how well held-out good pictures separate from marks painted on them, and one
    that is surely better than the default replaces it. No defect picture is needed.

    With --tile a picture is inspected in overlapping squares, each at the resolution of the backbone, and judged as
    one: for pictures far larger than the backbone's input with defects of some pixels. --roi and --mask say what of a
    frame is inspected at all: white in the mask is, black is not. All three are kept in the bundle.

    With --aligned, for parts that always lie at the same place in the frame, a tile is compared only with what was
    seen near its place: what is good elsewhere on the part is odd there. The bank then has --bank-rows for each part
    of the frame as large as a tile, and frames must have the size of the good pictures.

    \b
    Example:
      oddkind calibrate pictures/good --pack pack --out bundle
      oddkind calibrate boards --pack pack --out bundle --tile 512 --mask look-here.png
      oddkind calibrate boards --pack pack --out bundle --tile 256 --aligned
      oddkind calibrate boards/*/template --pack pack --out bundle
      oddkind calibrate pictures/good --tune --budget-ms 10 --pack pack256 --pack pack384 --out bundle
      oddkind calibrate --add rejected/good-1.png rejected/good-2.png --out bundle
    """
    if add:
        refuse_with_add(ctx)
        add_to_bundle(good, out, even_far, as_json)
        return
    refuse_what_does_not_go_together(packs, even_far, tune, budget_ms, taps)
    if tune and (tile_px or roi or mask or aligned):
        raise UsageError("--tune compares whole pictures; leave --tile, --aligned, --roi and --mask out")
    from calibration.calibrate import Options
    from calibration.calibrate import calibrate as build
    from calibration.pieces import ViewOptions
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
        view=ViewOptions(tile_px, overlap_px, parse_box(roi, "--roi") if roi else None, mask, aligned),
    )
    pack = packs[0]
    if tune:
        options, pack = tuned(good, packs, out, options, budget_ms)
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
    of_places = f", {bank.rows_a_place} a place" if bank.rows_a_place else ""
    click.echo(f"bank        {bank.rows} rows of {bank.search_dim}{of_places}, searched by {bank.search}")
    worth = worth_of_threshold(t.false_reject_rate, t.promised_false_reject_rate, t.held_out_pictures)
    if index:
        click.echo(f"index       ef {index.ef}, recall@1 {index.recall_good:.4f} good, {index.recall_pseudo:.4f} odd")
    if projection := bank.projection:
        columns = f"{projection.dims} of {bank.search_dim} columns"
        click.echo(f"projection  {columns}, {projection.excess:.2%} farther than the nearest row")
    if lists := bank.lists:
        click.echo(
            f"lists       {lists.probes} of {lists.lists} a patch, {lists.excess:.2%} farther than the nearest row"
        )
    click.echo(f"threshold   {t.image_threshold:.4f}, from {t.held_out_pictures} pictures ({t.method})")
    click.echo(f"worth       {worth}")
    click.echo(f"memory      peak {done.peak_rss_mb:.0f} MB, coreset pool at most {done.coreset_pool_rows} rows")


def refuse_what_does_not_go_together(
    packs: tuple[Path, ...], even_far: bool, tune: bool, budget_ms: float | None, taps: str | None
) -> None:
    """UsageError for options that need another one, or exclude it."""
    if not packs:
        raise UsageError("--pack PACK is missing; make one with 'oddkind export'")
    if even_far:
        raise UsageError("--even-far goes with --add")
    if not tune and (len(packs) > 1 or budget_ms is not None):
        raise UsageError("several --pack and --budget-ms go with --tune")
    if tune and taps:
        raise UsageError("--tune chooses the taps; leave --taps out")


def tuned(
    good: tuple[Path, ...], packs: tuple[Path, ...], out: Path, options: Options, budget_ms: float | None
) -> tuple[Options, Path]:
    """Compare recipes, show what was found, and answer with the chosen one's options and pack."""
    from calibration.tune import tune
    from edge.inspector import limit_threads
    from edge.manifest import MANIFEST_NAME
    from edge.staging import refuse_taken

    options.check()
    refuse_taken(out, MANIFEST_NAME, options.overwrite)  # before minutes of tuning, not after
    limit_threads(1)
    tuning = tune(good[0], packs, options, budget_ms, good[1:], progress)
    click.echo(tuning_table(tuning), err=True)
    chosen = tuning.chosen.trial
    document = json.dumps(tuning.to_document(), indent=1) + "\n"
    return replace(options, recipe=chosen.recipe, tuning_document=document), chosen.pack


def tuning_table(tuning: Tuning) -> str:
    """Every recipe, one a line, and which was chosen and why."""
    from edge.text_table import aligned

    rows = [
        [
            result.trial.name,
            result.trial.pack.name,
            f"{result.auroc:.4f}",
            "" if result is tuning.results[0] else f"{result.gain:+.4f} +- {result.gain_error:.4f}",
            f"{result.marks_found:.1%}",
            f"{result.frame_ms:.1f}" + ("" if tuning.is_affordable(result) else " over budget"),
        ]
        for result in tuning.results
    ]
    head = ["recipe", "pack", "AUROC", "over the default", "marks found", "frame ms"]
    chosen = tuning.chosen
    why = "surely better than the default" if chosen is not tuning.results[0] else "nothing is surely better"
    if chosen.gain <= 0 and chosen is not tuning.results[0]:
        why = "the best within the budget, which the default is not"
    return (
        "painted marks against held-out good pictures\n"
        + aligned([head, *rows])
        + f"\nchosen      {chosen.trial.name} on {chosen.trial.pack.name}: {why}\n"
    )


def refuse_with_add(ctx: click.Context) -> None:
    """UsageError for an option that a bundle which exists has settled."""
    mine = ("good", "out", "add", "even_far", "as_json")
    for option in ctx.command.params:
        name = option.name or ""
        if name not in mine and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{option.opts[0]} cannot go with --add: the bundle at --out has settled it")


def add_to_bundle(good: tuple[Path, ...], bundle: Path, even_far: bool, as_json: bool) -> None:
    """`oddkind calibrate --add`."""
    from calibration.add_good import FAR, add_good
    from edge.registry import load_stage

    done = add_good(good, bundle, load_stage("index_bank"), even_far, progress)
    m, limit = done.manifest, done.manifest.thresholds.image_threshold
    for complaint in done.unreadable:
        click.echo(f"left out: {complaint}", err=True)
    for picture in done.far:
        click.echo(
            f"left out: {picture.source} scores {picture.score_before:.2f}, over {FAR:g} times the threshold "
            f"{limit:.2f}: is it a defect? if it is good, add it with --even-far",
            err=True,
        )
    if as_json:
        click.echo(json.dumps({**asdict(done), "manifest": m.model_dump(mode="json", exclude={"files"})}))
        return
    click.echo(f"bundle      {bundle}  ({m.bundle_id}){'' if done.added else ', unchanged'}")
    click.echo(f"pictures    {len(done.added)} added, {done.known} known already, {len(done.far)} left out as too odd")
    click.echo(f"bank        {done.rows_before} rows before, {m.memory_bank.rows} now")
    click.echo(f"threshold   {limit:.4f}, as before")
    click.echo(f"rejected    {done.rejected_before} of the added before, {done.rejected_after} now")
    if done.full:
        click.echo("full        the bank may only double; calibrate again with all good pictures", err=True)


def worth_of_threshold(asked: float, promised: float, pictures: int) -> str:
    """In words, what false-reject rate so many good pictures can vouch for."""
    if promised <= asked:
        return f"at most {promised:.2%} of good parts rejected on average (asked: {asked:.2%})"
    needed = round(1 / asked) - 1
    return (
        f"{pictures} pictures vouch for {promised:.1%} of good parts rejected, not for {asked:.2%}; "
        f"the threshold is extrapolated: add good pictures, {needed} held out are enough"
    )
