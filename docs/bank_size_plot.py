"""Figure of docs/bank_size.py as SVG: a frame's search time by rows, a line a search, a panel a dimension."""

from __future__ import annotations

import math
from html import escape
from typing import Any

PANEL_W, PANEL_H, LEFT, TOP, GAP = 215, 230, 48, 44, 14
LOWEST_MS, HIGHEST_MS, FIRST_ROWS, LAST_ROWS = 0.3, 120_000, 1_000, 1_000_000
COLOURS = {"exact": "#888", "int8": "#1565c0", "lists": "#2e7d32", "hnsw 32": "#c62828"}


def plot(cells: list[dict[str, Any]], rest_ms: float) -> str:
    """cells: see docs/bank_size.py. rest_ms: what a frame costs without its search, which sets the dashed line."""
    dims = sorted({cell["dim"] for cell in cells})
    width, height = LEFT + len(dims) * (PANEL_W + GAP), TOP + PANEL_H + 40
    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>', *legend()]
    for number, dim in enumerate(dims):
        parts += panel(LEFT + number * (PANEL_W + GAP), dim, [c for c in cells if c["dim"] == dim], rest_ms)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
    return f'{head} font-size="11">{"".join(parts)}</svg>\n'


def panel(left: float, dim: int, cells: list[dict[str, Any]], rest_ms: float) -> list[str]:
    """One dimension: grid, the budget of twice the frame at 1,000 rows, and the lines."""
    parts = [text(left + PANEL_W / 2, TOP - 6, f"{dim} dims")]
    for power in range(5):
        y = place_y(10.0**power)
        parts.append(line(left, y, left + PANEL_W, y, "#ddd"))
        parts += [text(left - 18, y + 4, f"{10**power:,} ms")] if left == LEFT else []
    for power in range(3, 7):
        parts.append(text(place_x(left, 10**power), TOP + PANEL_H + 16, f"{10 ** (power - 3)}k"))
    done = [cell for cell in cells if "search_ms" in cell]
    base = min(min(cell["search_ms"]) for cell in done if cell["rows"] == FIRST_ROWS)
    budget = place_y(rest_ms + 2 * base)
    parts.append(line(left, budget, left + PANEL_W, budget, "#000", "4 3"))
    for name, colour in COLOURS.items():
        points = [(place_x(left, c["rows"]), place_y(min(c["search_ms"]))) for c in done if fits(c, name)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return parts


def fits(cell: dict[str, Any], name: str) -> bool:
    """Whether the cell belongs to the line."""
    return bool(cell["search"] == name)


def legend() -> list[str]:
    """Above the panels."""
    parts = [text(LEFT + 510, 16, "dashed: the frame costs twice what it does at 1,000 rows")]
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + 78 * number
        parts += [line(x, 12, x + 18, 12, colour), text(x + 44, 16, name)]
    return parts


def place_x(left: float, rows: float) -> float:
    """Logarithmic."""
    return left + 8 + (PANEL_W - 16) * math.log(rows / FIRST_ROWS) / math.log(LAST_ROWS / FIRST_ROWS)


def place_y(ms: float) -> float:
    """Logarithmic, downwards."""
    return TOP + PANEL_H * (1 - math.log(ms / LOWEST_MS) / math.log(HIGHEST_MS / LOWEST_MS))


def line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    """One stroke."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def text(x: float, y: float, words: str) -> str:
    """Centred."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(words)}</text>'
