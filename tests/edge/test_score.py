"""`oddkind score` on real folders: every file gets one row, and a killed run ends with the same rows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from edge.class_store import ClassStore, Support, update_class_store
from edge.cli import main
from edge.errors import OddkindError, UsageError
from edge.inspector import Inspector
from edge.result import record_schema
from edge.score import ScoreOptions, find_files, printable, score_folder

ROOT = Path(__file__).resolve().parents[2]
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


@pytest.fixture
def inspector(bundle_dir: Path, tmp_path: Path) -> Inspector:
    """The bundle without classes, whatever the shared one has."""
    return Inspector.load(bundle_dir, classes_path=tmp_path / "classes.npz")


@pytest.fixture
def pictures(tmp_path: Path, good_dir: Path, defects_dir: Path) -> Path:
    """Six pictures in two folders: three good ones, three with defects."""
    folder = tmp_path / "pictures"
    for number, path in enumerate(sorted(good_dir.rglob("*.png"))[:3]):
        copy(path, folder / "a good" / f"{number}.png")
    for number, path in enumerate(sorted(defects_dir.rglob("*.png"))[:3]):
        copy(path, folder / "odd" / f"{number}.png")
    return folder


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def rows_in(out: Path) -> list[dict[str, Any]]:
    """Every row, checked against the schema; nothing in it differs from run to run."""
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        jsonschema.validate(row, record_schema(), format_checker=FORMATS)
        assert row["latency_ms"] == {}
    return rows


def paths_in(out: Path) -> list[str]:
    return [row["path"] for row in rows_in(out)]


def bomb_png(side_px: int) -> bytes:
    """A small file that unpacks to side_px x side_px black pixels."""
    packer = zlib.compressobj(9)
    line = b"\0" * (side_px + 1)
    packed = b"".join(packer.compress(line) for _ in range(side_px)) + packer.flush()
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "score", *map(str, arguments)]


def test_every_picture_gets_one_valid_row_in_sorted_order(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    summary = score_folder(inspector, pictures, tmp_path / "out")

    rows = rows_in(tmp_path / "out")
    assert [row["path"] for row in rows] == [f"{folder}/{n}.png" for folder in ("a good", "odd") for n in range(3)]
    assert {row["source"] for row in rows} == {str(pictures)}
    assert (summary.figures.pictures, summary.scored_now, summary.errors) == (6, 6, 0)
    odd, good = ([row["anomaly_score"] for row in rows if row["path"].startswith(start)] for start in ("odd", "a good"))
    assert min(odd) > max(good)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        "results.csv",
        "results.jsonl",
        "run.json",
    ]


def test_scoring_again_scores_nothing_and_changes_nothing(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    score_folder(inspector, pictures, tmp_path / "out")
    first = (tmp_path / "out" / "results.jsonl").read_bytes()

    summary = score_folder(inspector, pictures, tmp_path / "out")

    assert summary.scored_now == 0
    assert summary.figures.pictures == 6
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == first


def test_a_second_run_elsewhere_gives_the_same_rows(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    score_folder(inspector, pictures, tmp_path / "one")
    score_folder(inspector, pictures, tmp_path / "two")
    assert rows_in(tmp_path / "one") == rows_in(tmp_path / "two")


def test_a_torn_row_is_scored_again_wherever_it_was_torn(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    score_folder(inspector, pictures, tmp_path / "out")
    expected, rows_path = rows_in(tmp_path / "out"), tmp_path / "out" / "results.jsonl"
    whole = rows_path.read_bytes()
    for cut in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        rows_path.write_bytes(whole[:cut])
        score_folder(inspector, pictures, tmp_path / "out")
        assert rows_in(tmp_path / "out") == expected


def test_a_killed_process_is_resumed_by_the_same_command(bundle_dir: Path, pictures: Path, tmp_path: Path) -> None:
    for number in range(60):
        copy(pictures / "odd" / f"{number % 3}.png", pictures / "many" / f"{number:02}.png")
    out = tmp_path / "out"
    arguments = command(bundle_dir, pictures, "--out", out, "--heatmaps")
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not (out / "results.jsonl").exists() or (out / "results.jsonl").read_bytes().count(b"\n") < 8:
        assert process.poll() is None and time.monotonic() < deadline_s, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = (out / "results.jsonl").read_bytes()
    whole_rows = before[: before.rfind(b"\n") + 1]
    assert 8 <= whole_rows.count(b"\n") < 66

    again = subprocess.run([*arguments, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["scored_now"] == 66 - whole_rows.count(b"\n")
    assert (out / "results.jsonl").read_bytes().startswith(whole_rows)
    uninterrupted = tmp_path / "uninterrupted"
    score_folder(Inspector.load(bundle_dir), pictures, uninterrupted)
    assert rows_in(out) == rows_in(uninterrupted)
    assert len(list((out / "heatmaps").rglob("*.heatmap.jpg"))) == 66
    assert not list((out / "heatmaps").rglob("*.partial"))


def test_a_changed_picture_is_scored_again_and_a_new_one_is_added(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "odd" / "1.png").write_bytes(b"broken")
    summary = score_folder(inspector, pictures, tmp_path / "out")
    assert summary.errors == 1
    copy(pictures / "odd" / "0.png", pictures / "odd" / "1.png")
    os.utime(pictures / "odd" / "1.png", (1_000_000_000, 1_000_000_000))
    copy(pictures / "odd" / "0.png", pictures / "a new one.png")

    summary = score_folder(inspector, pictures, tmp_path / "out")

    assert (summary.scored_now, summary.errors, summary.figures.pictures) == (2, 0, 7)
    assert sorted(paths_in(tmp_path / "out")) == sorted(find_files(pictures, tmp_path / "out"))
    repaired = next(row for row in rows_in(tmp_path / "out") if row["path"] == "odd/1.png")
    assert repaired["captured_at"] == "2001-09-09T01:46:40.000Z"


def test_a_row_stays_when_its_picture_has_been_moved_away(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    score_folder(inspector, pictures, tmp_path / "out")
    (pictures / "odd" / "0.png").unlink()
    assert score_folder(inspector, pictures, tmp_path / "out").figures.pictures == 6


def test_whatever_is_wrong_with_a_file_becomes_its_row(bundle_dir: Path, pictures: Path, tmp_path: Path) -> None:
    whole = (pictures / "odd" / "0.png").read_bytes()
    jpeg = cv2.imencode(".jpg", cv2.imread(str(pictures / "odd" / "0.png")))[1].tobytes()
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "directory.png").mkdir()
    (bad / "bomb.png").write_bytes(bomb_png(12_000))
    (bad / "empty.png").write_bytes(b"")
    (bad / "half.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (bad / "notes.txt").write_text("shift 2")
    (bad / "text.png").write_text("not a picture")
    (bad / "tiny.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    (bad / "whole.png").write_bytes(whole)
    with (bad / "film.avi").open("wb") as stream:
        stream.truncate(2**31)  # takes no room on the disk; reading it would take 2 GiB of memory
    (bad / "not utf8 \udcff.png").write_bytes(b"")
    out = tmp_path / "out"

    done = subprocess.run(command(bundle_dir, bad, "--out", out), cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    rows = {row["path"]: row for row in rows_in(out)}
    assert {path: row["error"] for path, row in rows.items()} == {
        "bomb.png": "cannot be decoded, broken or over 120 megapixels",
        "empty.png": "the file is empty",
        "film.avi": "2147483648 bytes, at most 1073741824 are read",
        "half.jpg": "not a picture OpenCV can decode, or broken",
        r"not utf8 \xff.png": "the file is empty",
        "notes.txt": "not a picture OpenCV can decode, or broken",
        "text.png": "not a picture OpenCV can decode, or broken",
        "tiny.png": "4 x 4 px, at least 8 needed",
        "whole.png": None,
    }
    assert rows["whole.png"]["verdict"] == "defect"
    assert (out / "results.csv").read_text("utf-8").count("no_verdict") == 8


def test_strange_shapes_and_names_are_scored(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    cv2.imwrite(str(strange / "strip.png"), np.zeros((8, 100_000, 3), np.uint8))
    cv2.imwrite(str(strange / "16 bit.png"), np.full((50, 60), 30_000, np.uint16))
    copy(pictures / "odd" / "0.png", strange / "line\nbreak.png")
    copy(pictures / "odd" / "0.png", strange / "bytes \udcff\udcfe.png")
    copy(pictures / "odd" / "0.png", strange / r"bytes \xff.png")
    copy(pictures / "odd" / "0.png", strange / ("é" * 120 + ".png"))

    summary = score_folder(inspector, strange, tmp_path / "out", ScoreOptions(heatmaps=True, report=True))

    assert (summary.errors, summary.figures.pictures) == (0, 6)
    assert len(set(paths_in(tmp_path / "out"))) == 6
    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 6
    assert score_folder(inspector, strange, tmp_path / "out").scored_now == 0


def test_names_as_text_are_never_the_same_for_two_files() -> None:
    names = [os.fsdecode(name) for name in (b"a\xff", rb"a\xff", rb"a\\xff", b"a\\\xff", "aÿ".encode())]
    texts = [printable(Path(name)) for name in names]
    assert len(set(texts)) == len(names)
    assert printable(Path("größe/Ä 1.png")) == "größe/Ä 1.png"
    assert all(text.encode() for text in texts)


def test_heatmaps_of_all_or_of_rejects_only(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    score_folder(inspector, pictures, tmp_path / "out", ScoreOptions(report=True))
    verdicts = {row["path"]: row["verdict"] for row in rows_in(tmp_path / "out")}
    heatmaps = tmp_path / "out" / "heatmaps"
    drawn = {path.relative_to(heatmaps).as_posix().removesuffix(".heatmap.jpg") for path in heatmaps.rglob("*.jpg")}
    assert drawn == {path for path, verdict in verdicts.items() if verdict == "defect"}
    rows = (tmp_path / "out" / "results.jsonl").read_bytes()

    summary = score_folder(inspector, pictures, tmp_path / "out", ScoreOptions(heatmaps=True))

    assert summary.scored_now == 6 - len(drawn)  # only what had no heat-map
    assert len(list(heatmaps.rglob("*.jpg"))) == 6
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == rows


def test_a_heatmap_that_cannot_be_written_stops_the_run_before_its_row(
    inspector: Inspector, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(OddkindError, match="cannot be written"):
        score_folder(inspector, pictures, out, ScoreOptions(heatmaps=True), _then_break(out))
    assert paths_in(out) == ["a good/0.png"]

    (out / "heatmaps").unlink()
    score_folder(inspector, pictures, out, ScoreOptions(heatmaps=True))

    assert len(paths_in(out)) == 6
    assert len(list((out / "heatmaps").rglob("*.jpg"))) == 6


def _then_break(out: Path) -> Any:
    """After the first picture the heat-map folder becomes a file, as on a disk that fails."""

    def on_progress(names: Any) -> Any:
        for number, name in enumerate(names):
            if number == 1:
                shutil.rmtree(out / "heatmaps")
                (out / "heatmaps").write_text("")
            yield name

    return on_progress


def test_always_type_names_good_pictures_too(bundle_dir: Path, pictures: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.npz"
    plain = Inspector.load(bundle_dir, classes_path=classes)
    descriptors = np.random.default_rng(0).normal(size=(2, len(plain.centre))).astype(np.float32)
    supports = [Support(name, "x", name, (0, 0, 9, 9), 1.0, "2026-11-23T20:00:00.000Z") for name in ("dent", "hole")]
    update_class_store(
        classes,
        plain.manifest.bundle_id,
        len(plain.centre),
        lambda store: ClassStore(store.bundle_id, tuple(supports), descriptors),
    )
    inspector = Inspector.load(bundle_dir, classes_path=classes)

    score_folder(inspector, pictures, tmp_path / "usual")
    score_folder(inspector, pictures, tmp_path / "always", ScoreOptions(always_type=True))

    for row in rows_in(tmp_path / "usual"):
        assert (row["defect_class"] is None) == (row["verdict"] == "good")
    for row in rows_in(tmp_path / "always"):
        assert row["defect_class"] in ("dent", "hole", "unknown")
        assert {candidate["defect_class"] for candidate in row["regions"][0]["ranking"]} == {"dent", "hole"}
    classes.write_bytes(classes.read_bytes() + b" ")
    with pytest.raises(UsageError, match="another classes_sha256"):
        score_folder(inspector, pictures, tmp_path / "usual")


def test_results_inside_the_folder_are_not_scored(inspector: Inspector, pictures: Path) -> None:
    options = ScoreOptions(heatmaps=True)
    score_folder(inspector, pictures, pictures / "monday", options)
    score_folder(inspector, pictures, pictures / "tuesday", options)
    assert score_folder(inspector, pictures, pictures / "tuesday", options).scored_now == 0
    assert len(paths_in(pictures / "tuesday")) == 6


def test_usage_that_cannot_mean_anything_is_one_line_and_exit_code_2(
    bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "a file").write_text("x")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.doc").write_text("x")
    for folder, out, line in [
        ("nowhere", "out", "no such folder; give a folder of pictures"),
        ("a file", "out", "no such folder; give a folder of pictures"),
        ("empty", "out", "no files in it; give a folder of pictures"),
        ("pictures", "pictures", "is or contains the folder of pictures; choose another --out"),
        ("pictures", ".", "is or contains the folder of pictures; choose another --out"),
        ("pictures", "taken", "exists and holds no result of oddkind score; choose another --out"),
        ("pictures", "a file", "is a file, a folder is needed; choose another --out"),
    ]:
        done = CliRunner().invoke(
            main, ["score", str(bundle_dir), str(tmp_path / folder), "--out", str(tmp_path / out)]
        )
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert done.stderr.startswith("oddkind: ") and done.stderr.endswith(line + "\n"), done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "taken" / "thesis.doc").read_text() == "x"
    assert not (tmp_path / "out").exists()


def test_results_of_another_folder_need_overwrite(bundle_dir: Path, pictures: Path, tmp_path: Path) -> None:
    def score(folder: Path, *options: str) -> Any:
        return CliRunner().invoke(
            main, ["score", str(bundle_dir), str(folder), "--out", str(tmp_path / "out"), *options]
        )

    assert score(pictures / "odd").exit_code == 0
    refused = score(pictures / "a good")
    assert refused.exit_code == 2
    assert "holds results with another folder" in refused.stderr
    assert score(pictures / "a good", "--overwrite").exit_code == 0
    assert paths_in(tmp_path / "out") == ["0.png", "1.png", "2.png"]
    assert rows_in(tmp_path / "out")[0]["source"] == str(pictures / "a good")


def test_command_prints_a_summary_for_people_and_for_machines(bundle_dir: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ["score", str(bundle_dir), str(pictures), "--out", str(tmp_path / "out")]
    text = CliRunner().invoke(main, arguments)
    assert text.exit_code == 0
    assert text.stdout.startswith("6 files: ")
    document = json.loads(CliRunner().invoke(main, [*arguments, "--json", "--report"]).stdout)
    assert document["good"] + document["defect"] == document["pictures"] == 6
    assert [Path(path).name for path in document["files"]] == ["results.jsonl", "results.csv", "report.html"]
    assert document["latency_p50_ms"] > 0
