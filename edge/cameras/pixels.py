"""Pixel formats of machine vision cameras (PFNC names) to BGR."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.cameras.device import DeviceRefusal
from edge.pictures import FrameBgr

Raw = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Names from before PFNC, which GigE cameras still use.
_OLD_NAMES = {
    "RGB8Packed": "RGB8",
    "BGR8Packed": "BGR8",
    "RGBA8Packed": "RGBa8",
    "BGRA8Packed": "BGRa8",
    "YUV422Packed": "YUV422_8_UYVY",
    "YUYVPacked": "YUV422_8",
    "YCbCr422_8": "YUV422_8",
}
# PFNC names a mosaic by its first two pixels.
_MOSAICS = {
    "RG": cv2.COLOR_BayerRGGB2BGR,
    "GR": cv2.COLOR_BayerGRBG2BGR,
    "GB": cv2.COLOR_BayerGBRG2BGR,
    "BG": cv2.COLOR_BayerBGGR2BGR,
}
_BITS = (8, 10, 12, 14, 16)
# name: (channels, what cv2 calls the conversion)
_CONVERSIONS: dict[str, tuple[int, int | None]] = {
    "BGR8": (3, None),
    "RGB8": (3, cv2.COLOR_RGB2BGR),
    "RGBa8": (4, cv2.COLOR_RGBA2BGR),
    "BGRa8": (4, cv2.COLOR_BGRA2BGR),
    "YUV422_8": (2, cv2.COLOR_YUV2BGR_YUYV),
    "YUV422_8_UYVY": (2, cv2.COLOR_YUV2BGR_UYVY),
    **{f"Mono{bits}": (1, cv2.COLOR_GRAY2BGR) for bits in _BITS},
    **{f"Bayer{word}{bits}": (1, code) for word, code in _MOSAICS.items() for bits in _BITS},
}
SUPPORTED = "Mono8/10/12/14/16, BayerRG8 (GR, GB, BG; 10 to 16), RGB8, BGR8, RGBa8, BGRa8, YUV422_8, YUV422_8_UYVY"


def to_bgr(raw: Raw, size_wh: tuple[int, int], pixel_format: str) -> FrameBgr:
    """Flat pixels, padding at the end of rows allowed, uint16 when above 8 bits -> (H, W, 3) uint8, of its own memory.

    DeviceRefusal when the format is not supported. Deep pixels keep their upper 8 bits.
    """
    name = _OLD_NAMES.get(pixel_format, pixel_format)
    if name not in _CONVERSIONS:
        raise DeviceRefusal(f"pixel format {pixel_format} is not supported; set pixel_format to one of {SUPPORTED}")
    channels, code = _CONVERSIONS[name]
    width, height = size_wh
    shift = _bits(name) - 8 if raw.dtype == np.uint16 else 0
    rows = raw.reshape(height, -1)[:, : width * channels]
    pixels: npt.NDArray[np.uint8] = np.array(rows >> shift if shift else rows, np.uint8, order="C")
    if channels > 1:
        pixels = pixels.reshape(height, width, channels)
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def _bits(name: str) -> int:
    return next(bits for bits in reversed(_BITS) if name.endswith(str(bits)))
