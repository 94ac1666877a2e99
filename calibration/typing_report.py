"""Few-shot typing as plain data and as one table: rows are heads by protocol, columns are shots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from calibration.evaluate import Evaluation
from calibration.few_shot import FIGURES, ShotResult
from calibration.head_choice import BASELINE, HEADS
from calibration.open_set import KNOWN_SHARE, MIN_WAYS
from calibration.spread import PairedDifference, Spread
from edge.text_table import aligned

OPEN_SET_FIGURES = ("auroc", "caught", "bundle_caught", "bundle_false")
COMPARED = ("typing", "inspection", "whole", "mask_given", "auroc", "caught")

CLOSED_LOOP = "closed loop: every defect's strongest region named, rejected or not"
MASK_GIVEN = "mask given: the same, supports and queries described inside their true masks"
FIRST_FILES = "first files: the first files of each type are the supports, all others are asked about; one choice"
INSPECTION = "in the loop: a defect is right only if rejected and named right"
WHOLE = "whole inspector: the same, and a good part is right only if passed"
UNKNOWN = "rejected, but called unknown, of all defects"
AUROC = "open set, each type in turn not enrolled: AUROC of known against unknown by confidence"
CAUGHT = f"open set: unknowns caught while at most {KNOWN_SHARE:.0%} of the knowns are called unknown"
BUNDLE_CAUGHT = "open set, at the bundle's own threshold: unknowns called unknown"
BUNDLE_FALSE = "open set, at the bundle's own threshold: knowns called unknown"

SHOTS_ABREAST = 3
BRACKET_WIDTH = len(" (+10.0 +- 1.0)")

Cell = Callable[[Evaluation, ShotResult], str]


def shot_document(evaluation: Evaluation, result: ShotResult) -> dict[str, Any]:
    """One head at one shot count; shares are 0..1."""
    return {
        "head": result.head,
        "n_shot": result.n_shot,
        "n_way": result.n_way,
        "chance": 1 / result.n_way,
        "kinds_left_out": list(result.kinds_left_out),
        **{name: _spread(result.values(name)) for name in FIGURES},
        "mask_given": {**_spread(result.mask_given), "draws": list(result.mask_given)} if result.mask_given else None,
        "first_files": result.first_files,
        "open_set": _open_set_document(result) if result.open_set else None,
        f"against_{BASELINE}": _against_document(evaluation, result),
        "draws": [asdict(draw) for draw in result.draws],
        "typing_confusion": result.typing_confusion.to_document(),
        "inspection_confusion": result.inspection_confusion.to_document(),
    }


def typing_table(evaluation: Evaluation) -> str:
    """Tables for a terminal of 120 columns, SHOTS_ABREAST shot counts in each."""
    if not evaluation.few_shot:
        return "Few-shot typing: left out, fewer than two types have a picture more than the shots asked for"
    shots = sorted({result.n_shot for result in evaluation.few_shot})
    abreast = [shots[start : start + SHOTS_ABREAST] for start in range(0, len(shots), SHOTS_ABREAST)]
    tables = [line for part in abreast for line in _table(_only(evaluation, part))]
    return "\n".join([*_caption(evaluation), *tables, *_notes(evaluation)])


def _only(evaluation: Evaluation, shots: Sequence[int]) -> Evaluation:
    return replace(evaluation, few_shot=tuple(r for r in evaluation.few_shot if r.n_shot in shots))


def _table(evaluation: Evaluation) -> list[str]:
    """A header, then each protocol's title and its rows, in columns that run through."""
    sections = [
        _section(evaluation, CLOSED_LOOP, _spread_cell("typing")),
        _section(evaluation, MASK_GIVEN, _spread_cell("mask_given")),
        _section(evaluation, FIRST_FILES, _first_files_cell),
        _section(evaluation, INSPECTION, _spread_cell("inspection")),
        _section(evaluation, WHOLE, _spread_cell("whole")),
        _section(evaluation, UNKNOWN, _unknown_cell),
        _section(evaluation, AUROC, _spread_cell("auroc")),
        _section(evaluation, CAUGHT, _spread_cell("caught")),
        _section(evaluation, BUNDLE_CAUGHT, _spread_cell("bundle_caught")),
        _section(evaluation, BUNDLE_FALSE, _spread_cell("bundle_false")),
        *_open_set_by_kind(evaluation),
    ]
    sections = [(title, rows) for title, rows in sections if rows]
    lines = aligned([_header(evaluation), *(row for _, rows in sections for row in rows)]).splitlines()
    table = [lines.pop(0)]
    for title, rows in sections:
        table += [title, *lines[: len(rows)]]
        del lines[: len(rows)]
    return table


def _caption(evaluation: Evaluation) -> list[str]:
    seeds = evaluation.options.seeds
    lines = [
        f"Few-shot typing in %: mean +- std of {len(seeds)} draws, seeds {seeds[0]} to {seeds[-1]}, "
        f"auto: {evaluation.facts['relation_scores']}"
    ]
    if _has_brackets(evaluation):
        lines.append(f"in brackets: difference to {BASELINE} on the same draws +- its standard error")
    return lines


