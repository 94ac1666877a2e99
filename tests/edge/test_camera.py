"""Cameras against real sources: a video file, picture folders and an MJPEG server that fails on purpose."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mjpeg_server import MjpegServer, plain_frame

from edge.cameras import live as live_camera
from edge.cameras.address import identity, is_device, is_live, redacted, url_scheme
from edge.cameras.frames import Frame, Frames, NoFrame
from edge.cameras.live import LiveCamera, back_off_s
from edge.cameras.sources import open_camera
from edge.errors import CameraError
from edge.result import iso_utc

NEVER = threading.Event()
LOST_AFTER_S = 0.6


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer(fps=40) as camera:
        yield camera


def write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(frames):
        writer.write(plain_frame(number))
    writer.release()
    return path


def write_grey(path: Path, grey: int) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.full((48, 64, 3), grey, np.uint8))


def number_of(frame: Frame) -> int:
    """The server's own number of the frame, read out of its pixels."""
    return round(float(frame.frame_bgr.mean()) / 10)


def take(frames: Frames, count: int) -> list[Frame | NoFrame]:
    return list(itertools.islice(frames, count))


# --- addresses


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:hunter2@10.0.0.5:554/ch1", "rtsp://admin:***@10.0.0.5:554/ch1"),
        ("rtsp://admin:hun@ter:2@10.0.0.5/ch1?a=1", "rtsp://admin:***@10.0.0.5/ch1?a=1"),
        ("rtsp://admin:hun/ter#2@10.0.0.5/ch1", "rtsp://admin:***@10.0.0.5/ch1"),
        ("HTTP://token@camera/video", "HTTP://***@camera/video"),
        ("http://camera/video.cgi?user=a&pwd=b&res=2", "http://camera/video.cgi?user=a&pwd=***&res=2"),
        ("rtsp://camera/user=admin_password=tl_channel=1.sdp", "rtsp://camera/user=admin_password=***"),
        ("http://[fe80::1]:8080/video", "http://[fe80::1]:8080/video"),
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("parts/mon:day@1", "parts/mon:day@1"),
    ],
)
def test_addresses_are_shown_without_their_password(source: str, shown: str) -> None:
    assert redacted(source) == shown


@given(
    user=st.text("abcXYZ09.-", max_size=5),
    tail=st.text("ab1@:/?#&=%", max_size=8),
    path=st.text("ab1/?&@:", max_size=8),
)
def test_no_password_survives_however_it_is_written(user: str, tail: str, path: str) -> None:
    assert "SECRET" not in redacted(f"rtsp://{user}:SECRET{tail}@camera:554/{path}")


def test_a_file_name_that_is_no_utf8_can_be_shown() -> None:
    assert redacted(os.fsdecode(b"part\xff.png")) == "part\\xff.png"


@pytest.mark.parametrize("source", ["0", "/dev/video97", "/dev/null", "rtsp://c/1", "http://c/v", "ftp://c/1"])
def test_cameras_and_streams_are_live(source: str) -> None:
    assert is_live(source)
    assert is_device(source) is source.startswith("/dev/")


def test_files_and_what_is_not_there_are_not_live_and_one_folder_is_one(tmp_path: Path) -> None:
    for source in (str(tmp_path), "line.mp4", "", "-1", "x" * 5000, "a:b"):
        assert not is_live(source)
    (tmp_path / "link").symlink_to(tmp_path)
    assert identity(f"{tmp_path}/link") == identity(str(tmp_path)) == str(tmp_path)
    assert identity("rtsp://a:b@c/1") == "rtsp://a:***@c/1"


@pytest.mark.parametrize(("source", "scheme"), [("RTSP://a", "rtsp"), ("0", None), ("a/b:c", None), ("s3://b/k", "s3")])
def test_scheme_of_an_address(source: str, scheme: str | None) -> None:
    assert url_scheme(source) == scheme


# --- files


def test_a_video_file_gives_every_frame_in_order_and_ends(tmp_path: Path) -> None:
    video = write_video(tmp_path / "line.avi", 20)
    os.utime(video, (1_700_000_000, 1_700_000_000))
    with open_camera(str(video)) as camera:
        frames = list(camera.frames(NEVER))
    assert [number_of(frame) for frame in frames] == list(range(20))
    assert [frame.provenance.frame_id for frame in frames] == list(range(20))
    assert {frame.dropped_before for frame in frames} == {0}
    first = frames[0].provenance
    assert (first.source, first.path, first.captured_at) == (str(video), "line.avi", iso_utc(1_700_000_000))


