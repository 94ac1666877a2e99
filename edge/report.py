"""`report.html`: one file without script or outside parts that says how a folder of pictures did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from html import escape
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

from edge.charts import histogram_svg
from edge.figures import VERDICTS, Figures
from edge.gallery import MOST_REJECTS, Gallery, card, heat_scale
from edge.manifest import BundleManifest
from edge.result import utc_now
from edge.results_folder import REPORT_FILE, RUN_FILE, ResultsFolder, read_run_facts
from edge.staging import write_bytes_atomically
from edge.table import TABLE_FILE

Record = dict[str, Any]
Show = Callable[[Record], str]

MOST_ERRORS = 200
MOST_FOLDERS = 40


def write_report(
    results: ResultsFolder, files: Mapping[str, Path], manifest: BundleManifest, first_row: int = 0
) -> Path:
    """Write the report of the rows of `results` from first_row on; files: record path -> picture, for the gallery."""
    figures, gallery = Figures(), Gallery()
    errors: list[Record] = []
    for record in islice(results.records(), first_row, None):
        figures.add(record)
        gallery.add(record)
        if record["error"] and len(errors) < MOST_ERRORS:
            errors.append(record)
    path = results.folder / REPORT_FILE
    write_bytes_atomically(path, to_html(figures, gallery, errors, results, files, manifest).encode())
    return path


def to_html(
    figures: Figures,
    gallery: Gallery,
    errors: list[Record],
    results: ResultsFolder,
    files: Mapping[str, Path],
    manifest: BundleManifest,
) -> str:
    """The page. Whatever came from a file name or a class name is escaped."""
    template = Template(Path(__file__).with_name(REPORT_FILE).read_text("utf-8"))

    def show(record: Record) -> str:
        return card(record, files.get(record["path"]), results.heatmap_path(record["path"]))

    return template.substitute(
        product=escape(manifest.product),
        folder=escape(str((read_run_facts(results.folder / RUN_FILE) or {}).get("folder", ""))),
        written_at=utc_now()[:16].replace("T", " "),
        tiles=_tiles(figures),
        verdict_bar=_verdict_bar(figures.verdicts),
        histogram=histogram_svg(figures.scores(), manifest.thresholds.image_threshold),
        classes=_classes(figures),
        folders=_folders(figures.folders),
        rejects=_rejects(figures, gallery, show),
        borderline=_borderline(gallery, show),
        errors=_errors(errors, figures.verdicts["no_verdict"]),
        facts=_facts(results.last_run or {}, manifest),
    )


def _tiles(figures: Figures) -> str:
    share = figures.good_share
    tiles = [
        ("files", f"{figures.pictures:,}", ""),
        ("good", f"{figures.verdicts['good']:,}", "good"),
        ("rejected", f"{figures.verdicts['defect']:,}", "defect"),
        ("without a verdict", f"{figures.verdicts['no_verdict']:,}", "no_verdict"),
        ("yield", "&ndash;" if share is None else f"{100 * share:.1f} %", ""),
    ]
    return "".join(f'<div class="tile {kind}"><b>{value}</b><span>{label}</span></div>' for label, value, kind in tiles)


def _verdict_bar(verdicts: Counter[str]) -> str:
    return "".join(
        f'<i class="{verdict}" style="flex-grow:{verdicts[verdict]}" title="{verdict}: {verdicts[verdict]}"></i>'
        for verdict in VERDICTS
        if verdicts[verdict]
    )


def _classes(figures: Figures) -> str:
    if not figures.classes:
        return '<p class="soft">Nothing was rejected.</p>'
    most = figures.classes.most_common(1)[0][1]
    rows = "".join(
        f'<tr><th>{escape(name)}</th><td class="bar"><i style="width:{100 * count / most:.1f}%"></i></td>'
        f'<td class="figure">{count:,}</td></tr>'
        for name, count in figures.classes.most_common()
    )
    return f'<table class="bars">{rows}</table>'


def _folders(folders: Mapping[str, Counter[str]]) -> str:
    if len(folders) < 2:
        return ""
    rows = "".join(_folder_row(name, counts) for name, counts in list(folders.items())[:MOST_FOLDERS])
    more = _note(len(folders), MOST_FOLDERS, "folders")
    return f'<section><h2>Rejected, by folder</h2><table class="bars wide">{rows}</table>{more}</section>'


def _folder_row(name: str, counts: Counter[str]) -> str:
    shown = "(top)" if name == "." else escape(name)
    return (
        f'<tr><th>{shown}</th><td class="bar"><div class="verdicts">{_verdict_bar(counts)}</div></td>'
        f'<td class="figure">{counts["defect"]:,} of {counts.total():,}</td></tr>'
    )


def _rejects(figures: Figures, gallery: Gallery, show: Show) -> str:
    groups = []
    for name, records in gallery.rejects([name for name, _ in figures.classes.most_common()]).items():
        count = figures.classes[name]
        shown = f"strongest {len(records)} of {count:,}" if len(records) < count else f"{count:,}"
        heading = f"<h3>{escape(name)} <span>{shown}</span></h3>"
        groups.append(f'{heading}<div class="cards">{"".join(map(show, records))}</div>')
    if not groups:
        return ""
    more = _note(figures.verdicts["defect"], MOST_REJECTS, "rejects", f"; all are in {TABLE_FILE}")
    return f"<section><h2>Rejects</h2>{heat_scale()}{more}{''.join(groups)}</section>"


def _borderline(gallery: Gallery, show: Show) -> str:
    records = gallery.nearly_rejected()
    if not records:
        return ""
    hint = '<p class="soft">The highest scores that passed. If one of these is bad, the threshold is too high.</p>'
    return f'<section><h2>Nearly rejected</h2>{hint}<div class="cards">{"".join(map(show, records))}</div></section>'


def _errors(errors: list[Record], count: int) -> str:
    if not errors:
        return ""
    rows = "".join(f"<tr><th>{escape(r['path'])}</th><td>{escape(r['error'])}</td></tr>" for r in errors)
    more = _note(count, MOST_ERRORS, "files without a verdict")
    return f'<section><h2>Without a verdict</h2>{more}<table class="plain">{rows}</table></section>'


def _facts(last_run: Record, m: BundleManifest) -> str:
    t, bank = m.thresholds, m.memory_bank
    p50, p95 = last_run.get("latency_p50_ms"), last_run.get("latency_p95_ms")
    rows = [
        ("Bundle", f"{m.bundle_id}, calibrated on {m.good_pictures:,} good pictures"),
        ("Image threshold", f"{t.image_threshold:.4f}: a part is good only if its score is not over it"),
        ("How it was set", f"{t.method}, on {t.held_out_pictures:,} good pictures that the bank has not seen"),
        (
            "What it is worth",
            f"{100 * t.false_reject_rate:g} % false rejects asked for; {t.held_out_pictures:,} pictures can vouch "
            f"for at most {100 * t.promised_false_reject_rate:.2g} % of good parts on average",
        ),
        ("Pixel threshold", f"{t.pixel_threshold:.4f}: where a region begins"),
        ("Backbone", f"{m.embedding.backbone}, {m.embedding.input_size} px, {m.calibrated_precision.upper()}"),
        ("Memory bank", f"{bank.rows:,} patches of good parts, {bank.search} search"),
        ("Time a picture", "–" if p50 is None else f"p50 {p50:g} ms, p95 {p95:g} ms, from file to verdict"),
    ]
    return "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows)


def _note(count: int, most: int, what: str, elsewhere: str = "") -> str:
    return f'<p class="note">{most:,} of {count:,} {what} are shown{elsewhere}.</p>' if count > most else ""
