"""Records while a real disk is full, read-only or gone: whole lines only, in order, none lost that can wait."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from output_records import FRAME_BGR, an_inspection
from small_disk import SmallDisk, small_disk

from edge.errors import OutputError
from edge.outputs import patient_file
from edge.outputs.record_files import CsvOutput, LinesSink, RecordsOutput
from edge.outputs.sinks import AnnotatedFrameSink, Sink
from edge.outputs.station_outputs import Outputs
from edge.station.control import Control, Status
from edge.station.file import CameraEntry, Station
from edge.station.run import run_station

ROOT = Path(__file__).resolve().parents[2]
ARMED = Status("armed")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_file, "RETRY_S", 0.0)


def records(path: Path, notices: list[str], **options: Any) -> LinesSink:
    sink = RecordsOutput(file=path, **options).open(["camera"], notices.append, Control())
    assert isinstance(sink, LinesSink)
    return sink


def write(sink: Sink, *numbers: int) -> None:
    for number in numbers:
        sink.write(an_inspection(number), None)


def ids(*paths: Path) -> list[int]:
    """Frame ids of whole records, in order; a torn line raises."""
    return [json.loads(line)["frame_id"] for path in paths for line in path.read_text().splitlines()]


def test_a_full_disk_ends_nothing_and_what_waited_is_written_in_order(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices) as sink:
        write(sink, 0)
        disk.fill(leave_bytes=4096)
        write(sink, *range(1, 100))
        before = ids(path)
        assert 0 < len(before) < 60
        assert len(notices) == 1
        assert "records cannot be written (No space left on device); up to 1000 wait in memory" in notices[0]
        disk.free()
        for _ in range(3):
            sink.came_round(ARMED)
        assert ids(path) == list(range(100))
        write(sink, 100)
    assert ids(path) == list(range(101))
    assert notices[1:] == [f"{path}: records are written again; lost meanwhile: 0"]


def test_what_waited_is_rotated_like_all_else(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices, max_mb=0.005) as sink:
        disk.fill(leave_bytes=12_000)
        write(sink, *range(200))
        assert len(notices) >= 1
        disk.free()
        for _ in range(6):
            sink.came_round(ARMED)
    files = sorted(path.parent.glob("results.0*.jsonl"))
    assert len(files) > 10
    assert ids(*files, path) == list(range(200))


def test_of_more_than_can_wait_the_oldest_are_lost_counted_and_told(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices, queue_records=10) as sink:
        disk.fill()
        write(sink, *range(200))
        written = ids(path)  # what the last page of the disk took
        disk.free()
        sink.came_round(ARMED)
        assert ids(path) == [*written, *range(190, 200)]
    lost = 190 - len(written)
    assert written == list(range(len(written)))
    told = [text.rpartition(": ")[2] for text in notices if "lost so far" in text]
    assert told == [count for count in ("1", "10", "100") if int(count) <= lost]
    assert notices[-2].endswith(f"written again; lost meanwhile: {lost}")
    assert notices[-1].endswith(f"records that were not written: {lost}")


def test_a_disk_that_stays_full_is_told_at_the_end_too(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices) as sink:
        disk.fill()
        write(sink, *range(20))
    assert len(ids(path)) + int(notices[-1].rpartition(": ")[2]) == 20
    assert [text.partition(": ")[2].partition(" (")[0] for text in notices[:-1]] == ["records cannot be written"]


def test_nothing_may_wait_then_a_full_disk_is_an_error(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices, queue_records=0) as sink:
        disk.fill()
        with pytest.raises(OutputError, match=r"a record cannot be written \(No space left on device\)"):
            write(sink, *range(20))
    assert ids(path) == list(range(len(ids(path))))
    assert notices == []


def test_a_full_disk_at_the_start_keeps_nobody_from_inspecting(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    disk.make_read_only(True)
    with records(path, notices, daily=True) as sink:
        write(sink, *range(3))
        disk.make_read_only(False)
        sink.came_round(ARMED)
        assert ids(path) == [0, 1, 2]
    assert "Read-only file system" in notices[0]
    assert "written again" in notices[1]
    with pytest.raises(OutputError, match="cannot take records"):
        records(disk.folder, notices)


def test_a_disk_that_becomes_read_only_is_written_on_when_it_is_mended(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.jsonl", list[str]()
    with records(path, notices, daily=True) as sink:
        write(sink, 0)
        path.rename(disk.folder / "away.jsonl")
        sink._file._file._let_go()  # a file that is open for writing keeps the disk from being made read-only
        sink._file._file._lock.release()
        disk.make_read_only(True)
        write(sink, 1, 2)
        assert len(notices) == 1
        disk.make_read_only(False)
        write(sink, 3)
    assert ids(path) == [1, 2, 3]
    assert len(notices) == 2


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    path, notices = tmp_path / "results" / "results.jsonl", list[str]()
    with records(path, notices) as sink:
        write(sink, 0)
        shutil.rmtree(path.parent)
        write(sink, 1)
        assert ids(path) == [1]
        shutil.rmtree(path.parent)
        path.parent.write_text("a file in its place")
        write(sink, 2, 3)
        assert len(notices) == 1
        path.parent.unlink()
        write(sink, 4)
    assert ids(path) == [2, 3, 4]
    assert "written again" in notices[1]


PERMISSION = """
import os, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/edge"]
from test_full_disk import ids, patient_file, records, write
patient_file.RETRY_S = 0.0
folder = Path(sys.argv[1])
os.setgid(65534), os.setuid(65534)
path, notices = folder / "mine" / "results.jsonl", []
with records(path, notices, max_mb=0.001) as sink:
    write(sink, 0, 1)
    path.unlink()
    path.parent.chmod(0o500)
    write(sink, 2, 3, 4, 5)
    path.parent.chmod(0o700)
    write(sink, 6)
    files = sorted(path.parent.glob("results.0*"))
    print(ids(*files, path))
