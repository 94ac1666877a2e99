"""Charts as SVG text: no script, colours by class name, so that a page can be dark, light or printed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

BINS = 40
TICK_SPACING = 60
WIDTH, HEIGHT = 620, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 30, 44


@dataclass(frozen=True)
class Histogram:
    """counts[i] scores lie in (edges[i], edges[i + 1]]; the first `good_bins` bins end at the threshold."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    good_bins: int


class ScoreAxis:
    """Scores squeezed by asinh: even up to about the threshold, then each doubling as far as the last.

    Defects can score ten times the threshold; on an even axis the good ones would be one bar.
    """

    def __init__(self, threshold: float) -> None:
        self._unit = max(abs(threshold), 1e-3)

    def place(self, score: Scores | float) -> Any:
        """Score -> place on the axis."""
        return np.arcsinh(np.asarray(score) / self._unit)

    def score(self, place: Scores | float) -> Any:
        """The reverse of `place`."""
        return np.sinh(np.asarray(place)) * self._unit


def histogram(scores: Scores, threshold: float) -> Histogram:
    """Bins evenly wide on the ScoreAxis; the threshold is the edge of one, so that no bar mixes verdicts."""
    axis = ScoreAxis(threshold)
    places, middle = axis.place(scores), float(axis.place(threshold))
    lowest, highest = min([middle, *places]), max([middle, *places])
    width = (highest - lowest or 0.1) * (1 + 1e-9) / BINS
    good_bins = max(1, math.ceil((middle - lowest) / width))
    bins = np.ceil((places - middle) / width).astype(np.int64) - 1 + good_bins
    bins = np.where(scores <= threshold, np.minimum(bins, good_bins - 1), np.maximum(bins, good_bins))
    total = good_bins + max(1, math.ceil((highest - middle) / width))
    counts = np.bincount(np.clip(bins, 0, total - 1), minlength=total)
    edges = axis.score(middle + (np.arange(total + 1) - good_bins) * width)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)), good_bins)


def histogram_svg(scores: Scores, threshold: float) -> str:
    """Good bars left of the threshold line, defect bars right of it."""
    h = histogram(scores, threshold)
    top_count = max(*h.counts, 1)
    parts = [_grid_line(count, top_count) for count in _count_ticks(top_count)]
    parts += [_bar(h, number, count, top_count) for number, count in enumerate(h.counts) if count]
    parts += _x_axis(h, threshold)
    label = f"Histogram of {scores.size} anomaly scores, threshold {threshold:.3f}"
    body = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'


def round_numbers(lowest: float, highest: float) -> list[float]:
    """Numbers a person would write on an axis from `lowest` to `highest`, the roundest first."""
    rounds = [0.0]
    reach = max(abs(lowest), abs(highest))
    top = math.floor(math.log10(reach)) if reach > 0 else 0
    for mantissa in (1, 5, 2):
        rounds += [sign * mantissa * 10.0**power for power in range(top, top - 3, -1) for sign in (1, -1)]
    step = 10.0 ** math.floor(math.log10(max(highest - lowest, 1e-9)))
    rounds += [n * step for n in range(math.ceil(lowest / step), math.floor(highest / step) + 1)]
    return [number for number in rounds if lowest <= number <= highest]


def _bar(h: Histogram, number: int, count: int, top_count: int) -> str:
    step = _plot_width() / len(h.counts)
    height = max(2.0, _plot_height() * count / top_count)  # one picture in ten thousand is still to be seen
    x, y = LEFT + number * step, HEIGHT - BOTTOM - height
    return (
        f'<rect class="{"good" if number < h.good_bins else "defect"}" x="{x + 0.75:.1f}" y="{y:.1f}" '
        f'width="{max(1.0, step - 1.5):.1f}" height="{height:.1f}">'
        f"<title>{h.edges[number]:.2f} to {h.edges[number + 1]:.2f}: {count}</title></rect>"
    )


def _x_axis(h: Histogram, threshold: float) -> list[str]:
    base, line_x = HEIGHT - BOTTOM, LEFT + h.good_bins * _plot_width() / len(h.counts)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    for x, number in _score_ticks(h, threshold):
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        parts.append(_text(x, base + 19, f"{number:.6g}"))
    parts.append(f'<line class="threshold" x1="{line_x:.1f}" x2="{line_x:.1f}" y1="{TOP - 8}" y2="{base}"/>')
    label_x = min(max(line_x, LEFT + TICK_SPACING), WIDTH - RIGHT - TICK_SPACING)
    parts.append(_text(label_x, TOP - 14, f"threshold {threshold:.2f}", "strong"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "anomaly score", "soft"))
    return parts


def _score_ticks(h: Histogram, threshold: float) -> list[tuple[float, float]]:
    """Place in the drawing and score of each tick: the roundest numbers that leave room for each other."""
    axis, ticks = ScoreAxis(threshold), list[tuple[float, float]]()
    first, last = axis.place(h.edges[0]), axis.place(h.edges[-1])
    for number in round_numbers(h.edges[0], h.edges[-1]):
        x = LEFT + _plot_width() * float((axis.place(number) - first) / (last - first))
        if all(abs(x - other) >= TICK_SPACING for other, _ in ticks):
            ticks.append((x, number))
    return ticks


def _grid_line(count: int, top_count: int) -> str:
    y = HEIGHT - BOTTOM - _plot_height() * count / top_count
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text class="soft" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{count}</text>'


def _count_ticks(top_count: int) -> list[int]:
    """Three or four round numbers up to `top_count`."""
    raw = max(1.0, top_count / 3)
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(int(m * magnitude) for m in (1, 2, 5, 10) if m * magnitude >= raw)
    return list(range(step, top_count + 1, step))


def _plot_width() -> int:
    return WIDTH - LEFT - RIGHT


def _plot_height() -> int:
    return HEIGHT - TOP - BOTTOM


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'
