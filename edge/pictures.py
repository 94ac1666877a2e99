"""Reading picture files without trusting them. The only file that decodes pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MAX_PIXELS = 120_000_000
# OpenCV reads this once, at import: a decompression bomb then raises instead of filling the memory.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from edge.errors import PictureError  # noqa: E402

FrameBgr = npt.NDArray[np.uint8]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
MIN_SIDE_PX = 8
MAX_FILE_BYTES = 2**30  # more than MAX_PIXELS in 16 bits, uncompressed: a video, say, is not read into memory


def read_picture(path: Path) -> FrameBgr:
    """(H, W, 3) uint8 BGR; PictureError says why a file is not a picture we can inspect.

    16-bit pictures are scaled to 8 bits by their format's full range, grey ones repeated to three channels.
    """
    try:
        refuse_huge(path.stat().st_size, path)
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as exc:
        raise PictureError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    return decode_picture(encoded, path)


def refuse_huge(size_bytes: int, where: Path | str) -> None:
    """PictureError for a file that must not be read into memory."""
    if size_bytes > MAX_FILE_BYTES:
        raise PictureError(f"{where}: {size_bytes} bytes, at most {MAX_FILE_BYTES} are read")


def decode_picture(encoded: npt.NDArray[np.uint8], where: Path | str) -> FrameBgr:
    """(bytes,) uint8 of a picture file -> frame, as `read_picture` does; where: its name, for errors."""
    if encoded.size == 0:
        raise PictureError(f"{where}: the file is empty")
    try:
        frame_bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as exc:
        raise PictureError(f"{where}: cannot be decoded, broken or over {MAX_PIXELS // 10**6} megapixels") from exc
    if frame_bgr is None:
        raise PictureError(f"{where}: not a picture OpenCV can decode, or broken")
    if min(frame_bgr.shape[:2]) < MIN_SIDE_PX:
        raise PictureError(f"{where}: {frame_bgr.shape[1]} x {frame_bgr.shape[0]} px, at least {MIN_SIDE_PX} needed")
    return np.asarray(frame_bgr, dtype=np.uint8)


def write_picture(path: Path, frame_bgr: FrameBgr) -> None:
    """Encode by the file's suffix and write whole or not at all; PictureError when the disk refuses."""
    encoded = encode_picture(frame_bgr, path.suffix)
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(encoded)
        aside.replace(path)
    except OSError as exc:
        with suppress(OSError):
            aside.unlink()
        raise PictureError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def encode_picture(frame_bgr: FrameBgr, suffix: str, jpeg_quality: int = 95) -> bytes:
    """Encoded bytes in the format of `suffix`, such as `.png` or `.jpg`."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix.lower() in (".jpg", ".jpeg") else []
    written, encoded = cv2.imencode(suffix, frame_bgr, options)
    if not written:
        raise PictureError(f"OpenCV cannot encode {suffix!r}")
    return encoded.tobytes()


def iter_picture_paths(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Files with a picture's suffix below `folder`, sorted, hidden ones left out."""
    for path in iter_files(folder, recursive):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            yield path


def iter_files(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Every regular file below `folder`, sorted, hidden files and folders left out."""
    pattern = "**/*" if recursive else "*"
    for path in sorted(folder.glob(pattern)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path
