"""Where the part is in a picture, as far as a plain background tells."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge.pictures import FrameBgr
from edge.preprocess import resize_square

BORDER_PX = 3
PLAIN_LEVELS = 14  # a border pixel this near the border's median colour (Lab units) is plain background
PLAIN_SHARE = 0.9
PART_SHARE = (0.08, 0.92)  # outside this the mask says nothing worth having
MIN_SOLIDITY = 0.7


def estimate_part_mask(frames: Sequence[FrameBgr], size_px: int = 128) -> np.ndarray:
    """Good pictures -> (size_px, size_px) bool, True on the part; all True when in doubt, as for textures.

    A pixel belongs to the part when it does so in at least half of the pictures.
    """
    votes = [_mask_of_one(frame, size_px) for frame in frames]
    if not votes:
        return np.ones((size_px, size_px), dtype=bool)
    mask = np.mean(votes, axis=0) >= 0.5
    return mask if _is_believable(mask) else np.ones_like(mask)


def _mask_of_one(frame_bgr: FrameBgr, size_px: int) -> np.ndarray:
    """The largest blob that differs from a plain border, holes filled; all True without such a border."""
    everything = np.ones((size_px, size_px), dtype=bool)
    lab = cv2.cvtColor(resize_square(frame_bgr, size_px), cv2.COLOR_BGR2LAB).astype(np.float32)
    border = everything.copy()
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    distance = np.linalg.norm(lab - np.median(lab[border], axis=0), axis=2)  # (size, size) Lab units
    if (distance[border] <= PLAIN_LEVELS).mean() < PLAIN_SHARE:
        return everything
    contours, _ = cv2.findContours(
        cv2.morphologyEx((distance > PLAIN_LEVELS).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_NONE,
    )
    if not contours:
        return everything
    filled = np.zeros((size_px, size_px), dtype=np.uint8)
    cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(bool) if _is_believable(filled.astype(bool)) else everything


def _is_believable(mask: np.ndarray) -> bool:
    """One compact blob that is neither a speck nor nearly everything."""
    if not PART_SHARE[0] <= mask.mean() <= PART_SHARE[1]:
        return False
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))
    return bool(mask.sum() >= MIN_SOLIDITY * cv2.contourArea(hull))
