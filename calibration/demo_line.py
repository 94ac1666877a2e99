"""A small product line made of arithmetic: pictures of good and bad parts for the demo and the tests.

Every picture depends on its number and the seed alone. No two parts are alike: brushing, tint, light,
position, belt and sensor noise vary as they do under a real camera.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from calibration.demo_defects import DAMAGES
from calibration.demo_part import PART_PX, Floats, Part, draw_part, smooth_noise
from edge.errors import UsageError
from edge.pictures import FrameBgr, write_picture

Mask = npt.NDArray[np.bool_]

FRAME_PX = PART_PX // 2
KINDS = tuple(DAMAGES)
SHADOW_PX = (14, 10)


def render_good(index: int, seed: int = 0) -> FrameBgr:
    """Good part number `index`: (320, 320, 3) uint8 BGR."""
    rng = np.random.default_rng([seed, 0, index])
    return _photograph(draw_part(rng), None, rng)[0]


def render_defect(kind: str, index: int, seed: int = 0) -> tuple[FrameBgr, Mask]:
    """Part number `index` with a defect of `kind`: (320, 320, 3) uint8 BGR, and (320, 320) bool where it is."""
    if kind not in DAMAGES:
        raise UsageError(f"no defect kind {kind!r}; expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, 1 + KINDS.index(kind), index])
    return _photograph(*DAMAGES[kind](rng), rng)


def write_line(folder: Path, good: int = 40, per_kind: int = 6, held_out_good: int = 10, seed: int = 0) -> None:
    """Write a data set in the MVTec layout: train/good, test/good, test/KIND, ground_truth/KIND/*_mask.png."""
    for index in range(good + held_out_good):
        split, number = ("train", index) if index < good else ("test", index - good)
        write_picture(folder / split / "good" / f"{number:03}.png", render_good(index, seed))
    for kind in KINDS:
        for index in range(per_kind):
            frame_bgr, mask = render_defect(kind, index, seed)
            write_picture(folder / "test" / kind / f"{index:03}.png", frame_bgr)
            mask_picture = np.where(mask, 255, 0).astype(np.uint8)
            write_picture(folder / "ground_truth" / kind / f"{index:03}_mask.png", mask_picture)


def _photograph(part: Part, changed: Floats | None, rng: np.random.Generator) -> tuple[FrameBgr, Mask]:
    """Lay the part on the belt a little askew, light it, and expose it on a noisy sensor."""
    pose = _pose(rng)
    cover, colour = _move(part.cover, pose), _move(part.colour_bgr, pose)
    ground = _belt(rng) * (1 - 0.5 * _shadow(cover))[..., None]
    scene = ground * (1 - cover)[..., None] + colour * cover[..., None]
    scene = scene * _light(rng)[..., None]
    small = cv2.resize(scene, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.4, 0.7))
    noisy = small + rng.normal(0, 2.2, small.shape) + rng.normal(0, 1.5, small.shape[:2])[..., None]
    frame_bgr = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    return frame_bgr, _to_mask(changed, pose)


def _pose(rng: np.random.Generator) -> np.ndarray:
    turn_deg, zoom = rng.normal(0, 1.0), rng.normal(1.0, 0.006)
    pose = np.array(cv2.getRotationMatrix2D((PART_PX / 2, PART_PX / 2), float(turn_deg), float(zoom)), dtype=np.float64)
    pose[:, 2] += rng.normal(0, 5, 2)
    return pose


def _move(picture: Floats, pose: np.ndarray) -> Floats:
    return np.asarray(cv2.warpAffine(picture, pose, (PART_PX, PART_PX), flags=cv2.INTER_LINEAR), dtype=np.float32)


def _to_mask(changed: Floats | None, pose: np.ndarray) -> Mask:
    if changed is None:
        return np.zeros((FRAME_PX, FRAME_PX), dtype=np.bool_)
    moved = _move(changed.astype(np.float32), pose)
    return np.asarray(cv2.resize(moved, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_AREA) > 0.25, dtype=np.bool_)


def _belt(rng: np.random.Generator) -> Floats:
    """(S, S, 3) woven rubber, somewhere along its length."""
    y, x = np.mgrid[:PART_PX, :PART_PX].astype(np.float32)
    y = y + np.float32(rng.uniform(0, 20))
    weave = np.sin((x + y) * 0.45) * np.sin((x - y) * 0.45)
    shade = 1 + 0.10 * weave + 0.05 * smooth_noise(rng, 10) + 0.05 * smooth_noise(rng, 200)
    return np.asarray(np.array([66, 70, 58]) * shade[..., None], dtype=np.float32)


def _shadow(cover: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(np.roll(cover, SHADOW_PX, axis=(0, 1)), (0, 0), 9), dtype=np.float32)


def _light(rng: np.random.Generator) -> Floats:
    """(S, S) a lamp that is never quite where it was: brightness and fall-off across the picture."""
    ramp = np.linspace(-1, 1, PART_PX, dtype=np.float32)
    fall_off = rng.normal(-0.06, 0.02) * ramp[None, :] + rng.normal(-0.06, 0.02) * ramp[:, None]
    return np.asarray(rng.normal(1.0, 0.03) + fall_off, dtype=np.float32)
