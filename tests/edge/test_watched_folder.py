"""A watched folder: files that are written, renamed, broken, gone and back, on a real file system."""

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

from edge.cameras import watched_folder
from edge.cameras.frames import Frame, NoFrame
from edge.cameras.known_files import KnownFiles, Version
from edge.cameras.sources import watch_folder
from edge.cameras.watched_folder import WatchedFolder
from edge.errors import CameraError

LOST_AFTER_S = 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in less time."""
    monkeypatch.setattr(watched_folder, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(watched_folder, "SETTLED_S", 0.08)
    monkeypatch.setattr(watched_folder, "BROKEN_AFTER_S", 0.4)
    monkeypatch.setattr(watched_folder, "CHANGES_S", 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "parts"
    path.mkdir()
    return path


def picture(grey: int) -> bytes:
    return cv2.imencode(".png", np.full((24, 32, 3), grey, np.uint8))[1].tobytes()


class Watcher(threading.Thread):
    """Takes what the camera gives, as the loop does."""

    def __init__(self, folder: Path, wait: bool = False, with_existing: bool = False) -> None:
        super().__init__(daemon=True)
        camera = watch_folder(str(folder), LOST_AFTER_S, wait, with_existing)
        assert isinstance(camera, WatchedFolder)
        self.camera = camera
        self.items: list[Frame | NoFrame] = []
        self.stop = threading.Event()
        self.start()
        while folder.is_dir() and self.camera._place is None:  # it has not looked yet
            sleep(0.01)
        sleep(0.15)

    def run(self) -> None:
        for item in self.camera.frames(self.stop):
            self.items.append(item)

    @property
    def paths(self) -> list[str | None]:
        return [item.provenance.path for item in self.items]

    def wait_for(self, count: int, timeout_s: float = 5.0) -> list[Frame | NoFrame]:
        deadline_s = monotonic() + timeout_s
        while len(self.items) < count and monotonic() < deadline_s:
            sleep(0.01)
        return self.items

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join(5)
        assert not self.is_alive()


@pytest.fixture
def watcher(folder: Path) -> Iterator[Watcher]:
    (folder / "before.png").write_bytes(picture(1))
    with Watcher(folder) as watching:
        yield watching


def test_new_pictures_come_once_each_in_order_and_those_from_before_do_not(folder: Path, watcher: Watcher) -> None:
    for number, name in enumerate(["c.png", "a.png", "b.PNG"]):
        (folder / name).write_bytes(picture(number))
        sleep(0.03)
    (folder / "text.txt").write_text("none of ours")
    (folder / ".hidden.png").write_bytes(picture(9))
    (folder / "deep").mkdir()
    (folder / "deep" / "d.png").write_bytes(picture(9))
    (folder / "folder.png").mkdir()
    items = watcher.wait_for(3)
    sleep(0.3)
    assert watcher.paths == ["c.png", "a.png", "b.PNG"]
    assert [int(item.frame_bgr[0, 0, 0]) for item in items if isinstance(item, Frame)] == [0, 1, 2]
    assert [item.provenance.frame_id for item in items] == [0, 1, 2]


def test_what_is_there_at_the_start_can_be_included(folder: Path) -> None:
    for number in range(3):
        (folder / f"{9 - number}.png").write_bytes(picture(number))
        sleep(0.02)
    with Watcher(folder, with_existing=True) as watcher:
        watcher.wait_for(3)
        (folder / "new.png").write_bytes(picture(7))
        watcher.wait_for(4)
    assert watcher.paths == ["9.png", "8.png", "7.png", "new.png"]


def test_a_file_that_is_still_written_is_waited_for_and_keeps_the_order(folder: Path, watcher: Watcher) -> None:
    whole = picture(5)
    with (folder / "slow.png").open("wb") as stream:
        stream.write(whole[:30])
        stream.flush()
        sleep(0.05)
        (folder / "quick.png").write_bytes(picture(6))
        sleep(0.3)  # longer than a file needs to settle
        assert watcher.items == []
        stream.write(whole[30:])
    items = watcher.wait_for(2)
    assert watcher.paths == ["slow.png", "quick.png"]
    assert all(isinstance(item, Frame) for item in items)


def test_a_file_that_never_ends_lets_others_pass_after_a_while(
    folder: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_folder, "HOLDS_UP_S", 0.3)
    with (folder / "endless.png").open("wb") as stream:
        for _ in range(60):
            stream.write(b"x")
            stream.flush()
            sleep(0.02)
            if not (folder / "quick.png").exists():
                (folder / "quick.png").write_bytes(picture(6))
        assert watcher.paths == ["quick.png"]
    (_, broken) = watcher.wait_for(2)
    assert isinstance(broken, NoFrame)


def test_a_file_that_stays_broken_is_a_moment_without_a_picture(folder: Path, watcher: Watcher) -> None:
    (folder / "broken.png").write_bytes(picture(5)[:40])
    (folder / "good.png").write_bytes(picture(6))
    broken, good = watcher.wait_for(2)
    assert isinstance(broken, NoFrame) and not broken.lost
    assert "broken.png" in broken.reason
    assert isinstance(good, Frame)


def test_a_file_that_is_renamed_into_place_comes_once(folder: Path, watcher: Watcher, tmp_path: Path) -> None:
    (folder / "part.tmp").write_bytes(picture(3))
    (folder / "part.tmp").rename(folder / "part.png")
    (tmp_path / "elsewhere.png").write_bytes(picture(4))
    os.utime(tmp_path / "elsewhere.png", (1e9, 1e9))  # written long ago
    (tmp_path / "elsewhere.png").rename(folder / "moved.png")
    watcher.wait_for(2)
    sleep(0.2)
    assert watcher.paths == ["part.png", "moved.png"]
    assert watcher.items[1].provenance.captured_at.startswith("2001-09-09")


def test_a_name_that_was_away_may_come_again(folder: Path, watcher: Watcher) -> None:
    for count in (1, 2):
        (folder / "part.png").write_bytes(picture(count))
        watcher.wait_for(count)
        (folder / "part.png").unlink()
        sleep(0.5)
    assert watcher.paths == ["part.png"] * 2


def test_a_file_that_vanishes_before_it_is_read_is_counted(folder: Path, watcher: Watcher) -> None:
    with (folder / "gone.png").open("wb"):
        while "gone.png" not in watcher.camera._waiting:
            sleep(0.01)
        (folder / "gone.png").unlink()
    while watcher.camera._waiting:
        sleep(0.01)
    (folder / "there.png").write_bytes(picture(3))
    (frame,) = watcher.wait_for(1)
    assert isinstance(frame, Frame)
    assert (frame.provenance.path, frame.dropped_before) == ("there.png", 1)


@pytest.mark.parametrize("way", ["moved away and back", "made anew"])
def test_a_folder_that_is_gone_is_lost_and_comes_back_without_old_pictures(
    folder: Path, watcher: Watcher, way: str
) -> None:
    (folder / "one.png").write_bytes(picture(1))
    watcher.wait_for(1)
    aside = folder.with_name("aside")
    folder.rename(aside)
    lost = watcher.wait_for(2)[1]
    assert isinstance(lost, NoFrame) and lost.lost
    assert watcher.camera.trouble == lost.reason == "camera lost: the folder is gone (No such file or directory)"
    if way == "made anew":  # as an empty mount point, before the network drive is there
        folder.mkdir()
        sleep(0.2)
        folder.rmdir()
        sleep(0.1)
    (aside / "while_away.png").write_bytes(picture(2))
    aside.rename(folder)
    watcher.wait_for(3)
    (folder / "after.png").write_bytes(picture(3))
    watcher.wait_for(4)
    sleep(0.1)
    assert watcher.paths == ["one.png", None, "while_away.png", "after.png"]
    assert watcher.camera.trouble is None
    assert watcher.camera.reconnects >= 1


def test_a_name_with_a_new_picture_in_a_folder_made_anew_comes(folder: Path, watcher: Watcher) -> None:
    (folder / "one.png").write_bytes(picture(1))
    watcher.wait_for(1)
    folder.rename(folder.with_name("aside"))
    watcher.wait_for(2)
    folder.mkdir()
    (folder / "one.png").write_bytes(picture(2))
    assert isinstance(watcher.wait_for(3)[2], Frame)
    assert watcher.paths == ["one.png", None, "one.png"]


def test_a_folder_that_is_not_there_is_an_error_or_waited_for(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no such folder to watch"):
        next(watch_folder(str(tmp_path / "gone"), LOST_AFTER_S).frames(threading.Event()))
    with Watcher(tmp_path / "later", wait=True) as watcher:
        assert isinstance(watcher.wait_for(1)[0], NoFrame)
        (tmp_path / "later").mkdir()
        sleep(0.1)
        (tmp_path / "later" / "one.png").write_bytes(picture(1))
        assert isinstance(watcher.wait_for(2)[1], Frame)


def test_more_files_than_may_wait_all_come_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_folder, "MAX_WAITING", 3)
    with Watcher(folder) as watcher:
        for number in range(20):
            (folder / f"{99 - number}.png").write_bytes(picture(number))
        watcher.wait_for(20)
        sleep(0.1)
    assert watcher.paths == [f"{99 - number}.png" for number in range(20)]


def test_a_folder_in_which_nothing_happens_is_not_listed_all_the_time(
    folder: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or scandir(path))
    sleep(0.5)
    assert listings == []
    monkeypatch.setattr(watched_folder, "LIST_EVERY_S", 0.1)  # where a folder's time says nothing
    sleep(0.3)
    assert 1 <= len(listings) <= 4


def version(size: int) -> Version:
    return Version(size, 1, 1)


def test_known_files_are_few_bytes_each_and_forgotten_when_they_go() -> None:
    known = KnownFiles()
    names = [f"{number:09}.png" for number in range(100_000)]
    for name in names:
        known.add(name, version(1))
    assert list(known.fresh(itertools.chain(names, ["new.png"]), lambda name: version(1))) == ["new.png"]
    assert sum(part.nbytes for part in (known._names, known._versions, known._away)) == 17 * len(known) == 1_700_000
    assert list(known.fresh(names[:10], lambda name: None)) == []
    assert len(known) == 10
    assert list(known.fresh(names[9:11], lambda name: None)) == [names[10]]


def test_while_the_folder_is_away_nothing_is_forgotten_and_a_changed_file_is_new() -> None:
    known = KnownFiles()
    for name in ("same", "changed", "late"):
        known.add(name, version(1))
    known.all_away()
    assert list(known.fresh([], lambda name: None)) == []
    sizes = {"same": 1, "changed": 2, "late": 1}
    assert list(known.fresh(["same", "changed"], lambda name: version(sizes[name]))) == ["changed"]
    assert list(known.fresh(["same", "late"], lambda name: version(sizes[name]))) == []
