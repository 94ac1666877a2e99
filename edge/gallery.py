"""Which pictures a report shows, and each of them as HTML that holds its own pixels."""

from __future__ import annotations

import base64
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from edge.draw import FAINTEST, HOTTEST, draw_heatmap, fit_within
from edge.errors import PictureError
from edge.figures import NOT_TYPED
from edge.pictures import FrameBgr, encode_picture, read_picture

Record = dict[str, Any]

MOST_REJECTS = 60  # about 2 MB; the rest is in the table and the heat-map folder
FEWEST_A_CLASS = 3
MOST_BORDERLINE = 6
THUMBNAIL_SIDE_PX = 320
THUMBNAIL_QUALITY = 82
MOST_RANKED = 4


class Gallery:
    """Takes every record, keeps the strongest rejects of each class and the good pictures nearest to the threshold."""

    def __init__(self) -> None:
        self.strongest: dict[str, list[tuple[float, int, Record]]] = {}
        self.borderline: list[tuple[float, int, Record]] = []
        self._number = itertools.count()  # breaks ties: records cannot be compared

    def add(self, record: Record) -> None:
        """Consider one record."""
        if record["verdict"] == "no_verdict":
            return
        entry = (record["anomaly_score"], -next(self._number), record)
        if record["verdict"] == "good":
            _keep_largest(self.borderline, entry, MOST_BORDERLINE)
        else:
            _keep_largest(self.strongest.setdefault(record["defect_class"] or NOT_TYPED, []), entry, MOST_REJECTS)

    def rejects(self, classes: Iterable[str]) -> dict[str, list[Record]]:
        """Class -> its strongest rejects, strongest first; MOST_REJECTS in all, shared out evenly."""
        names = [name for name in classes if name in self.strongest]
        left, chosen = MOST_REJECTS, {}
        for position, name in enumerate(sorted(names, key=lambda n: len(self.strongest[n]))):
            share = max(FEWEST_A_CLASS, left // (len(names) - position))
            chosen[name] = [entry[-1] for entry in sorted(self.strongest[name], reverse=True)[: min(share, left)]]
            left -= len(chosen[name])
        return {name: chosen[name] for name in names if chosen[name]}

    def nearly_rejected(self) -> list[Record]:
        """Good pictures with the highest scores, highest first."""
        return [entry[-1] for entry in sorted(self.borderline, reverse=True)]


def card(record: Record, picture: Path | None, heatmap: Path) -> str:
    """One picture: itself with its regions, the heat-map beside it, and what was found."""
    figures = _figure(record, picture) + _heatmap_figure(heatmap)
    name, score = escape(record["path"]), record["anomaly_score"]
    regions = "".join(_region_row(number, region) for number, region in enumerate(record["regions"], start=1))
    table = f'<table class="regions">{regions}</table>' if regions else ""
    return (
        f'<article class="card"><div class="figures">{figures}</div>'
        f'<h4 title="{name}">{name}</h4><p class="score">score <b>{score:.3f}</b>'
        f'<span class="soft"> &middot; {_ratio(score, record["image_threshold"])}</span></p>{table}</article>'
    )


def _figure(record: Record, picture: Path | None) -> str:
    frame_bgr = _read(picture) if picture else None
    if frame_bgr is None:
        return '<figure class="missing">the picture is no longer there</figure>'
    H, W = frame_bgr.shape[:2]
    boxes = "".join(
        _box(number, region["box_xyxy"], max(H, W)) for number, region in enumerate(record["regions"], start=1)
    )
    source = data_uri(fit_within(frame_bgr, THUMBNAIL_SIDE_PX))
    return (
        f'<figure><svg viewBox="0 0 {W} {H}" role="img" aria-label="picture with its regions">'
        f'<image href="{source}" width="{W}" height="{H}" preserveAspectRatio="none"/>{boxes}</svg></figure>'
    )


def _box(number: int, box_xyxy: Sequence[int], side_px: int) -> str:
    x0, y0, x1, y1 = box_xyxy
    size = side_px / 16
    y = y0 - size * 0.2 if y0 > size else y0 + size  # above the box, or inside it at the picture's upper edge
    x = x0 + size * 0.15
    return (
        f'<rect class="box rim" x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"/>'
        f'<rect class="box" x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"/>'
        f'<text class="tag" x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}">{number}</text>'
    )


def _heatmap_figure(heatmap: Path) -> str:
    overlay = _read(heatmap)
    if overlay is None:
        return ""
    source = data_uri(fit_within(overlay, THUMBNAIL_SIDE_PX))
    return f'<figure><img src="{source}" alt="anomaly map over the picture"></figure>'


def _region_row(number: int, region: Record) -> str:
    """The strongest region with its ranking, the others in one line."""
    x0, y0, x1, y1 = region["box_xyxy"]
    size, place = f"{x1 - x0} &times; {y1 - y0} px", f"at {x0}, {y0}"
    name = f"<b>{escape(region['defect_class'] or 'odd')}</b>"
    if number > 1:
        score = "" if region["relation_score"] is None else f" {region['relation_score']:.2f}"
        return (
            f'<tr><td class="number">{number}</td><td>{name}<span class="soft">{score}</span></td>'
            f'<td class="soft where">{size} {place}</td></tr>'
        )
    ranked = "".join(_rank(c, region["defect_class"]) for c in region["ranking"][:MOST_RANKED])
    peak = f"peak {region['peak_score']:.2f}"
    return (
        f'<tr><td class="number">{number}</td><td>{name}{ranked}</td>'
        f'<td class="soft where">{size}<br>{place}<br>{peak}</td></tr>'
    )


def _rank(candidate: Record, winner: str | None) -> str:
    share = candidate["relation_score"]
    kind = " winner" if candidate["defect_class"] == winner else ""
    return (
        f'<span class="rank{kind}"><i style="width:{100 * share:.0f}%"></i>'
        f"<em>{escape(candidate['defect_class'])}</em><u>{share:.2f}</u></span>"
    )


def _ratio(score: float, threshold: float) -> str:
    if threshold <= 0:
        return f"threshold {threshold:.3f}"
    return f"{score / threshold:.2f} &times; the threshold"


def heat_scale() -> str:
    """Legend of the heat-maps, drawn by the code that draws them."""
    ramp = np.geomspace(FAINTEST, HOTTEST, 240, dtype=np.float32)[np.newaxis]
    strip = draw_heatmap(np.full((18, 240, 3), 190, dtype=np.uint8), ramp, pixel_threshold=1.0)
    marks = "".join(f"<span>{mark}</span>" for mark in ("&frac12;", "1", "2", "4"))
    return (
        f'<figure class="scale"><figcaption>Heat-map, in pixel thresholds; lines are drawn at 1</figcaption>'
        f'<img src="{data_uri(strip)}" alt="clear to red"><div>{marks}</div></figure>'
    )


def data_uri(frame_bgr: FrameBgr) -> str:
    """The frame as a JPEG inside a URL."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_picture(frame_bgr, ".jpg", THUMBNAIL_QUALITY)).decode(
        "ascii"
    )


def _read(path: Path) -> FrameBgr | None:
    try:
        return read_picture(path)
    except PictureError:
        return None


def _keep_largest(heap: list[tuple[float, int, Record]], entry: tuple[float, int, Record], most: int) -> None:
    keep: Callable[..., Any] = heapq.heappush if len(heap) < most else heapq.heappushpop
    keep(heap, entry)
