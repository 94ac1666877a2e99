"""Pixel formats to BGR: each from pixels that were packed by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge.cameras.device import DeviceRefusal
from edge.cameras.pixels import to_bgr

WIDTH, HEIGHT = 16, 12
BGR = (40, 90, 200)
MOSAICS = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}


def mosaic(word: str) -> npt.NDArray[np.uint8]:
    """(12, 16) one colour as a sensor sees it. word: the first row of two pixels, then the second."""
    value = dict(zip("BGR", BGR, strict=True))
    tile = np.array([[value[word[0]], value[word[1]]], [value[word[2]], value[word[3]]]], np.uint8)
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2))


def packed(*channels: int) -> npt.NDArray[np.uint8]:
    return np.tile(np.array(channels, np.uint8), HEIGHT * WIDTH)


@pytest.mark.parametrize("name", MOSAICS)
def test_the_mosaic_begins_with_the_pixels_of_its_name(name: str) -> None:
    frame_bgr = to_bgr(mosaic(MOSAICS[name]).ravel(), (WIDTH, HEIGHT), f"Bayer{name}8")
    assert frame_bgr.shape == (HEIGHT, WIDTH, 3)
    assert (frame_bgr == BGR).all()


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("BGR8", BGR),
        ("RGB8", BGR[::-1]),
        ("RGB8Packed", BGR[::-1]),
        ("RGBa8", (*BGR[::-1], 7)),
        ("BGRa8", (*BGR, 7)),
    ],
)
def test_colours_keep_their_place(name: str, channels: tuple[int, ...]) -> None:
    assert (to_bgr(packed(*channels), (WIDTH, HEIGHT), name) == BGR).all()


@pytest.mark.parametrize(("name", "pair"), [("YUV422_8", (81, 90, 81, 240)), ("YUV422_8_UYVY", (90, 81, 240, 81))])
def test_yuv_red_is_red(name: str, pair: tuple[int, ...]) -> None:
    frame_bgr = to_bgr(np.tile(np.array(pair, np.uint8), HEIGHT * WIDTH // 2), (WIDTH, HEIGHT), name)
    assert (np.abs(frame_bgr.astype(int) - (0, 0, 254)) <= 2).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pixels_keep_their_upper_eight_bits(bits: int) -> None:
    deep = np.full(WIDTH * HEIGHT, 200 << (bits - 8) | 3, np.uint16)
    assert (to_bgr(deep, (WIDTH, HEIGHT), f"Mono{bits}") == 200).all()
    deep_mosaic = mosaic("RGGB").astype(np.uint16).ravel() << (bits - 8)
    assert (to_bgr(deep_mosaic, (WIDTH, HEIGHT), f"BayerRG{bits}") == BGR).all()


def test_padding_at_the_end_of_rows_is_no_picture() -> None:
    rows = np.zeros((HEIGHT, WIDTH + 5), np.uint8)
    rows[:, :WIDTH] = 200
    frame_bgr = to_bgr(rows.ravel(), (WIDTH, HEIGHT), "Mono8")
    assert frame_bgr.shape == (HEIGHT, WIDTH, 3)
    assert (frame_bgr == 200).all()


def test_the_frame_has_its_own_memory() -> None:
    buffer = packed(*BGR)
    frame_bgr = to_bgr(buffer, (WIDTH, HEIGHT), "BGR8")
    buffer[:] = 0
    assert (frame_bgr == BGR).all()


@pytest.mark.parametrize("name", ["Mono12p", "Coord3D_ABC32f", "hello"])
def test_another_format_is_one_clear_line(name: str) -> None:
    with pytest.raises(DeviceRefusal, match=f"pixel format {name} is not supported; set pixel_format to one of Mono8"):
        to_bgr(packed(1), (WIDTH, HEIGHT), name)
