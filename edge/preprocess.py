"""BGR frame -> network input, exactly as the manifest says; never by looking at the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.manifest import Embedding
from edge.pictures import FrameBgr


def to_network_input(frame_bgr: FrameBgr, embedding: Embedding) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 BGR -> (1, 3, S, S) float32, `(pixel - mean) * scale` in the manifest's colour order.

    The picture is stretched to a square, see `resize_square`.
    """
    resized = resize_square(frame_bgr, embedding.input_size)
    planes = cv2.split(resized)[:: -1 if embedding.colour_order == "rgb" else 1]
    images = np.empty((1, 3, *resized.shape[:2]), dtype=np.float32)
    for out, plane, mean, scale in zip(images[0], planes, embedding.mean, embedding.scale, strict=True):
        np.subtract(plane, mean, out=out, dtype=np.float32)  # blobFromImage does the same in seven times as long
        out *= scale
    return images


def resize_square(frame_bgr: FrameBgr, size_px: int) -> FrameBgr:
    """Stretch to (size_px, size_px, 3).

    A long side is halved until it is less than twice too long: bilinear at exactly one half is the average of two
    pixels. The last bilinear step then still sees every pixel, and all of it is much faster than one large area.
    """
    while max(frame_bgr.shape[:2]) >= 2 * size_px:
        frame_bgr = _halve_long_sides(frame_bgr, size_px)
    return np.asarray(cv2.resize(frame_bgr, (size_px, size_px), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _halve_long_sides(frame_bgr: FrameBgr, size_px: int) -> FrameBgr:
    H, W = frame_bgr.shape[:2]
    new_w, new_h = (side // 2 if side >= 2 * size_px else side for side in (W, H))
    whole = frame_bgr[: H // new_h * new_h, : W // new_w * new_w]  # an odd last row or column is left out
    return np.asarray(cv2.resize(whole, (new_w, new_h), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