print(*notices, sep="\\n")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root takes a permission away from somebody else")
def test_a_permission_that_is_taken_away_and_given_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with small_disk(Path(f"/tmp/oddkind-{os.getpid()}")) as disk:  # a place that somebody else can reach
        disk.folder.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", PERMISSION, str(disk.folder)], capture_output=True, text=True, cwd=ROOT
        )
    disk.folder.rmdir()
    assert done.returncode == 0, done.stderr
    written, *notices = done.stdout.splitlines()
    assert json.loads(written) == [2, 3, 4, 5, 6]
    assert len(notices) == 2
    assert "Permission denied" in notices[0]


def test_a_disk_that_refuses_costs_the_loop_little(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_file, "RETRY_S", 1.0)
    with records(disk.folder / "results.jsonl", []) as sink:
        disk.fill()
        write(sink, *range(20))
        started_s = time.perf_counter()
        write(sink, *range(20, 520))
        each_ms = (time.perf_counter() - started_s) / 500 * 1e3
    assert each_ms < 1.0


def test_annotated_frames_wait_for_a_disk_that_is_read_only_at_the_start(disk: SmallDisk) -> None:
    folder, notices = disk.folder / "frames", list[str]()
    disk.make_read_only(True)
    with AnnotatedFrameSink(folder, keep=2, notify=notices.append) as sink:
        sink.write(an_inspection(0), FRAME_BGR)
        disk.make_read_only(False)
        for number in range(1, 5):
            sink.write(an_inspection(number), FRAME_BGR)
    assert len(list(folder.iterdir())) == 2
    assert "Read-only file system" in notices[0]
    assert notices[1:] == [f"{folder}: annotated frames are written again"]


