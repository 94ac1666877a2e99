"""Cameras taken in turns: nobody waits for a camera that has nothing, nobody is served twice while another waits."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import closing
from time import monotonic, sleep

import numpy as np
import pytest

from edge.cameras.feeds import FRAMES_AHEAD, Ended, Item, in_turns
from edge.cameras.frames import Camera, Frame, Frames, NoFrame
from edge.errors import CameraError
from edge.result import Provenance, utc_now

NEVER = threading.Event()
DEADLINE_S = 20.0


class NumberedFrames(Camera):
    """`count` small frames; before each the camera waits until `may_send(frame_id)`."""

    def __init__(
        self, name: str, count: int, is_live: bool = False, may_send: Callable[[int], object] = lambda frame_id: True
    ) -> None:
        self.name, self.is_live = name, is_live
        self.count, self.may_send = count, may_send
        self.sent = 0
        self.was_left = False

    def frames(self, stop: threading.Event) -> Frames:
        try:
            for frame_id in range(self.count):
                while not self.may_send(frame_id) and not stop.is_set():
                    sleep(0.005)
                if stop.is_set():
                    return
                self.sent += 1
                yield self.item(frame_id)
        finally:
            self.was_left = True

    def item(self, frame_id: int) -> Frame | NoFrame:
        return Frame(np.zeros((8, 8, 3), np.uint8), Provenance(self.name, frame_id, utc_now()))


class Failing(NumberedFrames):
    """Never gives a frame."""

    def frames(self, stop: threading.Event) -> Frames:
        raise CameraError(f"source {self.name}: it cannot be opened")
        yield


class LostAtTwo(NumberedFrames):
    """A live camera whose third item is a loss."""

    def item(self, frame_id: int) -> Frame | NoFrame:
        if frame_id == 2:
            return NoFrame(Provenance(self.name, frame_id, utc_now()), "camera lost: unplugged", lost=True)
        return super().item(frame_id)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = monotonic() + DEADLINE_S
    while not holds():
        assert monotonic() < deadline_s
        sleep(0.005)


def numbers(items: list[tuple[int, Item]]) -> list[int]:
    return [number for number, item in items if not isinstance(item, Ended)]


def feeds_running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "oddkind-feed"]


def test_cameras_that_all_have_frames_are_served_one_after_the_other() -> None:
    cameras = [NumberedFrames(name, 50) for name in "abc"]
    with closing(in_turns(cameras, NEVER)) as turns:
        order = [next(turns)[0]]
        for _ in range(30):
            # Sent and not taken: a frame of each waits at least, so that each has one when its turn comes.
            wait_until(lambda: all(c.sent >= order.count(n) + FRAMES_AHEAD for n, c in enumerate(cameras)))
            order.append(next(turns)[0])
    assert order == [(order[0] + n) % 3 for n in range(31)]


def test_a_slow_camera_holds_nobody_up() -> None:
    release = threading.Event()
    slow = NumberedFrames("slow", 2, may_send=lambda frame_id: frame_id == 0 or release.is_set())
    items: list[tuple[int, Item]] = []
    with closing(in_turns([slow, NumberedFrames("fast", 20)], NEVER)) as turns:
        for item in turns:
            items.append(item)
            if numbers(items).count(1) == 20:
                release.set()
    assert numbers(items).count(0) == 2
    assert numbers(items)[-1] == 0  # it came last, and it came


def test_every_frame_of_a_file_comes_once_and_in_order_and_few_are_held() -> None:
    camera = NumberedFrames("file", 30)
    seen: list[int] = []
    with closing(in_turns([camera], NEVER)) as turns:
        for _, item in turns:
            if isinstance(item, Frame):
                seen.append(item.provenance.frame_id)
                sleep(0.002)
                assert camera.sent <= len(seen) + FRAMES_AHEAD + 1  # one more is in the camera's hand
    assert seen == list(range(30))


def test_of_a_live_camera_the_newest_frame_is_taken_and_the_others_are_counted() -> None:
    taken = threading.Event()
    camera = NumberedFrames("live", 40, is_live=True, may_send=lambda frame_id: frame_id == 0 or taken.is_set())
    with closing(in_turns([camera], NEVER)) as turns:
        first = next(turns)[1]
        taken.set()
        wait_until(lambda: camera.was_left)
        last, ended = (item for _, item in turns)
    assert isinstance(first, Frame) and isinstance(last, Frame)
    assert last.provenance.frame_id == 39
    assert (first.dropped_before, last.dropped_before) == (0, 38)
    assert ended == Ended(None)


def test_a_loss_is_never_replaced_by_a_newer_frame() -> None:
    camera = LostAtTwo("live", 10, is_live=True)
    with closing(in_turns([camera], NEVER)) as turns:
        items = [next(turns)[1]]
        wait_until(lambda: camera.sent >= 4)
        items += [item for _, item in turns]
    losses = [item for item in items if isinstance(item, NoFrame)]
    assert [loss.provenance.frame_id for loss in losses] == [2]
    taken = [item for item in items if isinstance(item, Frame)]
    assert sum(frame.dropped_before for frame in taken) + len(taken) == 9


def test_a_camera_that_never_opens_is_an_end_with_its_error_and_the_other_goes_on() -> None:
    items = list(in_turns([Failing("a", 0), NumberedFrames("b", 5)], NEVER))
    assert numbers(items) == [1] * 5
    (error,) = [item.error for number, item in items if isinstance(item, Ended) and number == 0]
    assert isinstance(error, CameraError)
    assert (1, Ended(None)) in items


def test_any_other_error_of_a_camera_ends_it_alone() -> None:
    def fail(frame_id: int) -> bool:
        if frame_id == 3:
            raise ZeroDivisionError
        return True

    items = list(in_turns([NumberedFrames("a", 9, may_send=fail), NumberedFrames("b", 9)], NEVER))
    assert sorted(numbers(items)) == [0] * 3 + [1] * 9
    assert [type(item.error) for _, item in items if isinstance(item, Ended) and item.error] == [ZeroDivisionError]


@pytest.mark.parametrize("how", ["stop", "close"])
def test_every_thread_has_ended_when_the_turns_have(how: str) -> None:
    stop = threading.Event()
    waiting = NumberedFrames("waits for ever", 1, may_send=lambda frame_id: False)
    endless = NumberedFrames("endless", 10**9)
    turns = in_turns([waiting, endless], stop)
    assert len(list(itertools.islice(turns, 3))) == 3
    if how == "stop":
        stop.set()
        assert list(turns) == []
    else:
        turns.close()
    assert waiting.was_left and endless.was_left
    assert feeds_running() == []


def test_stop_is_noticed_while_nothing_arrives() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    silent = NumberedFrames("silent", 1, may_send=lambda frame_id: False)
    assert list(in_turns([silent], stop)) == []


def test_a_read_that_never_returns_does_not_keep_a_stop_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(NumberedFrames):
        """As a file on a network disk that has gone."""

        def frames(self, stop: threading.Event) -> Frames:
            yield self.item(0)
            let_go.wait(DEADLINE_S)

    monkeypatch.setattr("edge.cameras.feeds.LONGEST_END_S", 0.3)
    let_go = threading.Event()
    turns = in_turns([Hanging("hangs", 2)], NEVER)
    next(turns)
    started_s = monotonic()
    turns.close()
    assert monotonic() - started_s < 2.0
    let_go.set()
