"""A region evaluation as plain data, as tables, and as a folder of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibration.evaluation_report import EVALUATION_FILE
from calibration.region_evaluate import RegionDraw, RegionEvaluation, RegionShots
from calibration.region_match import MIN_IOU, Tally
from calibration.spread import Spread
from edge.staging import staged_folder
from edge.text_table import aligned

SCHEMA_VERSION = 1
Figure = Callable[[RegionDraw], float]
# name in the document -> figure of one draw, all 0..1
FIGURES: dict[str, Figure] = {
    "precision": lambda draw: draw.regions.precision,
    "recall": lambda draw: draw.regions.recall,
    "f1": lambda draw: draw.regions.f1,
    "named_of_matched": lambda draw: draw.named_of_matched,
    "named_of_true": lambda draw: draw.named_of_true,
}
HEADINGS = ("precision", "recall", "F", "named, found", "named, box given")


def to_document(evaluation: RegionEvaluation) -> dict[str, Any]:
    """Plain data for JSON; shares are 0..1."""
    dataset, scored = evaluation.dataset, evaluation.scored
    return {
        "schema_version": SCHEMA_VERSION,
        "level": "regions",
        "bundle": dict(evaluation.facts),
        "dataset": {
            "folder": str(dataset.folder),
            "pictures": len(scored.names),
            "kinds": dataset.kinds,
            "boxes": len(scored.true),
        },
        "left_out": list(scored.left_out),
        "min_iou": MIN_IOU,
        "supports": "true boxes; pictures that gave a support are not asked about",
        "places": _tally_document(evaluation.places),
        "pictures_passed": scored.passed,
        "draw_seeds": evaluation.options.seeds,
        "few_shot": [_shots_document(result) for result in evaluation.few_shot],
        "shots_left_out": evaluation.shots_left_out,
        "heads_left_out": dict(evaluation.heads_left_out),
    }


def to_text(evaluation: RegionEvaluation) -> str:
    """Tables for a terminal."""
    parts = [_head_lines(evaluation), _places_table(evaluation), _shots_table(evaluation), _kinds_table(evaluation)]
    parts += [f"left out: {reason}" for reason in evaluation.scored.left_out]
    return "\n\n".join(part for part in parts if part)


def write_report(evaluation: RegionEvaluation, out: Path, overwrite: bool = False) -> None:
    """JSON and the tables; the folder appears whole or not at all."""
    with staged_folder(out, EVALUATION_FILE, overwrite) as folder:
        document = json.dumps(to_document(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / EVALUATION_FILE).write_text(document + "\n", encoding="utf-8")
        (folder / "evaluation.txt").write_text(to_text(evaluation) + "\n", encoding="utf-8")


def _tally_document(tally: Tally) -> dict[str, Any]:
    return {**asdict(tally), "precision": tally.precision, "recall": tally.recall, "f1": tally.f1}


def _shots_document(result: RegionShots) -> dict[str, Any]:
    spreads = {name: Spread.of([figure(draw) for draw in result.draws]) for name, figure in FIGURES.items()}
    return {
        "head": result.head,
        "n_shot": result.n_shot,
        **{name: asdict(spread) for name, spread in spreads.items()},
        "draws": [_draw_document(draw) for draw in result.draws],
    }


def _draw_document(draw: RegionDraw) -> dict[str, Any]:
    return {
        "seed": draw.seed,
        "pictures_asked": draw.pictures_asked,
        "regions": _tally_document(draw.regions),
        "places": _tally_document(draw.places),
        "named_of_matched": draw.named_of_matched,
        "named_of_true": draw.named_of_true,
        "kinds": {
            kind: {**_tally_document(tally), "named_of_true": draw.named_of_true_kinds[kind]}
            for kind, tally in draw.kinds.items()
        },
    }


def _head_lines(evaluation: RegionEvaluation) -> str:
    facts, scored = evaluation.facts, evaluation.scored
    return (
        f"bundle {facts['bundle_id']} ({facts['product']}), {facts['input_size']} px, {facts['backend']} "
        f"{facts['precision']}, bank of {facts['bank_rows']} rows\n"
        f"{evaluation.dataset.folder}: {len(scored.names)} pictures, {len(scored.true)} boxes of "
        f"{len(evaluation.dataset.kinds)} types"
    )


def _places_table(evaluation: RegionEvaluation) -> str:
    tally = evaluation.places
    rows = [
        ("precision", f"{tally.precision:.1%}", f"{tally.matched} of {tally.predicted} regions"),
        ("recall", f"{tally.recall:.1%}", f"{tally.matched} of {tally.true} boxes"),
        ("F", f"{tally.f1:.1%}"),
        ("pictures passed", f"{evaluation.scored.passed}"),
    ]
    return f"Regions found, IoU > {MIN_IOU}, whatever they are called\n" + aligned(rows)


def _shots_table(evaluation: RegionEvaluation) -> str:
    if not evaluation.few_shot:
        return "Few-shot typing: left out, some type has no box left beside its supports"
    rows = [["head", "shots", *HEADINGS]]
    for result in evaluation.few_shot:
        cells = (_percent(map(figure, result.draws)) for figure in FIGURES.values())
        rows.append([result.head, str(result.n_shot), *cells])
    lines = [
        f"Regions found and named, in % (mean +- std of {evaluation.options.draws} draws)",
        aligned(rows),
        "  named, found: of the regions at a right place; named, box given: of the true boxes",
        "  pictures that gave a support are not asked about",
    ]
    lines += [f"  head {head} left out: {why}" for head, why in evaluation.heads_left_out.items()]
    lines += [f"  {shot} shots left out: some type has no box left" for shot in evaluation.shots_left_out]
    return "\n".join(lines)


def _kinds_table(evaluation: RegionEvaluation) -> str:
    parts = []
    for result in evaluation.few_shot:
        rows = [[f"{result.head}, {result.n_shot} shots", "precision", "recall", "F", "named, box given"]]
        rows += [[kind, *_kind_cells(result, kind)] for kind in evaluation.dataset.kinds]
        parts.append(aligned(rows))
    return "\n\n".join(parts)


def _kind_cells(result: RegionShots, kind: str) -> list[str]:
    tallies = [draw.kinds[kind] for draw in result.draws]
    return [
        _percent(t.precision for t in tallies),
        _percent(t.recall for t in tallies),
        _percent(t.f1 for t in tallies),
        _percent(draw.named_of_true_kinds[kind] for draw in result.draws),
    ]


def _percent(values: Iterable[float]) -> str:
    spread = Spread.of(list(values))
    return f"{100 * spread.mean:.1f} +- {100 * spread.std:.1f}"
