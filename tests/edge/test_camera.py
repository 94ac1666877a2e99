"""Cameras against real sources: a video file, picture folders and an MJPEG server that fails on purpose."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mjpeg_server import MjpegServer, plain_frame

from edge.cameras import live as live_camera
from edge.cameras.address import identity, is_device, is_live, maker, maker_id, redacted, url_scheme
from edge.cameras.device import DeviceCapture, DeviceRefusal, DeviceSettings
from edge.cameras.frames import Frame, Frames, NoFrame
from edge.cameras.live import LiveCamera, back_off_s
from edge.cameras.opencv import apply
from edge.cameras.sources import open_camera
from edge.errors import CameraError, UsageError
from edge.result import Device, iso_utc

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


@pytest.mark.parametrize(
    "source", ["0", "/dev/video97", "/dev/null", "rtsp://c/1", "http://c/v", "ftp://c/1", "genicam:1", "Basler:"]
)
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


class Device10(DeviceCapture):
    """A device that waits for triggers: each `fire` gives one frame more; it can refuse, lose frames and die."""

    waits = True

    def __init__(self, burst: int = 0) -> None:
        self.asked, self.given, self.skips, self.dies = burst, 0, 0, False
        self.released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.given == self.asked:
            sleep(0.01)
            return not self.dies, None
        self.given += 1
        self.lost_frames, self.skips = self.skips, 0
        self.device = Device(self.given, 1000 * self.given)
        return True, plain_frame(self.given)

    def fire(self) -> None:
        if self.dies:
            raise RuntimeError("unplugged")
        self.asked += 1

    def release(self) -> None:
        self.released = True


def ids_and_drops(items: list[Frame | NoFrame]) -> list[tuple[int, int]]:
    return [(item.provenance.frame_id, item.dropped_before) for item in items if isinstance(item, Frame)]


def test_in_a_queue_nothing_is_replaced_and_what_finds_no_room_is_counted() -> None:
    device = Device10(burst=1)
    with LiveCamera("line", lambda: device, keep=4) as camera:
        frames = camera.frames(NEVER)
        taken = take(frames, 1)
        device.asked += 9
        while device.given < 10:
            sleep(0.01)
        taken += take(frames, 4)
        assert camera.fire()
        taken += take(frames, 1)
    assert ids_and_drops(taken) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (10, 5)]
    assert device.released


def test_what_the_device_lost_is_counted_and_its_own_number_and_clock_are_kept() -> None:
    device = Device10(burst=1)
    with LiveCamera("line", lambda: device) as camera:
        frames = camera.frames(NEVER)
        taken = take(frames, 1)
        device.skips = 3
        camera.fire()
        taken += take(frames, 1)
    assert ids_and_drops(taken) == [(0, 0), (4, 3)]
    assert [item.provenance.device for item in taken] == [Device(1, 1000), Device(2, 2000)]


def test_a_device_that_waits_is_well_while_it_says_nothing_and_lost_when_it_dies() -> None:
    devices = [Device10(), Device10()]
    opened = iter(devices)
    with LiveCamera("line", lambda: next(opened), lost_after_s=0.2) as camera:
        assert not camera.fire()
        threading.Timer(0.8, setattr, (devices[0], "dies", True)).start()
        (lost,) = take(camera.frames(NEVER), 1)
        assert isinstance(lost, NoFrame)
        assert lost.reason == "camera lost: it does not answer any more"
        assert not camera.fire()


def test_a_device_that_waits_is_back_before_its_first_frame() -> None:
    devices = [Device10(), Device10()]
    opened = iter(devices)
    with LiveCamera("line", lambda: next(opened), lost_after_s=0.2) as camera:
        frames = camera.frames(NEVER)
        threading.Timer(0.2, setattr, (devices[0], "dies", True)).start()
        take(frames, 1)
        waiting = threading.Thread(target=lambda: take(frames, 1))
        waiting.start()
        while camera.trouble:
            sleep(0.01)
        assert camera.reconnects == 1
        assert camera.fire()
        waiting.join(5)
        assert not waiting.is_alive()


@pytest.mark.parametrize("wait_for_camera", [True, False])
def test_a_device_that_refuses_its_settings_ends_the_start_and_no_later_connection(wait_for_camera: bool) -> None:
    def refuse() -> Device10:
        raise DeviceRefusal("gain_db: 90 asked for, Gain reads back 48")

    with (
        pytest.raises(CameraError, match=r"source line: gain_db: 90 asked for, Gain reads back 48$"),
        LiveCamera("line", refuse, wait_for_camera=wait_for_camera) as camera,
    ):
        take(camera.frames(NEVER), 1)
    openings = iter([lambda: Device10(burst=1), refuse, lambda: Device10(burst=1)])
    with LiveCamera("line", lambda: next(openings)(), lost_after_s=0.2) as camera:
        frames = camera.frames(NEVER)
        take(frames, 1)
        capture = camera._grabbers[-1]._capture
        assert isinstance(capture, Device10)
        capture.dies = True
        assert [type(item) for item in take(frames, 2)] == [NoFrame, Frame]
        assert camera.reconnects == 1


def test_only_machine_vision_cameras_trigger_themselves() -> None:
    with pytest.raises(UsageError, match="only genicam: and basler:"):
        open_camera("rtsp://camera/1", trigger_source="software")


@pytest.mark.parametrize(
    ("source", "kind", "device_id"),
    [("genicam:SN 1", "genicam", "SN 1"), ("BASLER:", "basler", ""), ("genicam://1", None, "//1"), ("a:b", None, "b")],
)
def test_sources_of_machine_vision_cameras(source: str, kind: str | None, device_id: str) -> None:
    assert (maker(source), maker_id(source)) == (kind, device_id)


class Properties:
    """What a V4L2 driver does with properties: some are rounded, some ignored. No such device is here to try."""

    def __init__(self, fixed: dict[int, float], backend: str = "V4L2") -> None:
        self.values: dict[int, float] = {}
        self._fixed, self._backend = fixed, backend

    def getBackendName(self) -> str:
        return self._backend

    def set(self, key: int, value: float) -> bool:
        self.values[key] = self._fixed.get(key, value)
        return True

    def get(self, key: int) -> float:
        return self.values.get(key, 0.0)


def test_settings_of_a_v4l2_camera_are_written_in_its_units() -> None:
    driver = Properties({})
    apply(DeviceSettings(exposure_us=5000, roi_xywh=[0, 0, 1280, 720], pixel_format="MJPG"), driver)  # type: ignore[arg-type]
    assert driver.values[cv2.CAP_PROP_EXPOSURE] == 50
    assert driver.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert driver.values[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")


@pytest.mark.parametrize(
    ("fixed", "says"),
    [
        ({cv2.CAP_PROP_EXPOSURE: 156}, "exposure_us: 5000.0 asked for, the camera reads back 15600.0"),
        (
            {cv2.CAP_PROP_FRAME_WIDTH: 640},
            r"roi_xywh: \[0, 0, 1280, 720\] asked for, the camera reads back \[0, 0, 640",
        ),
        (
            {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV")},
            "pixel_format: MJPG asked for, the camera reads back Y",
        ),
    ],
)
def test_a_v4l2_camera_that_reads_back_otherwise_is_told_with_both(fixed: dict[int, float], says: str) -> None:
    settings = DeviceSettings(exposure_us=5000, roi_xywh=[0, 0, 1280, 720], pixel_format="MJPG")
    with pytest.raises(DeviceRefusal, match=says):
        apply(settings, Properties(fixed))  # type: ignore[arg-type]


def test_exposure_is_only_set_where_its_unit_is_known() -> None:
    with pytest.raises(DeviceRefusal, match="exposure_us: DSHOW"):
        apply(DeviceSettings(exposure_us=5000), Properties({}, "DSHOW"))  # type: ignore[arg-type]


class SlowToClose(Device10):
    def release(self) -> None:
        sleep(1.0)


def test_whoever_triggers_does_not_wait_for_a_device_that_closes_slowly() -> None:
    device = SlowToClose(burst=1)
    with LiveCamera("line", lambda: device, lost_after_s=0.2) as camera:
        frames = camera.frames(NEVER)
        take(frames, 1)
        device.dies = True
        sleep(0.1)
        begun_s = monotonic()
        assert not camera.fire()
        assert monotonic() - begun_s < 0.5


@given(failures=st.integers(0, 10_000))
def test_the_pause_doubles_from_half_a_second_to_ten_with_jitter(failures: int) -> None:
    expected_s = min(10.0, 0.5 * 2 ** min(failures, 10))
    assert 0.8 * expected_s <= back_off_s(failures) <= 1.2 * expected_s
