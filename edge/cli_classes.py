"""`oddkind enrol` and `oddkind classes`: defect classes on the device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli_options import bundle_argument, classes_option, json_option, parse_box, runtime_options

if TYPE_CHECKING:
    from edge.class_store import ClassStore
    from edge.enrol import ClassQuality, Teaching
    from edge.manifest import BackendName, Precision


@click.command()
@bundle_argument
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--box", help="x,y,w,h of the defect in pixels, for a single picture.  [default: the strongest region]")
@click.option("--force", is_flag=True, help="Teach a picture that was passed as good, by its strangest place.")
@classes_option
@runtime_options
@json_option
def enrol(
    bundle: Path,
    name: str,
    images: tuple[Path, ...],
    box: str | None,
    force: bool,
    classes_path: Path | None,
    backend: BackendName | None,
    precision: Precision | None,
    threads: int,
    as_json: bool,
) -> None:
    """Teach a new defect class from one or more pictures; two are a good start.

    A defect that was passed as good can be taught too: say where it is with --box. Parts that look like it are
    rejected from then on.

    \b
    Example:
      oddkind enrol bundle scratch scratch-1.png scratch-2.png
      oddkind enrol bundle dent missed.png --box 120,40,60,60
    """
    from edge.enrol import enrol as add_class
    from edge.inspector import Inspector

    box_xyxy = parse_box(box, "--box") if box else None
    inspector = Inspector.load(bundle, backend, precision, threads, classes_path)
    quality = add_class(inspector, name, images, box_xyxy, force)
    if as_json:
        click.echo(json.dumps({**asdict(quality), "confused": quality.confused}))
    else:
        click.echo(f"enrolled {len(images)} picture(s) as {name!r}, {len(quality.supports)} in all")
        for teaching in quality.taught:
            click.echo(f"  {teaching_in_words(teaching)}")
        _print_quality(quality)


@click.group()
def classes() -> None:
    """Look at, rename and remove enrolled defect classes.

    \b
    Example:
      oddkind classes list bundle
    """


@classes.command("list")
@bundle_argument
@classes_option
@json_option
def list_classes(bundle: Path, classes_path: Path | None, as_json: bool) -> None:
    """List the enrolled classes with their number of supports.

    \b
    Example:
      oddkind classes list bundle
    """
    store = _read(bundle, classes_path)
    counts = {name: sum(s.defect_class == name for s in store.supports) for name in store.names}
    if as_json:
        click.echo(json.dumps(counts))
    elif not counts:
        click.echo("no class is enrolled; start with 'oddkind enrol BUNDLE NAME IMAGE...'")
    for name, count in [] if as_json else counts.items():
        click.echo(f"{name:24s} {count} support(s)")


@classes.command("show")
@bundle_argument
@click.argument("name")
@classes_option
@json_option
def show_class(bundle: Path, name: str, classes_path: Path | None, as_json: bool) -> None:
    """Show the supports of one class and how well they hold together.

    \b
    Example:
      oddkind classes show bundle scratch
    """
    from edge.class_store import read_class_store, supports_of
    from edge.enrol import class_quality
    from edge.inspector import Inspector

    inspector = Inspector.load(bundle, classes_path=classes_path)
    store = read_class_store(inspector.classes_path, inspector.manifest.bundle_id, len(inspector.centre))
    quality = class_quality(inspector, store, name)
    supports = list(supports_of(store, name))
    if as_json:
        click.echo(json.dumps({**asdict(quality), "enrolled": [asdict(s) for s in supports]}))
        return
    for row, support in enumerate(store.supports):
        if support.defect_class != name:
            continue
        box = ",".join(str(v) for v in support.box_xyxy)
        patches = len(store.taught.keeping([row]))
        taught = f"  taught {patches} patches" if patches else ""
        score = f"anomaly score {support.anomaly_score:.3f}"
        click.echo(f"{support.source}  box {box}  {score}  {support.enrolled_at}{taught}")
    _print_quality(quality)


@classes.command("rename")
@bundle_argument
@click.argument("old")
@click.argument("new")
@classes_option
def rename_class(bundle: Path, old: str, new: str, classes_path: Path | None) -> None:
    """Rename a class.

    \b
    Example:
      oddkind classes rename bundle scratch deep-scratch
    """
    from edge.bundle import Bundle
    from edge.class_store import update_class_store

    opened = Bundle.open(bundle)
    update_class_store(
        classes_path or opened.classes_path,
        opened.manifest.bundle_id,
        opened.manifest.typing.descriptor_dim,
        lambda store: store.renamed(old, new),
    )
    click.echo(f"{old!r} is now {new!r}")


@classes.command("remove")
@bundle_argument
@click.argument("name")
@click.option("--picture", help="Remove only the support from this picture, as `classes show` names it.")
@classes_option
def remove_class(bundle: Path, name: str, picture: str | None, classes_path: Path | None) -> None:
    """Remove a class and its supports, or one support of it; what they taught goes with them.

    \b
    Example:
      oddkind classes remove bundle scratch
      oddkind classes remove bundle scratch --picture scratch-2.png
    """
    from edge.bundle import Bundle
    from edge.class_store import update_class_store

    opened = Bundle.open(bundle)
    update_class_store(
        classes_path or opened.classes_path,
        opened.manifest.bundle_id,
        opened.manifest.typing.descriptor_dim,
        lambda store: store.without(name, picture),
    )
    click.echo(f"{name!r} removed" if picture is None else f"{picture} removed from {name!r}")


def _read(bundle: Path, classes_path: Path | None) -> ClassStore:
    from edge.bundle import Bundle
    from edge.class_store import read_class_store

    opened = Bundle.open(bundle)
    m = opened.manifest
    return read_class_store(classes_path or opened.classes_path, m.bundle_id, m.typing.descriptor_dim)


def teaching_in_words(teaching: Teaching) -> str:
    """One line: how it scored, and how it scores now."""
    t = teaching
    rejected = "rejected" if t.what == "picture" else "marked"
    was = "passed as good" if t.what == "picture" else "the box was not marked"
    before = f"{t.source}: {was} at {t.score_before:.2f} <= {t.threshold:.2f}; "
    if t.patches:
        return before + f"taught: now {t.score_after:.2f}, {rejected}"
    return before + "cannot be taught: what is there looks like good parts; it is enrolled for its name alone"


def _print_quality(quality: ClassQuality) -> None:
    for support in quality.supports:
        own = "only support" if support.own_score is None else f"own class {support.own_score:.3f}"
        other = f", nearest other {support.nearest_other} {support.other_score:.3f}" if support.nearest_other else ""
        click.echo(f"  {support.source}: {own}{other}{'  <- confused' if support.is_confused else ''}")
    if len(quality.supports) == 1:
        click.echo("  one support cannot be checked against its class; enrol a second picture")
    elif quality.confused:
        click.echo(f"  {quality.confused} of {len(quality.supports)} fit another class better: look at them again")
    else:
        click.echo("  leave-one-out: every support fits its own class best")
