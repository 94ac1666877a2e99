"""Draws docs/strip.jpg from a finished demo: python docs/make_strip.py DEMO_FOLDER (after `oddkind demo`)."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from edge import Inspector, Provenance, read_picture
from edge.draw import draw_heatmap, draw_inspection
from edge.pictures import FrameBgr, write_picture

SHOWN = ("good/000.png", "chip/003.png", "misprint/002.png", "stain/004.png")
SIDE_PX, GAP_PX = 232, 8


def main(demo: Path) -> None:
    """Three rows: the part, the anomaly map over it, the verdict."""
    inspector = Inspector.load(demo / "bundle")
    columns = [column(inspector, demo / "unseen" / name) for name in SHOWN]
    height = max(len(each) for each in columns)  # a long name makes a lower banner
    columns = [np.vstack([each, white(height - len(each), SIDE_PX)]) for each in columns]
    strip = np.hstack([part for each in columns for part in (each, white(height, GAP_PX))][:-1])
    write_picture(Path(__file__).with_name("strip.jpg"), strip)


def column(inspector: Inspector, path: Path) -> FrameBgr:
    """One part from top to bottom, all pictures of one width."""
    frame_bgr = read_picture(path)
    anomaly = inspector.detect(frame_bgr)
    threshold = inspector.manifest.thresholds.pixel_threshold
    verdict = inspector.inspect(frame_bgr, Provenance(str(path), 0, "1970-01-01T00:00:00.000Z"))
    rows = (frame_bgr, draw_heatmap(frame_bgr, anomaly.anomaly_map, threshold), draw_inspection(frame_bgr, verdict))
    return np.vstack([part for row in rows for part in (to_width(row), white(GAP_PX, SIDE_PX))][:-1])


def white(height: int, width: int) -> FrameBgr:
    """Nothing, between pictures."""
    return np.full((height, width, 3), 255, dtype=np.uint8)


def to_width(picture: FrameBgr) -> FrameBgr:
    """Shrunk to SIDE_PX wide."""
    height = round(picture.shape[0] * SIDE_PX / picture.shape[1])
    return np.asarray(cv2.resize(picture, (SIDE_PX, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