def test_a_station_inspects_through_a_full_disk(
    disk: SmallDisk, bundle_dir: Path, good_dir: Path, defects_dir: Path, tmp_path: Path
) -> None:
    pictures, notices = tmp_path / "pictures", list[str]()
    pictures.mkdir()
    for number, path in enumerate([*sorted(good_dir.rglob("*.png")), *sorted(defects_dir.rglob("*.png"))]):
        shutil.copy(path, pictures / f"{number:03d}.png")
    keys = {"records": {"file": "results.jsonl", "max_mb": 0.01}, "csv": {"file": "results.csv"}}
    more = {"annotated": {"folder": "seen"}, "evidence": {"folder": "evidence", "min_free_mb": 0, "every_nth_good": 1}}
    outputs = Outputs.model_validate({**keys, **more}, context={"folder": disk.folder})
    station = Station(bundle=bundle_dir, cameras=[CameraEntry(source=str(pictures))], outputs=outputs)

    def notify(text: str) -> None:
        notices.append(text)
        if "results.csv: records cannot be written" in text:  # the last of the disk goes to evidence
            disk.free()

    disk.fill(leave_bytes=300_000)
    summary = run_station(station, notify)
    written = ids(*sorted(disk.folder.glob("results.0*.jsonl")), disk.folder / "results.jsonl")
    assert written == list(range(summary.frames))
    assert [row["frame_id"] for row in rows(disk.folder / "results.csv")] == [str(number) for number in written]
    assert any("evidence: pictures cannot be kept" in text for text in notices)
    assert not [text for text in notices if "were not written" in text]


# --- CSV


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def table(path: Path, notices: list[str], **options: Any) -> Sink:
    return CsvOutput(file=path, **options).open(["camera"], notices.append, Control())


def test_a_table_has_a_row_for_every_record_under_one_header(tmp_path: Path) -> None:
    path, verdicts = tmp_path / "results.csv", ["good", "defect", "no_verdict"]
    for run in (0, 3):  # a second run appends
        with table(path, []) as sink:
            for number, verdict in enumerate(verdicts):
                sink.write(an_inspection(run + number, verdict), None)
    found = rows(path)
    assert [row["verdict"] for row in found] == verdicts * 2
    assert [row["frame_id"] for row in found] == [str(number) for number in range(6)]
    assert (found[1]["defect_class"], found[1]["box_xyxy"], found[1]["relation_score"]) == (
        "scratch",
        "1 2 30 40",
        "0.9",
    )
    assert found[2]["error"] == "camera lost: é and \N{SNOWMAN}"
    assert found[2]["result_id"]


def test_every_file_of_a_rotated_table_has_its_header(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with table(path, [], max_mb=0.001) as sink:
        write(sink, *range(30))
    files = [*sorted(tmp_path.glob("results.0*.csv")), path]
    assert len(files) > 3
    assert [row["frame_id"] for file in files for row in rows(file)] == [str(number) for number in range(30)]


@pytest.mark.parametrize(
    "source", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", '"quoted", with\nbreaks\r\nand commas']
)
def test_a_row_is_one_line_and_never_a_formula(source: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with table(path, []) as sink:
        sink.write(an_inspection(0, source=source), None)
    assert path.read_bytes().count(b"\n") == 2
    (row,) = rows(path)
    assert row["source"][0] not in "=+-@"
    assert row["source"].lstrip("'") == " ".join(source.splitlines())


@pytest.mark.parametrize("left", ["captured_at,sou", "header", 'header\n2026,"torn ce', "header\n2026,torn"])
def test_a_table_that_a_power_cut_tore_is_written_on(left: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with table(path, []) as sink:
        write(sink, 0)
    header = path.read_text().splitlines()[0]
    path.write_text(left.replace("header", header))
    with table(path, []) as sink:
        write(sink, 1, 2)
    assert [row["frame_id"] for row in rows(path)][-2:] == ["1", "2"]


def test_a_table_with_other_columns_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("part,weight\n1,2\n" * 100)
    with pytest.raises(OutputError, match="begins with other columns; move it away"):
        table(path, [])
    assert path.read_text() == "part,weight\n1,2\n" * 100


def test_a_full_disk_leaves_whole_rows(disk: SmallDisk) -> None:
    path, notices = disk.folder / "results.csv", list[str]()
    with table(path, notices) as sink:
        disk.fill(leave_bytes=4096)
        write(sink, *range(100))
        assert path.read_bytes().endswith(b"\n")
        disk.free()
        sink.came_round(ARMED)
        sink.came_round(ARMED)
    assert [row["frame_id"] for row in rows(path)] == [str(number) for number in range(100)]
    assert len(notices) == 2
