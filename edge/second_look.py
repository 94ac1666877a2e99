"""A second look at an odd region: a square window of the picture around it, through the whole backbone.

The first look ends at stride 16 and sees the whole part; this one sees the defect large, and reads the deepest
stage. It is what a person does who bends down to a part before naming what is wrong with it. A support, for which
there is time, is looked at from more sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.backend import Backend
from edge.manifest import Embedding
from edge.pictures import FrameBgr
from edge.preprocess import to_network_input
from edge.regions import BoxXyxy

Floats = npt.NDArray[np.float32]

# The window's side: this many times the region's longer side, but no less than this share of the picture.
REACH = 1.25
MIN_SIDE_SHARE = 0.25
# The region's weights are sampled this much finer than the grid of the second look, then averaged.
OVERSAMPLING = 4


@dataclass(frozen=True)
class Look:
    """A way to look at a region. zoom_out: side of the window over that of the plain one, before it meets the edge.

    half_turn: the window is turned by 180 degrees; how a scratch slants stays as it is.
    """

    zoom_out: float = 1.0
    half_turn: bool = False


PLAIN = Look()
# How a support is looked at. A query gets the first one alone: it has to be named while the line runs.
SUPPORT_LOOKS = (PLAIN, Look(half_turn=True), Look(zoom_out=1.75))


@dataclass(frozen=True)
class SecondLook:
    """The graph of the second look and what it takes."""

    backend: Backend
    embedding: Embedding

    def describe(self, frame_bgr: FrameBgr, box_xyxy: BoxXyxy, weights: Floats, look: Look = PLAIN) -> Floats:
        """(D,) backbone units: features of the window around `box_xyxy`, averaged with the region's weights.

        weights: (h, w) on the patch grid of the whole picture.
        """
        frame_hw = (frame_bgr.shape[0], frame_bgr.shape[1])
        x0, y0, x1, y1 = window = window_xyxy(box_xyxy, frame_hw, look.zoom_out)
        step = -1 if look.half_turn else 1
        pixels = np.ascontiguousarray(frame_bgr[y0:y1, x0:x1][::step, ::step])
        features = self.backend.run({"images": to_network_input(pixels, self.embedding)})[0]  # (N, D)
        seen = window_weights(weights, window, frame_hw, self.embedding.grid_hw)[::step, ::step]
        return np.asarray(seen.ravel() @ features, dtype=np.float32)

    def describe_from_all_sides(self, frame_bgr: FrameBgr, box_xyxy: BoxXyxy, weights: Floats) -> Floats:
        """(L, D) the same for each of SUPPORT_LOOKS, the plain one first."""
        return np.stack([self.describe(frame_bgr, box_xyxy, weights, look) for look in SUPPORT_LOOKS])


def window_xyxy(box_xyxy: BoxXyxy, frame_hw: tuple[int, int], zoom_out: float = 1.0) -> BoxXyxy:
    """The square window around a box, inside the picture, in source pixels, right and bottom exclusive."""
    H, W = frame_hw
    x0, y0, x1, y1 = box_xyxy
    wanted = zoom_out * max(REACH * max(x1 - x0, y1 - y0), MIN_SIDE_SHARE * min(H, W), 1)
    side = int(min(wanted, H, W))
    left = min(max((x0 + x1 - side) // 2, 0), W - side)
    top = min(max((y0 + y1 - side) // 2, 0), H - side)
    return left, top, left + side, top + side


def window_weights(weights: Floats, window: BoxXyxy, frame_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Floats:
    """(h, w) weights of the whole picture -> (h', w') weights of the window's grid that sum to 1."""
    (H, W), (h, w) = frame_hw, weights.shape
    x0, y0, x1, y1 = window
    x = _centres(x0 * w / W, x1 * w / W, grid_hw[1] * OVERSAMPLING)
    y = _centres(y0 * h / H, y1 * h / H, grid_hw[0] * OVERSAMPLING)
    map_x, map_y = np.meshgrid(x, y)
    fine = cv2.remap(weights, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.resize(fine, (grid_hw[1], grid_hw[0]), interpolation=cv2.INTER_AREA)
    total = float(seen.sum())
    if not total > 0:  # the region's weight lies between samples: every place of the window counts the same
        return np.full(grid_hw, 1 / (grid_hw[0] * grid_hw[1]), dtype=np.float32)
    return np.asarray(seen / total, dtype=np.float32)


def _centres(start: float, stop: float, count: int) -> Floats:
    """Centres of `count` cells from `start` to `stop`, in cells of the patch grid, whose centres are at n + 0.5."""
    return np.asarray(start + (stop - start) * (np.arange(count) + 0.5) / count - 0.5, dtype=np.float32)