def test_a_video_file_that_was_cut_off_says_so_after_its_last_frame(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", 40).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    with open_camera(str(cut)) as camera:
        *frames, last = camera.frames(NEVER)
    assert 0 < len(frames) < 40
    assert all(isinstance(frame, Frame) for frame in frames)
    assert isinstance(last, NoFrame)
    assert not last.lost
    assert f"announces 40 frames, {len(frames)} could be read" in last.reason


def test_a_folder_gives_every_picture_in_order_and_says_which_is_broken(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", 10)
    (tmp_path / "b.jpg").write_bytes(b"half a pict")
    write_grey(tmp_path / "lot2" / "c.bmp", 30)
    (tmp_path / "notes.txt").write_text("no picture")
    with open_camera(str(tmp_path)) as camera:
        a, b, c = camera.frames(NEVER)
    assert [item.provenance.path for item in (a, b, c)] == ["a.png", "b.jpg", "lot2/c.bmp"]
    assert [item.provenance.frame_id for item in (a, b, c)] == [0, 1, 2]
    assert [number_of(item) for item in (a, c)] == [1, 3]
    assert isinstance(b, NoFrame)
    assert "b.jpg" in b.reason


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    write_grey(tmp_path / "part.png", 50)
    with open_camera(str(tmp_path / "part.png")) as camera:
        (frame,) = camera.frames(NEVER)
    assert (number_of(frame), frame.provenance.path) == (5, "part.png")


def test_a_picture_that_vanished_is_a_moment_without_a_picture(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", 10)
    with open_camera(str(tmp_path)) as camera:
        (tmp_path / "a.png").unlink()
        (item,) = camera.frames(NEVER)
    assert isinstance(item, NoFrame)


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_stop_ends_a_file_source(tmp_path: Path, kind: str) -> None:
    if kind == "video":
        source = write_video(tmp_path / "line.avi", 5)
    else:
        write_grey(tmp_path / "a.png", 10)
        write_grey(tmp_path / "b.png", 10)
        source = tmp_path
    stop = threading.Event()
    with open_camera(str(source)) as camera:
        frames = camera.frames(stop)
        next(frames)
        stop.set()
        assert list(frames) == []


# --- broken sources

BROKEN = {
    "": "no such file or folder",
    "no/such/folder": "no such file or folder",
    "99": "cannot be opened",
    "/dev/video99": "cannot be opened",
    "s3://bucket/parts": "s3:// is not supported",
    "http://user:hunter2@127.0.0.1:9/video": "cannot be opened",
    "rtsp://user:hunter2@127.0.0.1:9/video": "cannot be opened",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_source_that_never_opens_is_one_clear_line(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CameraError, match=BROKEN[source]) as caught, open_camera(source) as camera:
        list(camera.frames(NEVER))
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert capfd.readouterr() == ("", "")  # neither OpenCV nor FFmpeg talks in between


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"RIFF" + bytes(200)])
def test_a_file_that_is_no_video_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "line.mp4").write_bytes(content)
    with pytest.raises(CameraError, match="not a video"), open_camera(str(tmp_path / "line.mp4")) as camera:
        list(camera.frames(NEVER))


def test_a_folder_without_pictures_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(CameraError, match="no pictures in this folder"):
        open_camera(str(tmp_path))


def test_a_camera_that_answers_and_stays_mute_is_one_clear_line(server: MjpegServer) -> None:
    server.freeze()
    with open_camera(server.url, LOST_AFTER_S) as camera, pytest.raises(CameraError, match="check the address"):
        list(camera.frames(NEVER))


# --- live sources


def test_a_fast_consumer_sees_every_frame_of_a_live_source(server: MjpegServer) -> None:
    with open_camera(server.url) as camera:
        frames = take(camera.frames(NEVER), 10)
    assert [number_of(frame) for frame in frames] == [frame.provenance.frame_id for frame in frames]
    assert frames[0].provenance.path is None


def test_a_slow_consumer_gets_the_newest_frame_and_the_number_of_dropped_ones(server: MjpegServer) -> None:
    seen: list[Frame] = []
    with open_camera(server.url) as camera:
        for frame in itertools.islice(camera.frames(NEVER), 4):
            seen.append(frame)
            sleep(0.12)  # about five frames of the server
    ids = [frame.provenance.frame_id for frame in seen]
    assert [number_of(frame) for frame in seen] == ids  # the number is that of the source, not of what was taken
    gaps = [after - before - 1 for before, after in itertools.pairwise([-1, *ids])]
    assert [frame.dropped_before for frame in seen] == gaps
    assert sum(gaps) > 0


@pytest.mark.parametrize("fault", ["frozen", "switched off"])
def test_a_lost_camera_is_told_once_and_comes_back(server: MjpegServer, fault: str) -> None:
    with open_camera(server.url, LOST_AFTER_S) as camera:
        frames = camera.frames(NEVER)
        before = take(frames, 3)[-1]
        break_it, repair = (server.freeze, server.thaw) if fault == "frozen" else (server.stop, server.start)
        break_it()
        lost = next(item for item in frames if isinstance(item, NoFrame))
        threading.Timer(0.3, repair).start()
        after = take(frames, 3)
    assert lost.lost
    assert "camera lost" in lost.reason
    assert [type(item) for item in after] == [Frame] * 3
    assert camera.reconnects == 1
    ids = [item.provenance.frame_id for item in (before, lost, *after)]
    assert ids == sorted(set(ids))


def test_a_camera_that_is_not_there_yet_can_be_waited_for(server: MjpegServer) -> None:
    server.stop()
    threading.Timer(0.3, server.start).start()
    with open_camera(server.url, LOST_AFTER_S, wait_for_camera=True) as camera:
        lost, frame = take(camera.frames(NEVER), 2)
    assert isinstance(lost, NoFrame)
    assert isinstance(frame, Frame)


def test_stop_ends_the_wait_for_a_frozen_camera(server: MjpegServer) -> None:
    stop = threading.Event()
    with open_camera(server.url, lost_after_s=3) as camera:
        frames = camera.frames(stop)
        take(frames, 2)
        server.freeze()
        threading.Timer(0.3, stop.set).start()
        assert [item for item in frames if isinstance(item, NoFrame)] == []


def test_leaving_the_loop_early_hangs_up(server: MjpegServer) -> None:
    with open_camera(server.url) as camera:
        take(camera.frames(NEVER), 1)
        assert server.clients == 1
    assert isinstance(camera, LiveCamera)
    assert not camera.blocked
    for _ in range(100):  # the server notices at its next frame
        if server.clients == 0:
            break
        sleep(0.02)
    assert server.clients == 0


class StuckCapture:
    """A driver call that does not return before `released`, as a hung USB camera has them."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def read(self) -> tuple[bool, None]:
        self.released.wait(30)
        return False, None

    def release(self) -> None:
        self.released.set()


def test_a_grabber_that_blocks_is_replaced(server: MjpegServer) -> None:
    stuck = StuckCapture()
    captures = iter([cv2.VideoCapture(server.url), stuck, cv2.VideoCapture(server.url)])
    with LiveCamera("usb", lambda: next(captures), lost_after_s=0.3) as camera:
        frames = camera.frames(NEVER)
        take(frames, 1)
        server.stop()
        lost = next(item for item in frames if isinstance(item, NoFrame))
        server.start()
        assert isinstance(next(frames), Frame)
        assert camera.blocked
        stuck.released.set()
    assert lost.lost


def test_blocked_grabbers_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_camera, "FIRST_BACK_OFF_S", 0.001)
    opened: list[StuckCapture] = []

    def open_stuck() -> StuckCapture:
        opened.append(StuckCapture())
        return opened[-1]

    stop = threading.Event()
    with LiveCamera("usb", open_stuck, lost_after_s=0.02, wait_for_camera=True) as camera:
        threading.Timer(1.0, stop.set).start()
        assert [type(item) for item in camera.frames(stop)] == [NoFrame]
        assert len(opened) == live_camera.MAX_BLOCKED_GRABBERS
        for capture in opened:
            capture.released.set()


@given(failures=st.integers(0, 10_000))
def test_the_pause_doubles_from_half_a_second_to_ten_with_jitter(failures: int) -> None:
    expected_s = min(10.0, 0.5 * 2 ** min(failures, 10))
    assert 0.8 * expected_s <= back_off_s(failures) <= 1.2 * expected_s
