"""Evaluation of any data set: its folders say whether whole pictures are labelled or boxes in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration import evaluation_report, region_report
from calibration.evaluate import Options, evaluate
from calibration.good_pictures import Track, no_track
from calibration.region_dataset import is_region_dataset
from calibration.region_evaluate import REGION_SHOTS, evaluate_regions
from edge.staging import refuse_taken


@dataclass(frozen=True)
class Measured:
    """document: plain data for JSON. text: tables for a terminal. left_out: pictures that count nowhere, and why."""

    document: dict[str, Any]
    text: str
    left_out: tuple[str, ...]


def default_shots(dataset_dir: Path) -> tuple[int, ...]:
    """Shot counts to report when none are asked for."""
    return REGION_SHOTS if is_region_dataset(dataset_dir) else Options().shots


def measure(
    bundle_dir: Path,
    dataset_dir: Path,
    options: Options,
    out: Path | None = None,
    overwrite: bool = False,
    track: Track[Any] = no_track,
) -> Measured:
    """Evaluate, and write the report to `out` if it is given."""
    if out:
        refuse_taken(out, evaluation_report.EVALUATION_FILE, overwrite)
    if is_region_dataset(dataset_dir):
        regions = evaluate_regions(bundle_dir, dataset_dir, options, track)
        if out:
            region_report.write_report(regions, out, overwrite)
        return Measured(region_report.to_document(regions), region_report.to_text(regions), regions.scored.left_out)
    whole = evaluate(bundle_dir, dataset_dir, options, track)
    if out:
        evaluation_report.write_report(whole, out, overwrite)
    return Measured(evaluation_report.to_document(whole), evaluation_report.to_text(whole), whole.scored.left_out)
