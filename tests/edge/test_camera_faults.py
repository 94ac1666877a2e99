"""Faults of a camera that sends: found, named, told of once, and cheap; good pictures are left alone."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pydantic
import pytest

from edge.cameras.faults import FROZEN_FRAMES, FaultLimits, FaultWatch, brightness
from edge.cameras.frames import Frame
from edge.pictures import FrameBgr
from edge.result import Provenance

RNG = np.random.default_rng(5)
SIZE = (720, 1280, 3)


def noisy(mean: float = 120, spread: float = 30, shape: tuple[int, int, int] = SIZE) -> FrameBgr:
    return np.clip(RNG.normal(mean, spread, shape), 0, 255).astype(np.uint8)


def watch(is_live: bool = True, notices: list[str] | None = None, **limits: Any) -> FaultWatch:
    said = notices if notices is not None else []
    return FaultWatch("left", FaultLimits(**limits).for_source(is_live), is_live, said.append)


def at(frame_bgr: FrameBgr, seconds: float = 0.0) -> Frame:
    return Frame(frame_bgr, Provenance("left", 0, "2026-11-26T23:59:58.000Z"), grabbed_at_s=seconds)


# --- brightness


@pytest.mark.parametrize(
    ("frame_bgr", "says"),
    [
        (np.zeros(SIZE, np.uint8), "dark picture or covered lens: brightness 0 of 255, spread 0.0"),
        (noisy(10, 4), "dark picture or covered lens: brightness "),
        (np.full(SIZE, 255, np.uint8), "overexposed picture: brightness 255 of 255"),
        (noisy(250, 3), "overexposed picture"),
    ],
)
def test_a_dark_or_overexposed_picture_has_a_reason(frame_bgr: FrameBgr, says: str) -> None:
    assert says in (watch().fault(at(frame_bgr)) or "")


def test_dark_field_and_back_light_with_a_part_in_them_are_no_faults() -> None:
    dark_field, back_light = np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)
    dark_field[300:400, 500:800] = 200
    back_light[300:400, 500:800] = 30
    assert brightness(dark_field)[0] < 16
    assert brightness(back_light)[0] > 240
    assert [watch().fault(at(picture)) for picture in (dark_field, back_light, noisy(), noisy(40, 1))] == [None] * 4


def test_limits_can_be_moved_and_turned_off() -> None:
    black, white = at(np.zeros(SIZE, np.uint8)), at(np.full(SIZE, 255, np.uint8))
    assert watch(dark_below=0.0).fault(black) is None
    assert watch(bright_above=255.0).fault(white) is None
    assert watch(spread_below=0.0).fault(black) is None
    assert "dark" in (watch(dark_below=60.0).fault(at(noisy(50, 3))) or "")


# --- frozen


def test_the_same_picture_is_frozen_after_its_time_and_not_before() -> None:
    looking, picture = watch(frozen_after_s=2.0), noisy()
    found = [looking.fault(at(picture.copy(), 0.25 * number)) for number in range(12)]
    assert found[:8] == [None] * 8
    assert found[8] == "frozen picture: the same 9 times in 2.0 s"
    assert all(found[8:])


def test_one_different_pixel_is_another_picture_wherever_it_is() -> None:
    looking, picture = watch(frozen_after_s=1.0), noisy()
    for number in range(40):
        picture = picture.copy()
        picture[701, 333, number % 3] ^= 1
        assert looking.fault(at(picture, float(number))) is None


def test_a_slow_camera_is_not_frozen_after_two_pictures() -> None:
    looking, picture = watch(frozen_after_s=1.0), noisy()
    found = [looking.fault(at(picture, 10.0 * number)) for number in range(FROZEN_FRAMES)]
    assert [bool(reason) for reason in found] == [False] * (FROZEN_FRAMES - 1) + [True]


def test_a_pause_between_different_pictures_is_not_frozen() -> None:
    looking = watch(frozen_after_s=1.0)
    assert [looking.fault(at(noisy(), 100.0 * number)) for number in range(7)] == [None] * 7


def test_files_may_be_the_same_for_ever_and_of_any_size() -> None:
    looking, picture = watch(is_live=False), noisy()
    assert [looking.fault(at(picture, float(number))) for number in range(20)] == [None] * 20
    assert looking.fault(at(noisy(shape=(100, 100, 3)))) is None
    assert looking.fault(at(np.zeros(SIZE, np.uint8))) is None
    assert "dark" in (watch(is_live=False, dark_below=5.0).fault(at(np.zeros(SIZE, np.uint8))) or "")


# --- size


def test_another_size_than_the_first_is_a_fault_until_it_is_back() -> None:
    looking = watch()
    small = (480, 640, 3)
    found = [looking.fault(at(noisy(shape=shape))) for shape in (SIZE, small, small, SIZE)]
    expected = "wrong size: the picture is 640 x 480 px, 1280 x 720 px expected"
    assert found == [None, expected, expected, None]


@pytest.mark.parametrize("is_live", [True, False])
def test_the_size_can_be_given(is_live: bool) -> None:
    looking = watch(is_live, size_px=[640, 480])
    assert "wrong size" in (looking.fault(at(noisy())) or "")
    assert looking.fault(at(noisy(shape=(480, 640, 3)))) is None


# --- telling, limits, cost


def test_a_fault_is_told_when_it_begins_changes_and_ends() -> None:
    notices: list[str] = []
    looking = watch(notices=notices)
    black, white = np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)
    for picture in (noisy(), black, black, white, noisy(), noisy()):
        looking.fault(at(picture))
    kinds = [notice.split(":")[1].split()[0] for notice in notices]
    assert kinds == ["dark", "overexposed", "the"]
    assert notices[-1] == "left: the picture is as it should be again"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"dark_below": 200.0, "bright_above": 100.0}, "every picture would fail"),
        ({"dark_below": 250.0}, "dark_below 250 is not less than bright_above 240"),
        ({"dark_below": -1.0}, "greater than or equal"),
        ({"size_px": [1280]}, "at least 2"),
        ({"frozen_after_s": "5"}, "valid number"),
        ({"frozen_after": 5}, "not permitted"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        FaultLimits(**limits)


def test_looking_costs_little() -> None:
    looking, frames = watch(), [noisy() for _ in range(4)]
    took_s = []
    for number in range(200):
        frame = at(frames[number % 4], float(number))
        started_s = perf_counter()
        looking.fault(frame)
        took_s.append(perf_counter() - started_s)
    assert sorted(took_s)[100] < 0.5e-3  # 0.07 ms where it was measured; a busy machine may be slower
