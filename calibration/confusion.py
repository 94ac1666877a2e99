"""Who is taken for whom: counts, and a picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.pictures import FrameBgr

PASSED = "passed as good"

CELL_PX = 96
MARGIN_PX = 24
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
INK, PAPER = (40, 40, 40), (255, 255, 255)
FULL_BGR = np.array([120, 60, 10])  # the colour of a cell that holds its whole row


@dataclass(frozen=True)
class ConfusionMatrix:
    """counts: (rows, columns) int64, true kind by answer."""

    truths: tuple[str, ...]
    answers: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, truths: Sequence[str], answers: Sequence[str]) -> ConfusionMatrix:
        """Nothing counted yet."""
        return cls(tuple(truths), tuple(answers), np.zeros((len(truths), len(answers)), dtype=np.int64))

    def count(self, truths: npt.NDArray[np.str_], answers: npt.NDArray[np.str_]) -> None:
        """Add pairs; every name must be a row or a column."""
        row = {name: i for i, name in enumerate(self.truths)}
        column = {name: i for i, name in enumerate(self.answers)}
        pairs = [(row[str(t)], column[str(a)]) for t, a in zip(truths, answers, strict=True)]
        if pairs:
            np.add.at(self.counts, tuple(np.array(pairs).T), 1)

    def shares(self) -> npt.NDArray[np.float64]:
        """Counts divided by their row's sum; a row of nothing stays nothing."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1))

    def to_document(self) -> dict[str, list[object]]:
        """Plain data."""
        return {"truths": [*self.truths], "answers": [*self.answers], "counts": self.counts.tolist()}


def draw_confusion(matrix: ConfusionMatrix, title: str) -> FrameBgr:
    """One cell a pair: per cent of its row above its count; the darker, the more."""
    left = MARGIN_PX * 2 + max(_width(name) for name in matrix.truths)
    top, cell_w = 3 * MARGIN_PX, max(CELL_PX, *(_width(name) + 16 for name in matrix.answers))
    rows, columns = matrix.counts.shape
    width = max(left + columns * cell_w, _width(title) + MARGIN_PX) + MARGIN_PX
    canvas = np.full((top + rows * CELL_PX + MARGIN_PX, width, 3), PAPER, dtype=np.uint8)
    _write(canvas, title, (MARGIN_PX, MARGIN_PX), INK)
    for column, name in enumerate(matrix.answers):
        _centre(canvas, name, (left + column * cell_w + cell_w // 2, top - 14), INK)
    shares = matrix.shares()
    for row, name in enumerate(matrix.truths):
        _write(canvas, name, (MARGIN_PX, top + row * CELL_PX + CELL_PX // 2 + 5), INK)
        for column in range(columns):
            origin = (left + column * cell_w, top + row * CELL_PX)
            _draw_cell(canvas, origin, cell_w, float(shares[row, column]), int(matrix.counts[row, column]))
    return canvas


def _draw_cell(canvas: FrameBgr, origin_xy: tuple[int, int], cell_w: int, share: float, count: int) -> None:
    x, y = origin_xy
    fill = (1 - share) * np.array(PAPER) + share * FULL_BGR
    cv2.rectangle(canvas, (x, y), (x + cell_w - 2, y + CELL_PX - 2), [float(c) for c in fill], cv2.FILLED)
    cv2.rectangle(canvas, (x, y), (x + cell_w - 2, y + CELL_PX - 2), (200, 200, 200), 1)
    ink = PAPER if share > 0.5 else INK
    _centre(canvas, f"{share:.0%}", (x + cell_w // 2, y + CELL_PX // 2 - 4), ink)
    _centre(canvas, f"n={count}", (x + cell_w // 2, y + CELL_PX // 2 + 20), ink)


def _width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    return int(width)


def _centre(canvas: FrameBgr, text: str, middle_xy: tuple[int, int], ink: Sequence[float]) -> None:
    _write(canvas, text, (middle_xy[0] - _width(text) // 2, middle_xy[1]), ink)


def _write(canvas: FrameBgr, text: str, origin_xy: tuple[int, int], ink: Sequence[float]) -> None:
    cv2.putText(canvas, text, origin_xy, FONT, FONT_SCALE, ink, 1, cv2.LINE_AA)
