"""BGR frame -> network input, exactly as the manifest says; never by looking at the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.manifest import Embedding
from edge.pictures import FrameBgr


def to_network_input(frame_bgr: FrameBgr, embedding: Embedding) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 BGR -> (1, 3, S, S) float32, `(pixel - mean) * scale` in the manifest's colour order.

    The picture is stretched to a square: area averaging when it shrinks, bilinear when it grows.
    """
    resized = resize_square(frame_bgr, embedding.input_size)
    swap = embedding.colour_order == "rgb"
    if len(set(embedding.scale)) == 1:  # one pass in C++, the usual case
        return np.asarray(
            cv2.dnn.blobFromImage(resized, embedding.scale[0], mean=embedding.mean, swapRB=swap),
            dtype=np.float32,
        )
    pixels = (resized[..., ::-1] if swap else resized).astype(np.float32)
    normalised = (pixels - np.array(embedding.mean, np.float32)) * np.array(embedding.scale, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis], dtype=np.float32)


def resize_square(frame_bgr: FrameBgr, size_px: int) -> FrameBgr:
    """Stretch to (size_px, size_px, 3)."""
    shrinks = frame_bgr.shape[0] >= size_px and frame_bgr.shape[1] >= size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame_bgr, (size_px, size_px), interpolation=interpolation), dtype=np.uint8)
