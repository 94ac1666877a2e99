"""Pictures for the benches that cycle through a few: given ones, or one generated, turned over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.bench_worker import generate_frame
from edge.errors import UsageError
from edge.pictures import FrameBgr, iter_picture_paths, read_picture

MAX_PICTURES = 8  # they stay in memory


def few_pictures(source: Path | None, frame_wh: tuple[int, int]) -> list[FrameBgr]:
    """Each (H, W, 3) uint8: up to MAX_PICTURES of a folder, or a picture and its reflections.

    source: folder or picture, None for a generated frame of `frame_wh`. UsageError for a folder without pictures.
    """
    if source is not None and source.is_dir():
        return [read_picture(path) for path in _spread(sorted(iter_picture_paths(source)), source)]
    frame_bgr = generate_frame(frame_wh) if source is None else read_picture(source)
    reflections = (frame_bgr, frame_bgr[::-1], frame_bgr[:, ::-1], frame_bgr[::-1, ::-1])
    return [np.ascontiguousarray(each) for each in reflections]


def _spread(paths: Sequence[Path], folder: Path) -> list[Path]:
    """At most MAX_PICTURES of them, evenly from the first to the last."""
    if not paths:
        raise UsageError(f"--picture {folder}: no pictures in this folder; give a picture, or a folder of pictures")
    count = min(MAX_PICTURES, len(paths))
    return [paths[round(step)] for step in np.linspace(0, len(paths) - 1, count)]
