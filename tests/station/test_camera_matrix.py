"""Every kind of source streams, is lost and comes back by itself: seconds to notice and to recover.

    pytest tests/station/test_camera_matrix.py -s

prints the rows of the table in docs/cameras.md. Seconds to notice: from the fault to the record without a verdict.
Seconds to recover: from the repair, or where nothing is repaired from that record, to the next picture.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from genicam_simulator import RED, producer
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer, why_not

from edge.cameras.device import DeviceSettings
from edge.cameras.frames import Camera, Frame, NoFrame
from edge.cameras.live import LiveCamera
from edge.cameras.sources import open_camera, watch_folder

os.environ["PYLON_CAMEMU"] = "2"  # read once, when pypylon is first imported
LOST_AFTER_S = 2.0
AWAY_S = 3.0  # from being noticed to the repair


@dataclass(frozen=True)
class Case:
    """One camera and one fault. repair: None where the camera needs no help but to be opened again."""

    camera: Camera
    break_it: Callable[[], object]
    repair: Callable[[], object] | None = None


class Taker(threading.Thread):
    """Takes whatever comes and when, as the loop does."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(daemon=True)
        self.items: list[tuple[float, Frame | NoFrame]] = []
        self.stop = threading.Event()
        self._camera = camera
        self.start()

    def run(self) -> None:
        for item in self._camera.frames(self.stop):
            self.items.append((monotonic(), item))

    def wait_for(self, kind: type[Frame] | type[NoFrame], after_s: float, count: int = 1) -> float:
        """When the `count`-th of this kind came after a moment."""
        deadline_s = monotonic() + 40
        while monotonic() < deadline_s:
            found = [at_s for at_s, item in self.items if at_s > after_s and isinstance(item, kind)]
            if len(found) >= count:
                return found[count - 1]
            sleep(0.01)
        raise AssertionError(f"no {kind.__name__} in 40 s; trouble: {self._camera.trouble}")


def write_picture(path: Path, grey: int) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_bytes(cv2.imencode(".png", np.full((48, 64, 3), grey, np.uint8))[1].tobytes())
    aside.rename(path)


@contextmanager
def watched(tmp_path: Path) -> Iterator[Case]:
    folder, aside = tmp_path / "parts", tmp_path / "aside"
    folder.mkdir()
    done = threading.Event()

    def write() -> None:
        for number in range(10_000):
            with suppress(OSError):  # the folder is away
                write_picture(folder / f"{number:06}.png", number % 250)
            if done.wait(0.1):
                return

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    camera = watch_folder(str(folder), LOST_AFTER_S)
    try:
        yield Case(camera, lambda: folder.rename(aside), lambda: aside.rename(folder))
    finally:
        done.set()
        writer.join()


@contextmanager
def mjpeg(tmp_path: Path, fault: str) -> Iterator[Case]:
    with MjpegServer() as server, open_camera(server.url, LOST_AFTER_S) as camera:
        way = (server.stop, server.start) if fault == "switched off" else (server.freeze, server.thaw)
        yield Case(camera, *way)


@contextmanager
def rtsp(tmp_path: Path, fault: str) -> Iterator[Case]:
    if reason := why_not():
        pytest.skip(reason)
    with RtspServer() as server, open_camera(server.url, LOST_AFTER_S) as camera:
        way = (server.kill, server.start) if fault == "killed" else (server.freeze, server.thaw)
        yield Case(camera, *way)


def capture_of(camera: Camera) -> Any:
    assert isinstance(camera, LiveCamera)
    return camera._grabbers[-1]._capture


@contextmanager
def genicam(tmp_path: Path) -> Iterator[Case]:
    if producer() is None:
        pytest.skip("needs pip install 'oddkind[genicam]'")
    device = DeviceSettings(producer=producer())
    with open_camera(f"genicam:{RED}", LOST_AFTER_S, device=device) as camera:
        yield Case(camera, lambda: capture_of(camera)._nodes.execute("AcquisitionStop"))


@contextmanager
def basler(tmp_path: Path, fault: str) -> Iterator[Case]:
    if find_spec("pypylon") is None:
        pytest.skip("needs pip install 'oddkind[basler]'")

    def break_it() -> None:
        device = capture_of(camera)._camera
        if fault == "grabbing stopped":
            device.StopGrabbing()
            return
        device.ForceFailedBufferCount.Value = 1000
        device.ForceFailedBuffer.Execute()

    with open_camera("basler:", LOST_AFTER_S) as camera:
        yield Case(camera, break_it)


CASES: dict[str, Callable[[Path], Any]] = {
    "watched folder, moved away": watched,
    "MJPEG, switched off": lambda path: mjpeg(path, "switched off"),
    "MJPEG, frozen with its connection open": lambda path: mjpeg(path, "frozen"),
    "RTSP, server killed": lambda path: rtsp(path, "killed"),
    "RTSP, server frozen (SIGSTOP)": lambda path: rtsp(path, "frozen"),
    "GenICam simulator, acquisition stopped": genicam,
    "pylon emulation, every picture broken": lambda path: basler(path, "broken"),
    "pylon emulation, grabbing stopped": lambda path: basler(path, "grabbing stopped"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_camera_streams_is_lost_once_and_recovers_by_itself(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CASES[name](tmp_path) as case:
        taker = Taker(case.camera)
        taker.wait_for(Frame, 0.0, count=10)
        begun_s = monotonic()
        case.break_it()
        broken_s = monotonic()
        noticed_s = taker.wait_for(NoFrame, begun_s)
        assert (case.camera.trouble or "").startswith("camera lost: ")
        repaired_s = noticed_s
        if case.repair:
            sleep(AWAY_S)
            case.repair()
            repaired_s = monotonic()
        back_s = taker.wait_for(Frame, noticed_s)
        taker.wait_for(Frame, back_s, count=10)
        taker.stop.set()
        taker.join(10)
    with capsys.disabled():
        print(f"\n| {name} | {max(0.0, noticed_s - broken_s):.1f} | {max(0.0, back_s - repaired_s):.1f} |")
    lost = [item for _, item in taker.items if isinstance(item, NoFrame)]
    assert [item.lost for item in lost] == [True], "told once"
    assert case.camera.reconnects == 1
    assert case.camera.trouble is None
    ids = [item.provenance.frame_id for _, item in taker.items]
    assert ids == sorted(set(ids))
    assert noticed_s - broken_s < LOST_AFTER_S + 1.5
    assert back_s - repaired_s < 15


def test_a_video_file_and_a_folder_give_every_picture_and_end_whatever_happens_on_the_way(tmp_path: Path) -> None:
    folder, video = tmp_path / "parts", tmp_path / "line.avi"
    folder.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(20):
        write_picture(folder / f"{number:02}.png", number)
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    for source in (folder, video):
        with open_camera(str(source)) as camera:
            frames = camera.frames(threading.Event())
            taken = [next(frames)]
            (folder / "10.png").unlink(missing_ok=True)
            taken += frames
        assert len(taken) == 20
        assert [number for number, item in enumerate(taken) if isinstance(item, NoFrame)] == (
            [10] if source == folder else []
        )
