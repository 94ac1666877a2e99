"""One mark each: the twelve families of pseudo-defects, painted into a small window of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from calibration.perlin import perlin_noise
from edge.pictures import FrameBgr

Painted = np.ndarray  # (H, W, 3) float32, grey levels, may leave 0..255


@dataclass(frozen=True)
class Look:
    """What makes two marks the same class, whatever their place.

    size: longest side as a share of the picture's shorter side. elongation: length / width, at least 1.
    angle_rad: direction of the length, None for any. contrast: grey levels added, negative for darker.
    tint: (blue, green, red) weights of the contrast. softness: 0 sharp edge .. 1 fades from the middle.
    roughness: 0 smooth outline .. 1 ragged. amount: family's own strength, 0..1. count: marks a picture.
    """

    size: float
    elongation: float
    angle_rad: float | None
    contrast: float
    tint: tuple[float, float, float]
    softness: float
    roughness: float
    amount: float
    count: int
    texture: FrameBgr | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Spot:
    """Where one mark goes in its window: centre (x, y), length and direction, colour beyond the part."""

    centre_xy: tuple[float, float]
    size_px: float
    angle_rad: float
    beyond_bgr: np.ndarray


Paint = Callable[[Painted, Spot, Look, np.random.Generator], Painted]


def perlin_texture(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A foreign texture where Perlin noise is high (the paper's pseudo-defect)."""
    cells = int(rng.integers(2, 5))
    noise = perlin_noise((window.shape[0], window.shape[1]), (cells, cells), rng)
    alpha = blob(window, spot, look, rng) * _step(noise, 0.0, 0.05 + 0.2 * look.softness)
    return _blend(window, alpha * (0.5 + 0.5 * look.amount), _texture_like(window, look, rng))


