"""The report: right counts, nothing from outside, nothing that a file name could smuggle in."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.charts import ScoreAxis, histogram, histogram_svg, round_numbers
from edge.figures import Figures
from edge.gallery import MOST_BORDERLINE, MOST_REJECTS, Gallery
from edge.inspector import Inspector
from edge.manifest import BundleManifest
from edge.report import MOST_ERRORS, write_report
from edge.result import Classification, Inspection, Provenance, Region, no_verdict
from edge.results_folder import ResultsFolder, RunFacts
from edge.score import ScoreOptions, score_folder

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a browser would find: text, tags, attributes; every tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.attributes: list[tuple[str, str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def record(path: str, score: float, defect_class: str | None = None, threshold: float = 2.0) -> dict[str, Any]:
    verdict = "good" if score <= threshold else "defect"
    ranking = (Classification(defect_class, 0.75),) if defect_class else ()
    region = Region((1, 2, 30, 40), 99, score, defect_class, 0.75 if defect_class else None, ranking)
    provenance = Provenance("/pictures", 0, "2026-11-23T20:00:00.000Z", path)
    regions = (region,) if verdict == "defect" else ()
    return Inspection(provenance, "0" * 16, verdict, score, threshold, regions, defect_class).to_record()


def failed(path: str, error: str) -> dict[str, Any]:
    provenance = Provenance("/pictures", 0, "2026-11-23T20:00:00.000Z", path)
    return no_verdict(provenance, "0" * 16, 2.0, error).to_record()


@pytest.fixture
def manifest(bundle_dir: Path) -> BundleManifest:
    return Inspector.load(bundle_dir).manifest


def report_on(folder: Path, manifest: BundleManifest, records: list[dict[str, Any]], **files: Path) -> str:
    facts = RunFacts("0" * 16, "/pictures/<monday>", None, "onnxruntime", "int8", False)
    with ResultsFolder.opened(folder, facts) as results:
        lines = "".join(json.dumps(r) + "\n" for r in records)
        results.records_path.write_text(lines, "utf-8")
        results.note_run({"latency_p50_ms": 10.0, "latency_p95_ms": 12.5})
        return write_report(results, files, manifest).read_text("utf-8")


def test_report_of_real_pictures_shows_them_and_loads_nothing_from_outside(
    bundle_dir: Path, good_dir: Path, defects_dir: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    for kind, folder in (("good", good_dir), ("odd", defects_dir)):
        (pictures / kind).mkdir(parents=True)
        for number, path in enumerate(sorted(folder.rglob("*.png"))[:4]):
            shutil.copy(path, pictures / kind / f"{number}.png")
    inspector = Inspector.load(bundle_dir, classes_path=tmp_path / "classes.npz")
    summary = score_folder(inspector, pictures, tmp_path / "out", ScoreOptions(report=True))

    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    page = Page(html)

    assert "script" not in page.tags and "link" not in page.tags
    links = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert links and all(value.startswith("data:image/jpeg;base64,") for value in links)
    assert "url(" not in html and "@import" not in html
    rejects, goods = summary.figures.verdicts["defect"], summary.figures.verdicts["good"]
    assert len(links) == 2 * rejects + goods + 1  # picture and heat-map; nearly rejected: picture; one legend
    for link in links:
        encoded = np.frombuffer(base64.b64decode(link.partition(",")[2]), dtype=np.uint8)
        assert max(cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape) <= 320
    assert str(pictures) in page.text
    assert inspector.manifest.bundle_id in page.text


def test_counts_yield_and_latency_can_be_checked_by_hand(tmp_path: Path, manifest: BundleManifest) -> None:
    records = [record(f"good/{n}.png", 1.0 + n / 10) for n in range(3)]
    records += [record("bad/1.png", 3.0, "scratch"), record("bad/2.png", 4.0, "unknown"), record("3.png", 9.0)]
    records += [failed("bad/broken.png", "the file is empty"), failed("bad/text.png", "not a picture")]

    page = Page(report_on(tmp_path, manifest, records))

    text = re.sub(r"\s+", " ", page.text)
    assert "8 files 3 good 3 rejected 2 without a verdict 50.0 % yield" in text
    assert "not typed 1" in text and "scratch 1" in text and "unknown 1" in text
    assert "bad 2 of 4" in text and "good 0 of 3" in text and "(top) 1 of 1" in text
    assert "p50 10 ms, p95 12.5 ms" in text
    assert "bad/broken.png the file is empty bad/text.png not a picture" in text
    assert "score 9.000" in text and "4.50 × the threshold" in text


def test_names_from_files_and_classes_cannot_become_markup(tmp_path: Path, manifest: BundleManifest) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    records = [record(evil + "/a.png", 3.0, evil), record(evil + "/b.png", 1.0), failed("$product ${x}" + evil, evil)]

    page = Page(report_on(tmp_path, manifest, records))

    assert "script" not in page.tags
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert page.text.count("alert(1)") >= 6
    assert "$product ${x}" in page.text
    assert "/pictures/<monday>" in page.text


def test_a_picture_that_was_moved_away_leaves_a_note(tmp_path: Path, manifest: BundleManifest) -> None:
    page = Page(report_on(tmp_path, manifest, [record("a.png", 3.0)], **{"a.png": tmp_path / "gone.png"}))
    assert "the picture is no longer there" in page.text


def test_report_of_nothing_but_errors_and_of_nothing_but_good(tmp_path: Path, manifest: BundleManifest) -> None:
    errors = Page(report_on(tmp_path / "errors", manifest, [failed("a.png", "the file is empty")]))
    assert "1 files" in re.sub(r"\s+", " ", errors.text) and "– yield" in re.sub(r"\s+", " ", errors.text)
    good = Page(report_on(tmp_path / "good", manifest, [record("a.png", 1.0)]))
    assert "Nothing was rejected." in good.text and "100.0 % yield" in re.sub(r"\s+", " ", good.text)


def test_a_large_result_stays_a_small_page(tmp_path: Path, manifest: BundleManifest) -> None:
    picture = tmp_path / "p.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8))
    names = [f"{n:04}.png" for n in range(1500)]
    records = [record(name, 3.0 + n / 1000, f"kind {n % 4}") for n, name in enumerate(names)]
    records += [failed(f"broken {n}.png", "the file is empty") for n in range(MOST_ERRORS + 50)]

    html = report_on(tmp_path / "out", manifest, records, **dict.fromkeys(names, picture))

    assert len(html) < 8_000_000  # even of pure noise, which JPEG cannot shrink
    text = re.sub(r"\s+", " ", Page(html).text)
    assert f"{MOST_REJECTS} of 1,500 rejects are shown; all are in results.csv." in text
    assert f"{MOST_ERRORS} of {MOST_ERRORS + 50} files without a verdict are shown." in text
    assert "kind 3 strongest 15 of 375" in text


def test_gallery_keeps_the_strongest_of_each_class_and_the_nearest_good_ones() -> None:
    gallery = Gallery()
    for n in range(200):
        gallery.add(record(f"dent {n}", 3 + n / 100, "dent"))
        gallery.add(record(f"good {n}", n / 100))
    gallery.add(record("the only hole", 2.5, "hole"))
    gallery.add(failed("broken", "the file is empty"))

    rejects = gallery.rejects(["dent", "hole"])

    assert [r["path"] for r in rejects["hole"]] == ["the only hole"]
    assert [r["path"] for r in rejects["dent"]] == [f"dent {n}" for n in range(199, 199 - (MOST_REJECTS - 1), -1)]
    assert [r["path"] for r in gallery.nearly_rejected()] == [
        f"good {n}" for n in range(199, 199 - MOST_BORDERLINE, -1)
    ]


def test_gallery_of_many_classes_never_shows_more_than_it_may() -> None:
    gallery, names = Gallery(), [f"class {n}" for n in range(50)]
    for n in range(500):
        gallery.add(record(f"{n}", 3.0 + n, names[n % 50]))
    assert sum(len(records) for records in gallery.rejects(names).values()) <= MOST_REJECTS


def test_figures_add_up() -> None:
    figures = Figures.of([record("a/1.png", 1.0), record("a/2.png", 3.0, "dent"), failed("b/3.png", "x")])
    assert dict(figures.verdicts) == {"good": 1, "defect": 1, "no_verdict": 1}
    assert figures.good_share == 0.5
    assert figures.scores().tolist() == [1.0, 3.0]
    assert {name: dict(counts) for name, counts in figures.folders.items()} == {
        "a": {"good": 1, "defect": 1},
        "b": {"no_verdict": 1},
    }
    assert Figures().good_share is None


SCORES = st.lists(st.floats(-100, 1e6, allow_nan=False), max_size=40)


@given(scores=SCORES, threshold=st.floats(-5, 1000, allow_nan=False))
def test_histogram_counts_every_score_once_and_on_its_side(scores: list[float], threshold: float) -> None:
    values = np.array(scores, dtype=np.float64)
    h = histogram(values, threshold)
    assert sum(h.counts[: h.good_bins]) == (values <= threshold).sum()
    assert sum(h.counts[h.good_bins :]) == (values > threshold).sum()
    assert len(h.edges) == len(h.counts) + 1 and list(h.edges) == sorted(h.edges)
    assert h.edges[h.good_bins] == pytest.approx(threshold, abs=1e-6)
    Page(histogram_svg(values, threshold))


def test_a_long_tail_does_not_flatten_the_good_scores() -> None:
    scores = np.concatenate([np.linspace(1, 4, 50), [5, 10, 50, 400]])
    h = histogram(scores, threshold=4.5)
    good = h.counts[: h.good_bins]
    assert len(good) >= 4 and max(good) < 30


@given(place=st.floats(-1e6, 1e6), threshold=st.floats(0.1, 100))
def test_score_axis_goes_there_and_back(place: float, threshold: float) -> None:
    axis = ScoreAxis(threshold)
    assert float(axis.score(axis.place(place))) == pytest.approx(place, rel=1e-6, abs=1e-9)


def test_axis_is_marked_with_round_numbers() -> None:
    assert round_numbers(0.5, 60.0)[:4] == [10.0, 1.0, 50.0, 5.0]
    assert round_numbers(4.0, 4.5) == pytest.approx([4.0, 4.1, 4.2, 4.3, 4.4, 4.5])


def test_a_score_just_over_the_threshold_is_never_drawn_as_good() -> None:
    for threshold in np.linspace(0.5, 50, 400):
        h = histogram(np.array([0.1, threshold, np.nextafter(threshold, 99), 99.0]), float(threshold))
        assert sum(h.counts[: h.good_bins]) == 2
        assert h.counts[h.good_bins] == 1
