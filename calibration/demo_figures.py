"""What the demo's records say, counted against the folders the pictures came from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from calibration.dataset import GOOD
from edge.text_table import aligned


@dataclass(frozen=True)
class KindFigures:
    """One folder of unseen pictures; one without a verdict neither passed nor was rejected.

    named_right: rejected under the folder's name.
    """

    kind: str
    pictures: int
    passed: int
    rejected: int
    named_right: int


@dataclass(frozen=True)
class DemoFigures:
    """kinds: one entry a folder. frames, frame_ms: of the camera run; the median of all stages of a frame."""

    kinds: tuple[KindFigures, ...]
    frames: int
    frame_ms: float

    def to_document(self) -> dict[str, Any]:
        """Plain data for `demo.json`."""
        return asdict(self)

    def __str__(self) -> str:
        bad = [k for k in self.kinds if k.kind != GOOD]
        good = next((k for k in self.kinds if k.kind == GOOD), KindFigures(GOOD, 0, 0, 0, 0))
        defects, rejected, named = (sum(getattr(k, f) for k in bad) for f in ("pictures", "rejected", "named_right"))
        rows = [("unseen pictures of", "shown", "rejected", "named right")]
        rows += [(k.kind, str(k.pictures), str(k.rejected), str(k.named_right)) for k in bad]
        return "\n".join(
            [
                aligned([*rows, (GOOD, str(good.pictures), str(good.rejected))]),
                "",
                f"  {good.passed} of {good.pictures} good parts passed; {rejected} of {defects} bad "
                f"parts were rejected, {named} of them by the right name (chance: 1 in {len(bad)}).",
                f"  Camera run: {self.frames} frames, {self.frame_ms:.0f} ms a frame (median, one thread).",
            ]
        )


def count(results: Path, run_records: Path) -> DemoFigures:
    """Read both files of records; a picture's truth is the first folder of its path."""
    records = read_records(results)
    frames = [r for r in read_records(run_records) if r["error"] is None]
    return DemoFigures(
        kinds=tuple(_kind_figures(records)),
        frames=len(frames),
        frame_ms=round(median([_frame_ms(r) for r in frames] or [0.0]), 1),
    )


def read_records(path: Path) -> list[dict[str, Any]]:
    """JSON Lines -> records."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _kind_figures(records: list[dict[str, Any]]) -> list[KindFigures]:
    pictures, passed, rejected, named = (Counter[str]() for _ in range(4))
    for record in records:
        kind = Path(record["path"]).parts[0]
        pictures[kind] += 1
        passed[kind] += record["verdict"] == "good"
        rejected[kind] += record["verdict"] == "defect"
        named[kind] += record["verdict"] == "defect" and record["defect_class"] == kind
    return [KindFigures(kind, pictures[kind], passed[kind], rejected[kind], named[kind]) for kind in sorted(pictures)]


def _frame_ms(record: dict[str, Any]) -> float:
    return float(sum(ms for stage, ms in record["latency_ms"].items() if stage != "wait"))