def _header(evaluation: Evaluation) -> list[str]:
    first = [result for result in evaluation.few_shot if result.head == evaluation.heads[0]]
    return ["", *(f"{_shots(r)} of {r.n_way} types" for r in first)]


def _shots(result: ShotResult) -> str:
    return "1 shot" if result.n_shot == 1 else f"{result.n_shot} shots"


def _section(evaluation: Evaluation, title: str, cell: Cell) -> tuple[str, list[list[str]]]:
    """A title and a row per head; heads that it means nothing for have none."""
    rows = []
    for head in evaluation.heads:
        cells = [cell(evaluation, result) for result in evaluation.few_shot if result.head == head]
        if any(cells):
            rows.append([head, *(text or "-" for text in cells)])
    return title, rows


def _spread_cell(figure: str) -> Cell:
    def cell(evaluation: Evaluation, result: ShotResult) -> str:
        values = result.values(figure)
        if not values:
            return ""
        return _percent(values) + _bracket(evaluation, _difference(evaluation, result, figure))

    return cell


def _first_files_cell(evaluation: Evaluation, result: ShotResult) -> str:
    return f"{100 * result.first_files:5.1f}        " + _bracket(evaluation, None)


def _unknown_cell(evaluation: Evaluation, result: ShotResult) -> str:
    """Only of heads that ever say unknown."""
    return _percent(result.values("unknown")) + _bracket(evaluation, None) if result.says_unknown else ""


def _open_set_by_kind(evaluation: Evaluation) -> list[tuple[str, list[list[str]]]]:
    """The first head's AUROC, a row per type that was not enrolled."""
    head = evaluation.heads[0]
    first = [result for result in evaluation.few_shot if result.head == head]
    kinds = list(dict.fromkeys(kind for result in first for draw in result.open_set for kind in draw.by_kind))
    rows = []
    for kind in kinds:
        values = [[draw.by_kind[kind].auroc for draw in r.open_set if kind in draw.by_kind] for r in first]
        rows.append([kind, *(_percent(v) + _bracket(evaluation, None) if v else "-" for v in values)])
    return [(f"open set, {head}: AUROC with this type not enrolled", rows)]


def _notes(evaluation: Evaluation) -> list[str]:
    lines = []
    for result in evaluation.few_shot:
        if result.head == evaluation.heads[0] and result.kinds_left_out:
            lines.append(f"{_shots(result)} without {', '.join(result.kinds_left_out)}: too few pictures")
        if result.head == evaluation.heads[0] and result.n_way < MIN_WAYS:
            lines.append(
                f"no open set at {_shots(result)}: {result.n_way} types, at least {MIN_WAYS} needed, "
                "so that two remain when one is not enrolled"
            )
    lines += [f"{shot} shots left out: too few pictures" for shot in evaluation.shots_left_out]
    if not evaluation.dataset.has_masks:
        lines.append("no mask given: the data set has no ground_truth")
    lines += [f"{head}: {HEADS[head]}" for head in evaluation.heads if len(evaluation.heads) > 1]
    return lines + [f"left out: {reason}" for head, reason in evaluation.heads_left_out.items()]


def _against_document(evaluation: Evaluation, result: ShotResult) -> dict[str, Any] | None:
    if evaluation.rival(result, BASELINE) is None:
        return None
    differences = {figure: _difference(evaluation, result, figure) for figure in COMPARED}
    return {figure: asdict(found) for figure, found in differences.items() if found}


def _difference(evaluation: Evaluation, result: ShotResult, figure: str) -> PairedDifference | None:
    """None for the baseline itself, and for a figure that one of the two does not have."""
    baseline = evaluation.rival(result, BASELINE)
    if baseline is None or not result.values(figure) or not baseline.values(figure):
        return None
    return PairedDifference.of(result.values(figure), baseline.values(figure))


def _open_set_document(result: ShotResult) -> dict[str, Any]:
    measured = [name for name in OPEN_SET_FIGURES if result.values(name)]
    kinds = result.open_set[0].by_kind
    return {
        "known_called_unknown": KNOWN_SHARE,
        **{name: _spread(result.values(name)) if name in measured else None for name in OPEN_SET_FIGURES},
        "by_kind": {
            kind: {name: _spread([getattr(draw.by_kind[kind], name) for draw in result.open_set]) for name in measured}
            for kind in kinds
        },
        "draws": [
            {"seed": draw.seed, **{name: draw.mean(name) for name in OPEN_SET_FIGURES}} for draw in result.open_set
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return asdict(Spread.of(values))


def _percent(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{100 * spread.mean:5.1f} +- {100 * spread.std:4.1f}"


def _bracket(evaluation: Evaluation, difference: PairedDifference | None) -> str:
    """As wide as every other bracket, so that the means stand below each other."""
    if not _has_brackets(evaluation):
        return ""
    if difference is None:
        return " " * BRACKET_WIDTH
    error = "" if difference.standard_error is None else f" +- {100 * difference.standard_error:.1f}"
    return f" ({100 * difference.mean:+.1f}{error})".ljust(BRACKET_WIDTH)


def _has_brackets(evaluation: Evaluation) -> bool:
    return BASELINE in evaluation.heads and len(evaluation.heads) > 1
