"""The loop and its sinks with a real bundle: every record valid, nothing stops it but its end or a stop."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from calling_sink import CallingSink
from mjpeg_server import MjpegServer

from edge.bundle import Bundle
from edge.cameras.frames import Camera, Frame, Frames
from edge.cameras.sources import open_camera
from edge.class_store import ClassStore, Support, update_class_store
from edge.errors import OutputError
from edge.inspector import Inspector
from edge.loop import run
from edge.outputs.sinks import AnnotatedFrameSink, JsonLinesSink, Sink, annotated_name
from edge.pictures import read_picture
from edge.result import Classification, Inspection, Provenance, no_verdict, utc_now
from edge.run_summary import CameraSummary, RunSummary


class GivenFrames(Camera):
    """A camera that sends the frames it was given."""

    name = "given frames"

    def __init__(self, *frames_bgr: np.ndarray) -> None:
        self.frames_bgr = frames_bgr

    def frames(self, stop: threading.Event) -> Frames:
        for frame_id, frame_bgr in enumerate(self.frames_bgr):
            yield Frame(frame_bgr, Provenance(self.name, frame_id, utc_now()))


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, without classes."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    Bundle.open(folder).classes_path.unlink(missing_ok=True)
    return folder


@pytest.fixture
def inspector(bundle: Path) -> Inspector:
    return Inspector.load(bundle)


@pytest.fixture
def mixed(tmp_path: Path, good_dir: Path, defects_dir: Path) -> Path:
    """Three pictures in order: a good one, a broken one, a defect."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(first_picture(good_dir), folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG cut off")
    shutil.copy(first_picture(defects_dir), folder / "c.png")
    return folder


def first_picture(folder: Path) -> Path:
    return min(folder.rglob("*.png"))


def store_with(inspector: Inspector, picture: Path, name: str) -> ClassStore:
    """A class store with the strangest region of one picture in it."""
    frame_bgr = read_picture(picture)
    anomaly = inspector.detect(frame_bgr)
    region = inspector.find_regions(anomaly)[0]
    box_xyxy = region.box_xyxy((frame_bgr.shape[0], frame_bgr.shape[1]))
    support = Support(name, picture.name, "0" * 64, box_xyxy, anomaly.anomaly_score, utc_now())
    empty = ClassStore.empty(inspector.manifest.bundle_id, len(inspector.centre))
    return empty.with_supports([support], inspector.describe(frame_bgr, anomaly, region)[np.newaxis])


def save_store(inspector: Inspector, store: ClassStore) -> None:
    update_class_store(inspector.classes_path, store.bundle_id, len(inspector.centre), lambda old: store)


def run_on(source: Path | str, inspector: Inspector, *sinks: Sink, **options: Any) -> RunSummary:
    with open_camera(str(source), lost_after_s=1.0) as camera:
        return run([camera], inspector, sinks, **options)


# --- the loop


def test_a_folder_becomes_one_valid_record_a_picture(mixed: Path, inspector: Inspector) -> None:
    sink = CallingSink()
    summary = run_on(mixed, inspector, sink)
    assert sink.of("verdict") == ["good", "no_verdict", "defect"]
    assert sink.of("path") == ["a.png", "b.png", "c.png"]
    assert sink.of("frame_id") == [0, 1, 2]
    assert "b.png" in sink.records[1]["error"]
    assert sink.records[2]["regions"]
    assert summary == RunSummary((CameraSummary(str(mixed), 3, 1, 1, 1, dropped=0, reconnects=0),))
    assert str(summary) == "3 frames: 1 good, 1 defect, 1 no_verdict; 0 dropped, 0 reconnects"


def test_the_same_folder_gives_the_same_result_ids_again(mixed: Path, inspector: Inspector) -> None:
    first, second = CallingSink(), CallingSink()
    run_on(mixed, inspector, first)
    run_on(mixed, inspector, second)
    assert first.of("result_id") == second.of("result_id")
    assert len(set(first.of("result_id"))) == 3


