"""Scores of good and defect pictures as two histograms over one axis, with the threshold."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.pictures import FrameBgr

WIDTH_PX, HEIGHT_PX, MARGIN_PX = 720, 300, 40
BINS = 48
GOOD_BGR, DEFECT_BGR, INK = (110, 160, 60), (60, 80, 210), (40, 40, 40)


def draw_score_histogram(
    scores: npt.NDArray[np.float64], is_defect: npt.NDArray[np.bool_], image_threshold: float
) -> FrameBgr:
    """Good pictures upwards, defects downwards, each scaled to its own tallest bar; a line at the threshold."""
    low, high = min(scores.min(), image_threshold), max(scores.max(), image_threshold)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    canvas = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, dtype=np.uint8)
    middle_y = HEIGHT_PX // 2
    for picked, colour, up in ((~is_defect, GOOD_BGR, -1), (is_defect, DEFECT_BGR, 1)):
        counts = np.histogram(scores[picked], edges)[0]
        bars = counts / max(int(counts.max()), 1) * (middle_y - MARGIN_PX)
        for number, length in enumerate(bars):
            x0, x1 = _column(number), _column(number + 1) - 2
            cv2.rectangle(canvas, (x0, middle_y), (x1, middle_y + up * round(length)), colour, cv2.FILLED)
    line_x = _column((image_threshold - edges[0]) / (edges[-1] - edges[0]) * BINS)
    cv2.line(canvas, (line_x, MARGIN_PX // 2), (line_x, HEIGHT_PX - MARGIN_PX), INK, 1)
    _label(canvas, edges, line_x, image_threshold, is_defect)
    return canvas


def _label(
    canvas: FrameBgr,
    edges: npt.NDArray[np.float64],
    line_x: int,
    image_threshold: float,
    is_defect: npt.NDArray[np.bool_],
) -> None:
    _write(canvas, f"good, {int((~is_defect).sum())}", (MARGIN_PX, MARGIN_PX // 2), GOOD_BGR)
    _write(canvas, f"defect, {int(is_defect.sum())}", (MARGIN_PX, HEIGHT_PX - MARGIN_PX // 2), DEFECT_BGR)
    _write(canvas, f"threshold {image_threshold:.3g}", (min(line_x + 6, WIDTH_PX - 150), MARGIN_PX // 2), INK)
    ends = f"anomaly score {edges[0]:.3g} to {edges[-1]:.3g}"
    _write(canvas, ends, (WIDTH_PX - 260, HEIGHT_PX - MARGIN_PX // 2), INK)


def _column(number: float) -> int:
    return MARGIN_PX + round(number * (WIDTH_PX - 2 * MARGIN_PX) / BINS)


def _write(canvas: FrameBgr, text: str, origin_xy: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, origin_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