def polygon_texture(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A foreign texture inside a polygon of three to six corners."""
    alpha = _polygon(window, spot, look, rng, corners=3 + round(3 * look.amount))
    return _blend(window, alpha * (0.5 + 0.5 * look.amount), _texture_like(window, look, rng))


def scratch(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A thin, slightly bent line, fainter towards its ends, with a lit flank when it is deep."""
    t = np.linspace(-0.5, 0.5, 24)
    bend = rng.normal(0, 0.15 * look.roughness) * (4 * t**2 - 1) + rng.normal(0, 0.01, t.size)
    line = _along(spot, t * spot.size_px, bend * spot.size_px)
    width_px = max(1.0, 0.03 * spot.size_px * (0.4 + look.amount))
    groove = _strokes(window, [(line, width_px)], look.softness)
    marked = _shade(window, groove, look)
    flank = np.roll(groove, max(1, round(width_px)), axis=(0, 1)) * (1 - groove)
    return np.asarray(marked - (0.4 * look.amount * look.contrast * flank)[..., None])


def crack(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A random walk that keeps its heading and branches; each branch is thinner."""
    width_px = max(1.0, 0.025 * spot.size_px * (0.5 + look.amount))
    start = _along(spot, np.array([-0.5 * spot.size_px]), np.zeros(1))[0]
    pending = [(start, spot.angle_rad, 20, width_px)]
    strokes: list[tuple[np.ndarray, float]] = []
    while pending and len(strokes) < 12:
        at, heading, steps, width = pending.pop()
        path = [at]
        for step in range(steps):
            heading += rng.normal(0, 0.15 + 0.35 * look.roughness)
            at = at + spot.size_px / 20 * np.array([np.cos(heading), np.sin(heading)])
            path.append(at)
            if steps - step > 4 and rng.random() < 0.12 * look.elongation / 2:
                side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
                pending.append((at, heading + side, (steps - step) // 2, max(1.0, 0.7 * width)))
        strokes.append((np.array(path), width))
    return _shade(window, _strokes(window, strokes, 0.3 * look.softness), look)


def hole(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A dark pit whose rim is lit on one side and in shadow on the other."""
    radius = _radius(window, spot, replace(look, roughness=0.4 * look.roughness), rng)
    inside = _step(1 - radius, 0.0, 0.08 + 0.3 * look.softness)
    depth = 1 - (0.45 + 0.5 * look.amount) * inside
    rim = np.exp(-(((radius - 1.1) / 0.18) ** 2))
    y, x = _offsets(window, spot)
    lit = (x + y) / np.maximum(np.hypot(x, y) * np.sqrt(2), 1)  # light from the upper left
    return np.asarray(window * depth[..., None] + (0.5 * abs(look.contrast) * rim * lit)[..., None])


def stain(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A soft bright or dark patch with an uneven inside."""
    uneven = 1 + 0.5 * look.amount * perlin_noise((window.shape[0], window.shape[1]), (3, 3), rng)
    return _shade(window, blob(window, spot, look, rng) * uneven, look)


def dent(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A smooth hollow: no colour of its own, lit on one flank and dark on the other."""
    radius = _radius(window, spot, look, rng)
    bump = np.exp(-2 * radius**2)
    y, x = _offsets(window, spot)
    slope = (x + y) / max(spot.size_px / 2, 1) * bump * 2.3
    return np.asarray(window + (0.8 * look.contrast * slope)[..., None])


def missing_part(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """A chip off the edge: what lies beyond the part shows, with a pale or dark fracture along it."""
    sharp = replace(look, softness=0.2 * look.softness)
    alpha = _polygon(window, spot, sharp, rng, corners=5 + round(4 * look.roughness))
    line = cv2.GaussianBlur(alpha, (0, 0), max(1.0, 0.04 * spot.size_px)) * (1 - alpha)
    chipped = _blend(window, alpha, np.broadcast_to(spot.beyond_bgr, window.shape))
    return np.asarray(chipped + (1.2 * look.contrast * look.amount * line)[..., None])


def speckle(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """Contamination: many grains or short fibres within the region."""
    grains = 4 + round(40 * look.amount)
    length_px = spot.size_px * (0.03 + 0.15 * look.roughness)
    canvas = np.zeros(window.shape[:2], dtype=np.float32)
    places = _along(spot, rng.normal(0, 0.2, grains) * spot.size_px, _across(spot, look, rng, grains))
    for x, y in places:
        angle = rng.uniform(0, np.pi)
        dx, dy = 0.5 * rng.exponential(length_px) * np.array([np.cos(angle), np.sin(angle)])
        ends = ((round(x - dx), round(y - dy)), (round(x + dx), round(y + dy)))
        cv2.line(canvas, *ends, float(rng.uniform(0.5, 1)), max(1, round(0.025 * spot.size_px)), cv2.LINE_AA)
    return _shade(window, canvas, look)


def blur(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """The surface's own texture wiped away."""
    sigma_px = max(1.5, spot.size_px * (0.03 + 0.1 * look.amount))
    return _blend(window, blob(window, spot, look, rng), cv2.GaussianBlur(window, (0, 0), sigma_px))


def colour_shift(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """Another hue and brightness, the texture kept."""
    gain = 1 + look.contrast / 160 * np.array(look.tint, dtype=np.float32)
    return _blend(window, blob(window, spot, look, rng), window * gain)


def displaced(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> Painted:
    """The surface pushed aside and twisted."""
    alpha = blob(window, spot, look, rng)
    y, x = _offsets(window, spot)
    twist = alpha * (look.amount - 0.5) * 2.5
    push = alpha * spot.size_px * 0.35
    from_x = spot.centre_xy[0] + x * np.cos(twist) - y * np.sin(twist) - push * np.cos(spot.angle_rad)
    from_y = spot.centre_xy[1] + x * np.sin(twist) + y * np.cos(twist) - push * np.sin(spot.angle_rad)
    return cv2.remap(
        window, from_x.astype(np.float32), from_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def blob(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in 0..1: an ellipse with a more or less ragged outline and a more or less soft edge."""
    return _step(1 - _radius(window, spot, look, rng), 0.0, 0.05 + 0.8 * look.softness)


def _radius(window: Painted, spot: Spot, look: Look, rng: np.random.Generator) -> np.ndarray:
    """(H, W): 0 at the centre, 1 on the outline."""
    y, x = _offsets(window, spot)
    along = x * np.cos(spot.angle_rad) + y * np.sin(spot.angle_rad)
    across = y * np.cos(spot.angle_rad) - x * np.sin(spot.angle_rad)
    radius = np.hypot(along, across * look.elongation) / (spot.size_px / 2)
    ragged = perlin_noise((window.shape[0], window.shape[1]), (6, 6), rng)
    return np.asarray(radius * (1 + 0.7 * look.roughness * ragged), dtype=np.float32)


def _offsets(window: Painted, spot: Spot) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: window.shape[0], : window.shape[1]].astype(np.float32)
    return y - spot.centre_xy[1], x - spot.centre_xy[0]


def _along(spot: Spot, along_px: np.ndarray, across_px: np.ndarray) -> np.ndarray:
    """Coordinates along and across the mark -> (n, 2) window pixels."""
    cosine, sine = np.cos(spot.angle_rad), np.sin(spot.angle_rad)
    return np.stack(
        [
            spot.centre_xy[0] + along_px * cosine - across_px * sine,
            spot.centre_xy[1] + along_px * sine + across_px * cosine,
        ],
        axis=1,
    )


def _across(spot: Spot, look: Look, rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0, 0.2, count) * spot.size_px / look.elongation


def _strokes(window: Painted, strokes: list[tuple[np.ndarray, float]], softness: float) -> np.ndarray:
    """Polylines with widths in pixels -> (H, W) float32 in 0..1, drawn to a sixteenth of a pixel."""
    canvas = np.zeros(window.shape[:2], dtype=np.uint8)
    for points, width_px in strokes:
        fixed = np.round(points * 16).astype(np.int32)
        cv2.polylines(canvas, [fixed], False, 255, max(1, round(width_px)), cv2.LINE_AA, shift=4)
    sigma_px = 0.4 + softness * max(width for _, width in strokes)
    soft = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), sigma_px)
    return np.asarray(soft / max(float(soft.max()), 1e-6))


def _polygon(window: Painted, spot: Spot, look: Look, rng: np.random.Generator, corners: int) -> np.ndarray:
    angles = np.sort(rng.uniform(0, 2 * np.pi / corners, corners) + np.arange(corners) * 2 * np.pi / corners)
    reach = spot.size_px / 2 * (1 - 0.5 * look.roughness * rng.random(corners))
    points = _along(spot, reach * np.cos(angles), reach * np.sin(angles) / look.elongation)
    canvas = np.zeros(window.shape[:2], dtype=np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 0.5 + 0.1 * look.softness * spot.size_px)


def _texture_like(window: Painted, look: Look, rng: np.random.Generator) -> Painted:
    """A random cut of the class's texture, as large as the window."""
    assert look.texture is not None
    H, W = window.shape[:2]
    zoom = max((H + 1) / look.texture.shape[0], (W + 1) / look.texture.shape[1], 0.5 + look.amount)
    larger = cv2.resize(look.texture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    top, left = rng.integers(larger.shape[0] - H + 1), rng.integers(larger.shape[1] - W + 1)
    return larger[top : top + H, left : left + W].astype(np.float32)


def _shade(window: Painted, alpha: np.ndarray, look: Look) -> Painted:
    return window + look.contrast * alpha[..., None] * np.array(look.tint, dtype=np.float32)


def _blend(window: Painted, alpha: np.ndarray, other: np.ndarray) -> Painted:
    return np.asarray(window + alpha[..., None] * (other - window))


def _step(values: np.ndarray, at: float, width: float) -> np.ndarray:
    return np.asarray(np.clip((values - at) / width, 0, 1))
