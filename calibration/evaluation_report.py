"""An evaluation as plain data, as a table, and as a folder of files."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calibration.confusion import draw_confusion
from calibration.evaluate import Evaluation
from calibration.few_shot import ShotResult
from calibration.metrics import PRO_FPR_LIMIT, rejected
from calibration.score_histogram import draw_score_histogram
from calibration.typing_report import shot_document, typing_table
from edge.pictures import write_picture
from edge.staging import staged_folder
from edge.text_table import aligned

SCHEMA_VERSION = 2
EVALUATION_FILE = "evaluation.json"


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data for JSON; shares are 0..1."""
    dataset, options = evaluation.dataset, evaluation.options
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": evaluation.facts,
        "dataset": {
            "folder": str(dataset.folder),
            "pictures": len(dataset.samples),
            "kinds": dataset.kinds,
            "masks": dataset.has_masks,
        },
        "left_out": list(evaluation.scored.left_out),
        "detection": asdict(evaluation.detection),
        "pixel_method": f"map enlarged to the mask's pixels; PRO to a false positive rate of {PRO_FPR_LIMIT}",
        "draw_seeds": options.seeds,
        "few_shot": [shot_document(evaluation, result) for result in evaluation.few_shot],
        "shots_left_out": evaluation.shots_left_out,
        "heads_left_out": evaluation.heads_left_out,
    }


def to_text(evaluation: Evaluation) -> str:
    """Tables for a terminal."""
    parts = [
        _head_line(evaluation),
        _detection_table(evaluation),
        _kinds_table(evaluation),
        typing_table(evaluation),
    ]
    parts += [f"left out: {reason}" for reason in evaluation.scored.left_out]
    return "\n\n".join(part for part in parts if part)


def write_report(evaluation: Evaluation, out: Path, overwrite: bool = False) -> None:
    """JSON, the tables, one CSV row a picture, and the figures as PNG; the folder appears whole or not at all."""
    with staged_folder(out, EVALUATION_FILE, overwrite) as folder:
        document = json.dumps(to_document(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / EVALUATION_FILE).write_text(document + "\n", encoding="utf-8")
        (folder / "evaluation.txt").write_text(to_text(evaluation) + "\n", encoding="utf-8")
        _write_pictures_csv(evaluation, folder / "pictures.csv")
        pictures, threshold = evaluation.scored.pictures, evaluation.detection.image_threshold
        histogram = draw_score_histogram(pictures.scores, pictures.is_defect, threshold)
        write_picture(folder / "scores.png", histogram)
        _draw_confusions(evaluation.middle, folder)


def _draw_confusions(result: ShotResult | None, folder: Path) -> None:
    if result is None:
        return
    summed = f"{result.head}, {result.n_shot} shots, sum of {len(result.draws)} draws"
    alone = draw_confusion(result.typing_confusion, f"every defect typed, {summed}")
    in_loop = draw_confusion(result.inspection_confusion, f"detection, then typing, {summed}")
    write_picture(folder / "confusion.png", alone)
    write_picture(folder / "confusion_in_the_loop.png", in_loop)


def _head_line(evaluation: Evaluation) -> str:
    facts, detection = evaluation.facts, evaluation.detection
    return (
        f"bundle {facts['bundle_id']} ({facts['product']}), {facts['backend']} {facts['precision']}, "
        f"bank of {facts['bank_rows']} rows\n"
        f"{evaluation.dataset.folder}: {detection.good_pictures} good pictures, "
        f"{detection.defect_pictures} defects of {len(detection.kinds)} types"
    )


def _detection_table(evaluation: Evaluation) -> str:
    d = evaluation.detection
    rows = [
        ("image AUROC", f"{d.image_auroc:.4f}"),
        ("pixel AUROC", _or_dash(d.pixel_auroc)),
        (f"PRO to FPR {PRO_FPR_LIMIT}", _or_dash(d.pro)),
        ("false rejects", f"{d.false_reject_rate:.1%}", f"{d.false_rejects} of {d.good_pictures}"),
        ("escapes", f"{d.escape_rate:.1%}", f"{d.escapes} of {d.defect_pictures}"),
    ]
    return f"Detection, threshold {d.image_threshold:.4g}\n" + aligned(rows)


def _kinds_table(evaluation: Evaluation) -> str:
    rows = [("type", "pictures", "image AUROC", "escapes", "")]
    rows += [
        (k.kind, str(k.pictures), f"{k.image_auroc:.4f}", str(k.escapes), f"{k.escape_rate:.1%}")
        for k in evaluation.detection.kinds
    ]
    return aligned(rows)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _write_pictures_csv(evaluation: Evaluation, path: Path) -> None:
    pictures = evaluation.scored.pictures
    reject = rejected(pictures.scores, evaluation.detection.image_threshold)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "kind", "anomaly_score", "rejected", "regions", "x0", "y0", "x1", "y1"])
        for picture, is_rejected in zip(pictures.rows, reject, strict=True):
            facts = [f"{picture.anomaly_score:.6f}", int(is_rejected), picture.region_count, *picture.box_xyxy]
            writer.writerow([picture.name, picture.kind, *facts])