def test_a_frame_that_cannot_be_inspected_is_a_record_and_the_loop_goes_on(
    good_dir: Path, inspector: Inspector, tmp_path: Path
) -> None:
    good_bgr = read_picture(first_picture(good_dir))
    grey = np.zeros((40, 40), np.uint8)  # a driver that lost its colours: the backbone refuses one channel
    sink, annotated = CallingSink(), AnnotatedFrameSink(tmp_path / "frames", keep=9, notify=lambda text: None)
    run([GivenFrames(good_bgr, grey, good_bgr)], inspector, [sink, annotated])
    assert sink.of("verdict") == ["good", "no_verdict", "good"]
    assert "cannot be inspected" in sink.records[1]["error"]


def test_a_score_that_json_cannot_hold_is_a_record_without_verdict(
    defects_dir: Path, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_store(inspector, store_with(inspector, first_picture(defects_dir), "chip"))
    inspector.reload_classes()
    damaged = (Classification("chip", math.nan),)  # what a damaged relation head answers
    monkeypatch.setattr(inspector.classifier, "rank", lambda descriptor: damaged)
    sink = CallingSink()
    run([GivenFrames(read_picture(first_picture(defects_dir)))], inspector, [sink])
    assert sink.of("verdict") == ["no_verdict"]


def test_max_frames_ends_the_run(good_dir: Path, inspector: Inspector) -> None:
    sink = CallingSink()
    assert run_on(good_dir, inspector, sink, max_frames=2).frames == 2
    assert len(sink.records) == 2


def test_stop_ends_the_run_after_a_whole_record(good_dir: Path, inspector: Inspector) -> None:
    stop = threading.Event()
    sink = CallingSink(lambda count: stop.set() if count == 3 else None)
    assert run_on(good_dir, inspector, sink, stop=stop).frames == 3


def test_always_type_shows_the_strangest_region_of_a_good_part(good_dir: Path, inspector: Inspector) -> None:
    sink = CallingSink()
    run_on(first_picture(good_dir), inspector, sink, always_type=True)
    assert sink.of("verdict") == ["good"]
    assert sink.records[0]["regions"]


def test_a_class_enrolled_while_running_names_the_next_frame(defects_dir: Path, inspector: Inspector) -> None:
    picture = first_picture(defects_dir)
    store = store_with(inspector, picture, "chip")
    frame_bgr = read_picture(picture)
    sink = CallingSink(lambda count: save_store(inspector, store) if count == 1 else None)
    notices: list[str] = []
    run([GivenFrames(frame_bgr, frame_bgr)], inspector, [sink], notify=notices.append)
    assert sink.of("defect_class") == [None, "chip"]
    assert notices == ["classes: chip"]


@pytest.mark.parametrize("damage", ["garbage", "empty file", "another bundle's"])
def test_a_broken_class_store_leaves_the_old_classes_in_force_and_is_told_once(
    damage: str, defects_dir: Path, inspector: Inspector
) -> None:
    picture = first_picture(defects_dir)
    store = store_with(inspector, picture, "chip")
    foreign = ClassStore("f" * 16, store.supports, store.descriptors)
    contents = {"garbage": b"PK\x03\x04 not a store", "empty file": b"", "another bundle's": foreign.to_bytes()}
    save_store(inspector, store)

    def damage_then_repair(count: int) -> None:
        if count == 1:
            inspector.classes_path.write_bytes(contents[damage])
        if count == 3:
            inspector.classes_path.write_bytes(store.renamed("chip", "nick").to_bytes())

    frame_bgr = read_picture(picture)
    sink, notices = CallingSink(damage_then_repair), list[str]()
    run([GivenFrames(*[frame_bgr] * 4)], inspector, [sink], notify=notices.append)
    assert sink.of("defect_class") == ["chip", "chip", "chip", "nick"]
    assert len(notices) == 3
    assert notices[0] == "classes: chip"
    assert "stay in force" in notices[1]
    assert notices[2] == "classes: nick"


# --- live


@pytest.fixture
def station_camera(good_dir: Path) -> Iterator[MjpegServer]:
    good_bgr = read_picture(first_picture(good_dir))
    with MjpegServer(lambda number: good_bgr, fps=100) as server:
        yield server


def test_frames_dropped_by_a_slow_sink_are_counted(station_camera: MjpegServer, inspector: Inspector) -> None:
    sink = CallingSink(lambda count: threading.Event().wait(0.1))
    summary = run_on(station_camera.url, inspector, sink, max_frames=4)
    assert summary.frames == 4
    assert summary.dropped == sink.of("frame_id")[-1] - 3 > 0


def test_a_lost_camera_is_one_record_and_the_loop_goes_on(station_camera: MjpegServer, inspector: Inspector) -> None:
    def pull_the_plug(count: int) -> None:
        if count == 2:
            station_camera.stop()
            threading.Timer(0.3, station_camera.start).start()

    sink, notices = CallingSink(pull_the_plug), list[str]()
    summary = run_on(station_camera.url, inspector, sink, max_frames=8, notify=notices.append)
    assert sink.of("verdict").count("no_verdict") == summary.no_verdict == 1
    assert sink.of("verdict")[-1] == "good"
    assert "camera lost" in next(error for error in sink.of("error") if error)
    assert summary.reconnects == 1
    assert [("reconnect" in text, "back" in text) for text in notices] == [(True, False), (False, True)]


def test_a_sink_that_fails_lets_go_of_the_camera(station_camera: MjpegServer, inspector: Inspector) -> None:
    def fail(count: int) -> None:
        raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        run_on(station_camera.url, inspector, CallingSink(fail))
    assert not [thread for thread in threading.enumerate() if thread.name == "oddkind-grabber"]


# --- sinks


def an_inspection(frame_id: int) -> Inspection:
    provenance = Provenance("camera", frame_id, "2026-11-23T20:48:12.123Z")
    return no_verdict(provenance, "0" * 16, 1.0, "é and \N{SNOWMAN}")


def test_json_lines_are_appended_and_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "results.jsonl"
    with JsonLinesSink(path) as sink:
        sink.write(an_inspection(0), None)
    path.write_bytes(path.read_bytes() + b'{"torn')
    with JsonLinesSink(path) as sink:
        sink.write(an_inspection(1), None)
    first, torn, second = path.read_bytes().splitlines()
    assert [json.loads(line)["frame_id"] for line in (first, second)] == [0, 1]
    assert torn == b'{"torn'


def test_each_line_is_in_the_file_before_the_next_frame(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with JsonLinesSink(path) as sink:
        for frame_id in range(3):
            sink.write(an_inspection(frame_id), None)
            assert path.read_bytes().count(b"\n") == frame_id + 1


def test_a_device_without_space_is_one_clear_line() -> None:
    with JsonLinesSink(Path("/dev/full")) as sink, pytest.raises(OutputError, match="No space left"):
        sink.write(an_inspection(0), None)


def test_records_cannot_go_to_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose another --out"):
        JsonLinesSink(tmp_path)


def test_only_the_newest_annotated_frames_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"a person's own picture")
    frame_bgr = np.full((48, 64, 3), 90, np.uint8)
    for frame_ids in (range(3), range(3, 6)):  # two runs into the same folder
        with AnnotatedFrameSink(tmp_path, keep=2, notify=pytest.fail) as sink:
            for frame_id in frame_ids:
                sink.write(an_inspection(frame_id), frame_bgr)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [annotated_name(an_inspection(4)), annotated_name(an_inspection(5)), "mine.jpg"]
    drawn = cv2.imread(str(tmp_path / names[0]))
    assert drawn.shape[0] > 48  # the banner stands above the frame


def test_a_moment_without_a_picture_leaves_no_annotated_frame(tmp_path: Path) -> None:
    with AnnotatedFrameSink(tmp_path, keep=2, notify=pytest.fail) as sink:
        sink.write(an_inspection(0), None)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_pictures_is_told_once_and_costs_no_inspection(tmp_path: Path) -> None:
    folder, notices = tmp_path / "frames", list[str]()
    with AnnotatedFrameSink(folder, keep=2, notify=notices.append) as sink:
        folder.rmdir()
        folder.write_bytes(b"somebody put a file here")
        for frame_id in range(3):
            sink.write(an_inspection(frame_id), np.zeros((48, 64, 3), np.uint8))
        assert len(notices) == 1
        folder.unlink()
        for frame_id in range(3):
            sink.write(an_inspection(frame_id), np.zeros((48, 64, 3), np.uint8))
    assert "annotated frames are not complete" in notices[0]
    assert notices[1:] == [f"{folder}: annotated frames are written again"]
