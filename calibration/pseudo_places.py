"""Where on the part a pseudo-defect sits: real types often differ by place as much as by looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

ZoneKind = Literal["anywhere", "centre", "rim", "side"]
ZONE_KINDS: tuple[ZoneKind, ...] = ("anywhere", "centre", "rim", "side")
COARSE_PX = 96  # places are drawn on a grid this fine; a mark is larger than its steps


@dataclass(frozen=True)
class Zone:
    """A preferred part of the part. direction_rad: which side, 0 to the right, growing clockwise; for `side` only."""

    kind: ZoneKind
    direction_rad: float = 0.0

    def cells(self, part_mask: np.ndarray) -> np.ndarray:
        """(H, W) bool part mask -> (COARSE_PX, COARSE_PX) bool, the cells of the part in this zone; never empty."""
        part = coarse_part(part_mask)
        depth = _depth(part)  # 0 at the part's edge, 1 at its innermost cell
        y, x = np.mgrid[:COARSE_PX, :COARSE_PX]
        along = (x - x[part].mean()) * np.cos(self.direction_rad) + (y - y[part].mean()) * np.sin(self.direction_rad)
        inside = {
            "anywhere": part,
            "centre": part & (depth >= 0.6),
            "rim": part & (depth <= 0.2),
            "side": part & (along >= 0.45 * along[part].max()),
        }[self.kind]
        return inside if inside.any() else part


def draw_zone(rng: np.random.Generator) -> Zone:
    """Every kind equally often."""
    return Zone(ZONE_KINDS[rng.integers(len(ZONE_KINDS))], float(rng.uniform(0, 2 * np.pi)))


def draw_place(zone: Zone, part_mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A point (x, y) in pixels of `part_mask` (H, W), uniform over the zone."""
    rows, columns = np.nonzero(zone.cells(part_mask))
    chosen = rng.integers(len(rows))
    H, W = part_mask.shape
    return (columns[chosen] + rng.random()) * W / COARSE_PX, (rows[chosen] + rng.random()) * H / COARSE_PX


def place_on_edge(part_mask: np.ndarray, near_xy: tuple[float, float]) -> tuple[tuple[float, float], float]:
    """The point of the part's edge nearest to `near_xy` and the direction (radians) that leads off the part there."""
    part = coarse_part(part_mask)
    padded = np.pad(part, 1).astype(np.uint8)
    edge = part & ~cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1].astype(bool)
    rows, columns = np.nonzero(edge)
    H, W = part_mask.shape
    x, y = (columns + 0.5) * W / COARSE_PX, (rows + 0.5) * H / COARSE_PX
    nearest = int(np.argmin((x - near_xy[0]) ** 2 + (y - near_xy[1]) ** 2))
    depth = cv2.GaussianBlur(cv2.distanceTransform(padded, cv2.DIST_L2, 3), (0, 0), 2)
    row, column = rows[nearest] + 1, columns[nearest] + 1  # in the padded grid
    inward_y = depth[row + 1, column] - depth[row - 1, column]
    inward_x = depth[row, column + 1] - depth[row, column - 1]
    return (float(x[nearest]), float(y[nearest])), float(np.arctan2(-inward_y, -inward_x))


def coarse_part(part_mask: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (COARSE_PX, COARSE_PX) bool; a mask without a single cell counts as all part."""
    part = cv2.resize(part_mask.astype(np.uint8), (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_NEAREST).astype(bool)
    return part if part.any() else np.ones_like(part)


def _depth(part: np.ndarray) -> np.ndarray:
    distance = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    return distance / max(float(distance.max()), 1e-6)
