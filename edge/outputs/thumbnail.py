"""A small JPEG of a frame, never larger than it may be."""

from __future__ import annotations

import cv2
import numpy as np

from edge.pictures import FrameBgr, encode_picture

QUALITIES = (80, 60, 40)
SMALLEST_SIDE_PX = 16


def jpeg_thumbnail(frame_bgr: FrameBgr, longest_side_px: int, max_bytes: int) -> bytes | None:
    """JPEG of at most `longest_side_px` and `max_bytes`; None when not even a tiny one fits."""
    side_px = longest_side_px
    while side_px >= SMALLEST_SIDE_PX:
        small_bgr = _shrunk(frame_bgr, side_px)
        for quality in QUALITIES:
            jpeg = encode_picture(small_bgr, ".jpg", quality)
            if len(jpeg) <= max_bytes:
                return jpeg
        side_px //= 2
    return None


def _shrunk(frame_bgr: FrameBgr, side_px: int) -> FrameBgr:
    height, width = frame_bgr.shape[:2]
    factor = side_px / max(height, width)
    if factor >= 1:
        return frame_bgr
    size_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(frame_bgr, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
