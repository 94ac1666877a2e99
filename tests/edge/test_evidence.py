"""Evidence on real disks: what is kept, found again, removed, and what a full disk costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydantic
import pytest
from edge_processes import wait_for
from output_records import FRAME_BGR, an_inspection
from small_disk import SmallDisk, small_disk

from edge.draw import draw_heatmap
from edge.errors import OutputError, UsageError
from edge.outputs.evidence import EvidenceOutput, EvidenceSink, cropped
from edge.outputs.evidence_budget import Budget
from edge.outputs.evidence_store import EvidenceStore
from edge.pictures import encode_picture
from edge.result import Inspection
from edge.station.control import Control

HEAT_MAP = np.linspace(0, 4, 16 * 16, dtype=np.float32).reshape(16, 16)
HUGE = Budget(10**12)
DAY_S = 86_400.0


def opened(folder: Path, notices: list[str] | None = None, **settings: Any) -> EvidenceSink:
    keys = {"folder": str(folder), "min_free_mb": 0, **settings}
    notify = pytest.fail if notices is None else notices.append
    sink = EvidenceOutput.model_validate(keys).open(["camera"], notify, Control())
    assert isinstance(sink, EvidenceSink)
    return sink


def write(sink: EvidenceSink, number: int, verdict: str = "defect", source: str = "camera") -> Inspection:
    inspection = an_inspection(number, verdict, source)
    sink.write(inspection, FRAME_BGR, None if verdict == "no_verdict" else HEAT_MAP)
    return inspection


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.*") if path.is_file() and path.name != ".lock")


def classes(folder: Path) -> list[str]:
    """`defect_scratch` and the like, of every record that is kept, in order."""
    return [name.split("_", 2)[2].rpartition("_")[0] for name in names(folder) if name.endswith(".json")]


def jpegs(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, b"x" * 1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "evidence"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


# --- what is kept


def test_a_reject_is_kept_whole_and_found_by_its_id(folder: Path) -> None:
    with opened(folder, format="png") as sink:
        inspection = write(sink, 0)
        wait_for(lambda: sink.find(inspection.result_id))
        files = sink.find(inspection.result_id)
        assert sink.find("another") is None
    assert files and files.record and files.frame and files.heatmap and files.crop
    assert json.loads(files.record.read_text("utf-8")) == inspection.to_record()
    np.testing.assert_array_equal(cv2.imread(str(files.frame)), FRAME_BGR)  # PNG loses nothing
    np.testing.assert_array_equal(cv2.imread(str(files.crop)), FRAME_BGR[0:64, 0:64])
    assert files.heatmap.read_bytes() == encode_picture(draw_heatmap(FRAME_BGR, HEAT_MAP, 1.0), ".jpg")
    assert [path.name.split("_", 2)[2] for path in (files.record, files.frame)] == [
        f"defect_scratch_{inspection.result_id}.json",
        f"defect_scratch_{inspection.result_id}.frame.png",
    ]


def test_every_nth_good_one_of_each_camera_and_no_flood_of_missing_verdicts(folder: Path) -> None:
    with opened(folder, every_nth_good=3, no_verdict_every_s=1000, crops=False) as sink:
        for number in range(9):
            for camera in ("left", "right"):  # in turns, as the loop takes them
                write(sink, number, "good", camera)
                write(sink, number, "no_verdict", camera)
        sink.write(an_inspection(0, "no_verdict"), None)  # a lost camera has no picture
    records = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    assert [(r["source"], r["frame_id"]) for r in records if r["verdict"] == "good"] == [
        (camera, number) for number in (2, 5, 8) for camera in ("left", "right")
    ]
    assert [r["source"] for r in records if r["verdict"] == "no_verdict"] == ["left", "right"]
    assert {name.split(".", 1)[1] for name in names(folder)} == {"frame.jpg", "heatmap.jpg", "json"}


def test_what_is_not_wanted_is_not_kept(folder: Path) -> None:
    with opened(folder, every_nth_good=0, no_verdict=False, frames=False, heatmaps=False) as sink:
        for number, verdict in enumerate(("good", "no_verdict", "defect")):
            write(sink, number, verdict)
    assert [name.split(".", 1)[1] for name in names(folder)] == ["crop.jpg", "json"]


@pytest.mark.parametrize(
    ("box_xyxy", "due_wh"),
    [
        ((100, 100, 200, 150), (150, 100)),
        ((0, 0, 4, 4), (64, 64)),
        ((636, 476, 640, 480), (64, 64)),
        ((300, 200, 301, 201), (64, 64)),
        ((0, 0, 640, 480), (640, 480)),
        ((0, 100, 640, 110), (640, 330)),
    ],
)
def test_a_crop_has_a_margin_and_stays_in_the_frame(box_xyxy: tuple[int, ...], due_wh: tuple[int, int]) -> None:
    crop = cropped(FRAME_BGR, box_xyxy)  # type: ignore[arg-type]
    assert (crop.shape[1], crop.shape[0]) == due_wh
    assert cropped(FRAME_BGR[:20, :30], (1, 1, 5, 5)).shape == (20, 30, 3)  # a frame smaller than a crop


def test_a_class_can_be_called_anything_that_enrolment_takes_and_more(folder: Path) -> None:
    store, called = EvidenceStore(folder, HUGE), ["a_b c.d-e", "漆" * 64, "../../etc", "é" * 50, "x/y\0z\n"]
    inspections = [replace(an_inspection(n, "defect"), defect_class=name) for n, name in enumerate(called)]
    for inspection in inspections:
        store.save(inspection, jpegs("frame.jpg"))
    again = EvidenceStore(folder, HUGE)
    again.list_again()
    for inspection in inspections:
        files = again.find(inspection.result_id)
        assert files == store.find(inspection.result_id)
        assert (
            files and files.record and json.loads(files.record.read_text())["defect_class"] == inspection.defect_class
        )
    assert {path.parent.parent for path in folder.rglob("*.json")} == {folder}


def test_a_frame_too_strange_to_draw_on_costs_its_pictures_and_is_told_once(folder: Path) -> None:
    notices: list[str] = []
    with opened(folder, notices) as sink:
        for number in range(3):
            sink.write(an_inspection(number, "defect"), np.zeros((4, 4, 7), np.uint8), HEAT_MAP)
        kept = write(sink, 3)
        wait_for(lambda: sink.find(kept.result_id))
    assert "pictures cannot be made" in notices[0]
    assert notices[1:] == [f"{folder}: results whose pictures were not kept: 3"]


# --- the budget on the disk, and after a restart


class Clock:
    """Seconds since the epoch, as it is told."""

    def __init__(self) -> None:
        self.now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


def save(store: EvidenceStore, number: int, verdict: str = "defect", name: str | None = None) -> Inspection:
    inspection = an_inspection(number, verdict)
    inspection = replace(inspection, defect_class=name) if name else inspection
    store.save(inspection, jpegs("frame.jpg"))
    return inspection


def test_over_the_budget_good_ones_go_first_then_the_class_that_has_most(folder: Path) -> None:
    store = EvidenceStore(folder, Budget(5 * 2 * 4096))  # five results of two blocks each
    for number, (verdict, name) in enumerate(
        [("defect", "chip"), ("good", None), ("no_verdict", None), ("defect", "scratch"), ("good", None)]
    ):
        save(store, number, verdict, name)
    assert len(classes(folder)) == 5
    save(store, 5, "defect", "scratch")
    save(store, 6, "defect", "scratch")
    assert classes(folder) == ["defect_chip", "no_verdict", *["defect_scratch"] * 3]
    save(store, 7, "defect", "scratch")
    gone = save(store, 8, "good")
    assert classes(folder) == ["defect_chip", *["defect_scratch"] * 4]
    assert store.find(gone.result_id) is None
    save(store, 9, "defect", "chip")
    assert classes(folder) == ["defect_chip", *["defect_scratch"] * 3, "defect_chip"]


def test_a_restart_finds_all_and_goes_on_with_budget_and_numbers(folder: Path) -> None:
    clock = Clock()
    first = EvidenceStore(folder, HUGE, now=clock)
    inspections = [save(first, number) for number in range(6)]
    clock.now_s -= 30 * DAY_S  # the clock's battery is empty
    second = EvidenceStore(folder, Budget(10**12, max_per_class=4), now=clock)
    assert second.find(inspections[0].result_id) is None  # not listed yet
    second.list_again()
    assert [second.find(inspection.result_id) is not None for inspection in inspections] == [False] * 2 + [True] * 4
    assert second.find(inspections[5].result_id) == first.find(inspections[5].result_id)
    newest = save(second, 6)
    assert second.find(newest.result_id)
    numbers = sorted(int(name.split("_")[1]) for name in names(folder) if name.endswith("json"))
    assert numbers == [4, 5, 6, 7]


def test_what_is_too_old_goes_with_its_day(folder: Path) -> None:
    clock = Clock()
    store = EvidenceStore(folder, Budget(10**12, max_days=3), now=clock)
    for _ in range(6):
        save(store, 0)
        clock.now_s += DAY_S
    assert len(list(folder.iterdir())) == 4
    clock.now_s += 2 * DAY_S
    store.tidy()
    assert len(list(folder.iterdir())) == 1


def test_only_files_with_our_names_are_removed(folder: Path) -> None:
    day = folder / "20260101"
    day.mkdir(parents=True)
    uuid = "fe310692-9fdc-5399-b148-f5b1a9b148e3"
    ours, torn = f"20260101T000000000Z_00000001_good_{uuid}.frame.jpg", f"20260101T000000000Z_00000001_good_{uuid}.json"
    mine = ["holiday.jpg", f"{ours}.bak", f"x{ours}", f"20260101T000000000Z_1_good_{uuid}.json", "notes.json"]
    for name in (ours, *mine):
        (day / name).write_text("content")
        (folder / f"2026{name}").write_text("content")
    (day / torn).touch()  # what a power cut leaves
    (day / f".{torn}.partial").write_text("half")
    (day / f".{torn}").write_text("mine")
    (folder / "20260102").symlink_to(day)
    store = EvidenceStore(folder, Budget(0))
    store.list_again()
    assert sorted(path.name for path in day.iterdir()) == sorted([*mine, f".{torn}"])
    assert len(list(folder.iterdir())) == len(mine) + 3


def test_a_kill_leaves_nothing_half_written_behind(folder: Path) -> None:
    script = (
        "import sys; sys.path[:0] = ['tests', 'tests/edge']\n"
        "from pathlib import Path; from test_evidence import opened, write\n"
        "with opened(Path(sys.argv[1]), format='png') as sink:\n"
        "    for number in range(10**6): write(sink, number)\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.DEVNULL)
        seen = len(names(folder)) if folder.is_dir() else 0
        wait_for(lambda seen=seen: folder.is_dir() and len(names(folder)) > seen + 8, timeout_s=30)
        process.kill()
        process.wait()
    store = EvidenceStore(folder, HUGE)
    store.list_again()
    assert not [name for name in names(folder) if name.endswith(".partial")]
    for record in folder.rglob("*.json"):
        files = store.find(json.loads(record.read_text())["result_id"])
        assert files and files.frame and cv2.imread(str(files.frame)).shape == FRAME_BGR.shape


def test_a_second_run_in_the_same_folder_is_refused(folder: Path) -> None:
    with opened(folder), pytest.raises(OutputError, match="another run keeps evidence here"):
        opened(folder)
    opened(folder).close()
    (folder.parent / "file").touch()
    with pytest.raises(OutputError, match="cannot be used for evidence"):
        opened(folder.parent / "file" / "evidence")


# --- a disk that refuses


def test_a_full_disk_costs_pictures_and_is_told_when_it_begins_and_ends(disk: SmallDisk) -> None:
    notices: list[str] = []
    folder = disk.folder / "evidence"
    with opened(folder, notices) as sink:
        first = write(sink, 0)
        wait_for(lambda: sink.find(first.result_id))
        disk.fill(leave_bytes=200_000)  # the frame goes in, the heat-map does not
        for number in range(1, 4):
            write(sink, number)
        wait_for(lambda: notices)
        wait_for(lambda: sink._writer._waiting == 0)
        disk.free()
        second = write(sink, 4)
        wait_for(lambda: sink.find(second.result_id))
        wait_for(lambda: len(notices) == 2)
    assert "pictures cannot be kept (No space left on device); inspecting goes on" in notices[0]
    assert notices[1] == f"{folder}: pictures are kept again; results without so far: 3"
    assert len(names(folder)) == 8  # two results, and nothing of the others


def test_a_floor_of_free_space_is_left_to_others(disk: SmallDisk) -> None:
    notices: list[str] = []
    with opened(disk.folder / "evidence", notices, min_free_mb=2.0) as sink:
        for number in range(9):
            write(sink, number)
    free = os.statvfs(disk.folder)
    assert free.f_bavail * free.f_frsize >= 2_000_000
    assert 1 <= len(classes(disk.folder)) < 9
    assert "pictures cannot be kept (less than 2 MB free)" in notices[0]
    assert len(notices) == 2  # and at the end how many are missing


def test_read_only_removed_and_read_only_from_the_start(disk: SmallDisk) -> None:
    notices: list[str] = []
    folder = disk.folder / "a" / "evidence"
    disk.make_read_only(True)
    with opened(folder, notices) as sink:
        write(sink, 0)
        wait_for(lambda: sink._writer._waiting == 0)
        disk.make_read_only(False)
        kept = write(sink, 1)
        wait_for(lambda: sink.find(kept.result_id))
        shutil.rmtree(folder)
        again = write(sink, 2)
        wait_for(lambda: sink.find(again.result_id))
        assert sink.find(kept.result_id) is None
    assert classes(folder) == ["defect_scratch"]
    assert "Read-only file system" in notices[0]
    assert "kept again" in notices[1]


def test_a_disk_where_nothing_can_be_removed_is_not_filled_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EvidenceStore(folder, Budget(3 * 2 * 4096))
    for number in range(3):
        save(store, number)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    for number in range(3, 9):
        with pytest.raises(PermissionError):
            save(store, number)
    assert len(classes(folder)) == 4
    monkeypatch.undo()
    save(store, 9)
    assert len(classes(folder)) == 3


def test_a_result_larger_than_the_budget_removes_nothing(folder: Path) -> None:
    notices: list[str] = []
    with opened(folder, notices, max_mb=0.2) as sink:
        small = an_inspection(0, "defect")
        sink.write(small, FRAME_BGR[:64, :64], HEAT_MAP)
        wait_for(lambda: sink.find(small.result_id))
        write(sink, 1)
        wait_for(lambda: notices)
        assert sink.find(small.result_id)
    assert "more than max_mb" in notices[0]


# --- what it costs


def test_the_loop_is_not_held_and_what_cannot_wait_is_counted(folder: Path) -> None:
    notices: list[str] = []
    frame_bgr = np.tile(FRAME_BGR, (2, 2, 1))[:720, :1280]
    inspections = [an_inspection(number, "defect") for number in range(400)]
    with opened(folder, notices, queue_mb=20) as sink:
        started_s = time.perf_counter()
        for inspection in inspections:
            sink.write(inspection, frame_bgr, HEAT_MAP)
        each_ms = (time.perf_counter() - started_s) / len(inspections) * 1e3
        dropped = sink._writer.dropped
    assert each_ms < 0.5
    assert dropped > 300
    assert len(classes(folder)) == 400 - dropped
    told = [text.rpartition(": ")[2] for text in notices]
    assert told == ["1", "10", "100", str(dropped)]


def test_a_closed_output_leaves_no_thread_and_no_file_open(folder: Path) -> None:
    for _ in range(3):
        with opened(folder) as sink:
            write(sink, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "oddkind-evidence"]
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [link for link in links if str(folder) in str(link.readlink())]


# --- the model


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"frames": False, "heatmaps": False, "crops": False}, "nothing would be kept"),
        ({"format": "bmp"}, "'jpg' or 'png'"),
        ({"max_mb": 0.0}, "greater than or equal"),
        ({"every_nth_good": -1}, "greater than or equal"),
        ({"folder": ""}, "expected a path"),
    ],
)
def test_settings_that_mean_nothing_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        EvidenceOutput.model_validate({"folder": "e", **keys})


def test_what_it_will_do_in_words() -> None:
    assert EvidenceOutput.model_validate({"folder": "e"}).in_words() == (
        "evidence in e: rejects, 1 of 100 good ones; at most 2000 MB"
    )
    keys = {"folder": "e", "every_nth_good": 0, "max_mb": 0.5, "max_days": 30, "max_per_class": 9}
    assert EvidenceOutput.model_validate(keys).in_words() == (
        "evidence in e: rejects; at most 0.5 MB, 30 days, 9 of each class"
    )


def test_evidence_in_a_folder_that_is_inspected_is_refused(tmp_path: Path) -> None:
    from edge.outputs.station_outputs import Outputs
    from edge.station.file import CameraEntry, Station
    from edge.station.run import refuse_feedback

    outputs = Outputs(evidence=EvidenceOutput(folder=tmp_path / "evidence"))
    station = Station(bundle=tmp_path, cameras=[CameraEntry(source=str(tmp_path))], outputs=outputs)
    with pytest.raises(UsageError, match=r"evidence: .* lies in the source folder"):
        refuse_feedback(station)
