"""Picture files nobody vouches for: every broken one is a PictureError that names the file."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import PictureError
from edge.pictures import (
    MAX_PIXELS,
    MIN_SIDE_PX,
    encode_picture,
    iter_files,
    iter_picture_paths,
    read_picture,
    write_picture,
)

COLOURS_BGR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def bomb_png(side_px: int) -> bytes:
    """A small file that unpacks to side_px x side_px grey pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    line = bytes(side_px + 1)
    pixels = b"".join(packer.compress(line) for _ in range(side_px)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def half_jpeg() -> bytes:
    whole = encode_picture(COLOURS_BGR, ".jpg")
    return whole[: len(whole) // 2]


def header_only_png() -> bytes:
    return encode_picture(COLOURS_BGR, ".png")[:33]


def tiny() -> bytes:
    return encode_picture(COLOURS_BGR[: MIN_SIDE_PX - 1], ".png")


def test_a_lossless_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.tiff", "sub folder/ü.png"):
        write_picture(tmp_path / name, COLOURS_BGR)

        frame_bgr = read_picture(tmp_path / name)

        assert frame_bgr.dtype == np.uint8
        np.testing.assert_array_equal(frame_bgr, COLOURS_BGR)


def test_a_grey_picture_has_three_equal_channels(tmp_path: Path) -> None:
    grey = COLOURS_BGR[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)

    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png"), np.repeat(grey[..., np.newaxis], 3, axis=2))


def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path: Path) -> None:
    deep = np.full((10, 10), 0x8000, np.uint16)
    deep[0, 0] = 0xFFFF
    cv2.imwrite(str(tmp_path / "deep.png"), deep)

    frame_bgr = read_picture(tmp_path / "deep.png")

    assert (frame_bgr[0, 0, 0], frame_bgr[5, 5, 0]) == (255, 128)


def test_a_transparent_picture_loses_its_fourth_channel(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([COLOURS_BGR, np.zeros((20, 30), np.uint8)]))

    np.testing.assert_array_equal(read_picture(tmp_path / "clear.png"), COLOURS_BGR)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bytes, "empty"),
        (half_jpeg, "broken"),
        (header_only_png, "broken"),
        (lambda: b"date;part;verdict\n", "not a picture"),
        (lambda: b"\xff\xd8\xff\xe0", "not a picture"),
        (lambda: bytes(5000), "not a picture"),
        (tiny, f"30 x {MIN_SIDE_PX - 1} px, at least {MIN_SIDE_PX}"),
    ],
    ids=["empty", "half a JPEG", "PNG header", "text", "JPEG header", "zeros", "tiny"],
)
def test_a_file_that_is_no_picture_is_named_with_the_reason(
    tmp_path: Path, content: Callable[[], bytes], says: str
) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(content())

    with pytest.raises(PictureError, match=says) as caught:
        read_picture(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """In a process of its own: OpenCV reads its limit once, and other tests may have imported it first."""
    side_px = int(MAX_PIXELS**0.5) + 50
    (tmp_path / "bomb.png").write_bytes(bomb_png(side_px))
    script = "import sys, pathlib, edge; edge.read_picture(pathlib.Path(sys.argv[1]))"

    read = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bomb.png")], capture_output=True, text=True, check=False
    )

    assert read.returncode == 1
    assert "PictureError" in read.stderr and "over 120 megapixels" in read.stderr


def test_the_bomb_of_these_tests_is_a_picture_when_it_is_small(tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(bomb_png(40))

    assert read_picture(tmp_path / "small.png").shape == (40, 40, 3)


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "film.png").open("wb") as stream:
        stream.truncate(2**30 + 1)  # sparse: takes no room

    with pytest.raises(PictureError, match="at most 1073741824 are read"):
        read_picture(tmp_path / "film.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="No such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture(tmp_path)


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(PictureError, match="cannot be written"):
        write_picture(tmp_path / "file" / "a.png", COLOURS_BGR)
    with pytest.raises(PictureError, match="cannot be written"):
        (tmp_path / "b.png").mkdir()
        (tmp_path / "b.png" / "occupied").touch()
        write_picture(tmp_path / "b.png", COLOURS_BGR)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "file"]


def test_a_better_jpeg_is_nearer_and_larger() -> None:
    poor, good = (encode_picture(COLOURS_BGR, ".jpg", quality) for quality in (20, 98))

    def error(encoded: bytes) -> float:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        return float(np.abs(decoded.astype(int) - COLOURS_BGR).mean())

    assert len(poor) < len(good)
    assert error(good) < error(poor)


def test_pictures_are_found_sorted_hidden_ones_and_other_files_left_out(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "sub/c.tif", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(found: object) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in found]  # type: ignore[attr-defined]

    assert names(iter_picture_paths(tmp_path)) == ["a.jpg", "b.PNG", "sub/c.tif"]
    assert names(iter_picture_paths(tmp_path, recursive=False)) == ["a.jpg", "b.PNG"]
    assert names(iter_files(tmp_path)) == ["a.jpg", "b.PNG", "notes.txt", "sub/c.tif"]
