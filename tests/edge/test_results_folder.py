"""The result folder: what is whole stays, what is torn goes, and nobody else's files are touched."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import OutputError, UsageError
from edge.result import Inspection, Provenance, Region
from edge.results_folder import ResultsFolder, RunFacts
from edge.table import table_row

FACTS = RunFacts("0" * 16, "/pictures", None, "onnxruntime", "int8", False)


def inspection(path: str, *regions: Region) -> Inspection:
    provenance = Provenance("/pictures", 0, "2026-11-23T20:00:00.000Z", path)
    return Inspection(provenance, "0" * 16, "defect", 3.0, 2.0, regions)


def write_rows(folder: Path, *paths: str, facts: RunFacts = FACTS, overwrite: bool = False) -> None:
    with ResultsFolder.opened(folder, facts, overwrite) as results, results.appending() as sink:
        for path in paths:
            sink.write(inspection(path), None)


def paths_in(folder: Path) -> list[str]:
    with ResultsFolder.opened(folder, FACTS) as results:
        return [record["path"] for record in results.records()]


def test_rows_of_a_later_run_follow_those_of_an_earlier_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "out", "a.png", "b.png")
    write_rows(tmp_path / "out", "c.png")
    assert paths_in(tmp_path / "out") == ["a.png", "b.png", "c.png"]


@settings(max_examples=60, deadline=None)
@given(cut_bytes=st.integers(min_value=0))
def test_a_run_killed_at_any_byte_keeps_every_whole_row(
    tmp_path_factory: pytest.TempPathFactory,
    cut_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("killed") / "out"
    write_rows(folder, "a.png", "b.png", "ü.png")
    rows = folder / "results.jsonl"
    whole = rows.read_bytes()
    kept = whole[: cut_bytes % (len(whole) + 1)]
    rows.write_bytes(kept)

    assert paths_in(folder) == ["a.png", "b.png", "ü.png"][: kept.count(b"\n")]
    assert whole.startswith(rows.read_bytes())


def test_a_row_longer_than_a_read_block_is_cut_whole(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.png", "b" * 200_000)
    rows = tmp_path / "results.jsonl"
    rows.write_bytes(rows.read_bytes()[:-10])
    assert paths_in(tmp_path) == ["a.png"]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.png")
    with (tmp_path / "results.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(OutputError, match="line 2 is not a record"):
        paths_in(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        replace(FACTS, bundle_id="1" * 16),
        replace(FACTS, folder="/elsewhere"),
        replace(FACTS, classes_sha256="ab"),
        replace(FACTS, precision="fp32"),
        replace(FACTS, always_type=True),
    ],
)
def test_rows_made_otherwise_are_not_mixed(tmp_path: Path, other: RunFacts) -> None:
    write_rows(tmp_path, "a.png")

    with pytest.raises(UsageError, match="choose another --out, or add --overwrite"):
        write_rows(tmp_path, "b.png", facts=other)

    assert paths_in(tmp_path) == ["a.png"]


def test_overwrite_removes_what_score_wrote_and_nothing_else(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.png")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "heatmaps").mkdir()
    (tmp_path / "heatmaps" / "a.png.heatmap.jpg").write_bytes(b"old")

    write_rows(tmp_path, "b.png", overwrite=True)

    assert paths_in(tmp_path) == ["b.png"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "heatmaps").exists()


def test_a_folder_of_somebody_else_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds no result of oddkind score"):
        write_rows(tmp_path, "a.png", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        write_rows(tmp_path / "out", "a.png")


def test_two_runs_at_once_do_not_write_to_one_result(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.png")
    with FileLock(tmp_path / ".lock"), pytest.raises(UsageError, match="another oddkind score is writing"):
        write_rows(tmp_path, "b.png")


def test_forgotten_pictures_lose_row_and_heatmap(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.png", "b.png", "c.png")
    with ResultsFolder.opened(tmp_path, FACTS) as results:
        for path in (results.heatmap_path("a.png"), results.heatmap_path("b.png")):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        results.forget({"b.png"})
        assert results.heatmap_path("a.png").exists() and not results.heatmap_path("b.png").exists()
    assert paths_in(tmp_path) == ["a.png", "c.png"]


def test_table_has_a_line_a_row_with_the_strongest_region(tmp_path: Path) -> None:
    strongest = Region((1, 2, 30, 40), 99, 3.5, "scratch", 0.9)
    with ResultsFolder.opened(tmp_path, FACTS) as results:
        with results.appending() as sink:
            sink.write(inspection("a, b.png", strongest, Region((5, 5, 6, 6), 1, 2.5)), None)
            sink.write(inspection("new\nline.png"), None)
        with results.tables() as tables:
            for record in results.records():
                tables[0].add(record)
    table = tmp_path / "results.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == ["a, b.png", "new\nline.png"]
    assert (rows[0]["box_xyxy"], rows[0]["relation_score"], rows[0]["anomaly_score"]) == ("1 2 30 40", "0.9", "3.0")
    assert (rows[1]["box_xyxy"], rows[1]["relation_score"], rows[1]["error"]) == ("", "", "")


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\t=1.png", "\r=1.png"])
def test_a_file_name_cannot_be_a_formula_in_a_spreadsheet(name: str) -> None:
    record = inspection(name).to_record()
    assert table_row(record)[0] == "'" + name


def test_a_negative_score_stays_a_number_in_the_table() -> None:
    record = json.loads(replace(inspection("a.png"), verdict="good", anomaly_score=-0.5).to_json())
    assert table_row(record)[2] == "-0.5"


def test_heatmaps_keep_the_tree_and_fit_a_file_system(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path)
    assert results.heatmap_path("lot 1/a.png") == tmp_path / "heatmaps" / "lot 1" / "a.png.heatmap.jpg"
    assert results.heatmap_path("a.png") != results.heatmap_path("a.jpg")
    long_names = [results.heatmap_path("é" * 126 + end).name for end in ("a.png", "b.png")]
    assert long_names[0] != long_names[1]
    assert all(len(name.encode()) < 200 for name in long_names)
