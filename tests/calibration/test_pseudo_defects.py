"""Pseudo-defect classes, the places they take and the part mask."""

from __future__ import annotations

import sys
from collections import Counter
from subprocess import run

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.demo_line import render_good
from calibration.part_mask import estimate_part_mask
from calibration.perlin import generated_texture, perlin_noise
from calibration.pseudo_defects import FAMILIES, PseudoClass, draw_pseudo_classes
from calibration.pseudo_places import ZONE_KINDS, Zone, draw_place, place_on_edge


def structured_frame(height_px: int = 120, width_px: int = 160) -> np.ndarray:
    """Coloured noise: every family finds something to change in it."""
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (height_px, width_px, 3)).astype(np.float32), (0, 0), 1.5)
    return np.clip(3 * (noise - 128) + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_changes_exactly_the_pixels_of_its_mask(family: str) -> None:
    frame = structured_frame()
    before = frame.copy()
    pseudo_class = draw_pseudo_classes(len(FAMILIES), seed=1)[FAMILIES.index(family)]
    painted, mask = pseudo_class.apply(frame, np.random.default_rng(0))
    assert painted.shape == frame.shape and painted.dtype == np.uint8 and mask.dtype == np.bool_
    assert mask.any()
    np.testing.assert_array_equal(mask, (painted != frame).any(axis=2))
    np.testing.assert_array_equal(frame, before)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 47), st.integers(0, 2**32 - 1), st.integers(16, 90), st.integers(16, 90))
def test_marks_stay_on_the_part_whatever_the_frame_size(number: int, seed: int, height: int, width: int) -> None:
    frame = structured_frame(height, width)
    part = np.zeros((height, width), dtype=bool)
    part[height // 4 : -height // 4, width // 4 : -width // 4] = True
    painted, mask = draw_pseudo_classes(48, seed=2)[number].apply(frame, np.random.default_rng(seed), part)
    assert not (mask & ~part).any()
    np.testing.assert_array_equal(painted[~part], frame[~part])


def test_the_same_generator_state_paints_the_same_picture() -> None:
    frame = structured_frame()
    for pseudo_class in draw_pseudo_classes(12, seed=5):
        one, _ = pseudo_class.apply(frame, np.random.default_rng(7))
        two, _ = pseudo_class.apply(frame, np.random.default_rng(7))
        other, _ = pseudo_class.apply(frame, np.random.default_rng(8))
        np.testing.assert_array_equal(one, two)
        assert (one != other).any(), pseudo_class.name


def test_a_seed_draws_the_same_classes_and_another_seed_others() -> None:
    assert draw_pseudo_classes(30, seed=1) == draw_pseudo_classes(30, seed=1)
    assert draw_pseudo_classes(30, seed=1) != draw_pseudo_classes(30, seed=2)


def test_families_are_taken_in_turn_so_that_few_classes_already_vary() -> None:
    assert [c.family for c in draw_pseudo_classes(len(FAMILIES), seed=0)] == list(FAMILIES)
    assert set(Counter(c.family for c in draw_pseudo_classes(3 * len(FAMILIES), seed=0)).values()) == {3}


def test_every_second_class_of_a_family_is_the_same_mark_at_another_place() -> None:
    classes = draw_pseudo_classes(2 * len(FAMILIES), seed=4)
    for first, second in zip(classes[: len(FAMILIES)], classes[len(FAMILIES) :], strict=True):
        assert first.look == second.look and first.zone != second.zone
    assert {c.zone.kind for c in draw_pseudo_classes(60, seed=4)} == set(ZONE_KINDS)


def test_given_textures_are_the_ones_that_are_blended_in() -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 2] = 255
    grey_but_coloured = np.full((100, 100, 3), (90, 110, 100), dtype=np.uint8)
    polygon = next(c for c in draw_pseudo_classes(12, 0, [red]) if c.family == "polygon_texture")
    painted, mask = polygon.apply(grey_but_coloured, np.random.default_rng(0))
    assert (painted[mask][:, 2] > 100).all() and (painted[mask][:, 0] < 90).all()


def test_a_grey_picture_stays_grey() -> None:
    grey = np.repeat(structured_frame()[..., :1], 3, axis=2)
    for pseudo_class in draw_pseudo_classes(24, seed=6):
        painted, _ = pseudo_class.apply(grey, np.random.default_rng(1))
        assert (painted == painted[..., :1]).all(), pseudo_class.name


def test_a_blur_on_a_flat_surface_changes_nothing_and_says_so() -> None:
    flat = np.full((80, 80, 3), 120, dtype=np.uint8)
    blur = next(c for c in draw_pseudo_classes(12, seed=0) if c.family == "blur")
    painted, mask = blur.apply(flat, np.random.default_rng(0))
    assert not mask.any()
    np.testing.assert_array_equal(painted, flat)


def with_family(family: str) -> PseudoClass:
    return next(c for c in draw_pseudo_classes(12, seed=0) if c.family == family)


def test_a_missing_part_shows_what_lies_beyond_the_part() -> None:
    frame = np.full((128, 128, 3), 230, dtype=np.uint8)
    part = np.zeros((128, 128), dtype=bool)
    part[32:96, 32:96] = True
    frame[part] = 60
    _, mask = with_family("missing_part").apply(frame, np.random.default_rng(0), part)
    edge = part & ~cv2.erode(part.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    assert (mask & edge).any()


def test_places_lie_in_their_zone() -> None:
    part = np.ones((200, 400), dtype=bool)
    rng = np.random.default_rng(0)
    centre = np.array([draw_place(Zone("centre"), part, rng) for _ in range(100)])
    assert centre[:, 0].min() > 75 and centre[:, 0].max() < 325  # x; the outermost 60 % of the depth is left out
    assert centre[:, 1].min() > 40 and centre[:, 1].max() < 160
    right = np.array([draw_place(Zone("side", 0.0), part, rng) for _ in range(100)])
    assert right[:, 0].min() > 250
    rim = np.array([draw_place(Zone("rim"), part, rng) for _ in range(100)])
    to_edge = np.minimum.reduce([rim[:, 0] / 400, 1 - rim[:, 0] / 400, rim[:, 1] / 200, 1 - rim[:, 1] / 200])
    assert to_edge.max() < 0.13


def test_the_nearest_edge_point_leads_off_the_part() -> None:
    part = np.zeros((96, 96), dtype=bool)
    part[20:76, 20:76] = True
    (x, y), outward_rad = place_on_edge(part, (70.0, 48.0))
    assert x == pytest.approx(75.5) and abs(y - 48) <= 1
    assert np.cos(outward_rad) == pytest.approx(1, abs=0.05)


def test_part_mask_finds_a_disc_on_a_plain_background() -> None:
    frames = []
    for shade in (70, 90, 110):
        frame = np.full((256, 256, 3), 240, dtype=np.uint8)
        cv2.circle(frame, (128, 128), 80, (shade, shade, shade), -1)
        frames.append(frame)
    mask = estimate_part_mask(frames, size_px=128)
    assert mask.shape == (128, 128) and mask.dtype == np.bool_
    assert mask.mean() == pytest.approx(np.pi * 80**2 / 256**2, rel=0.05)
    assert mask[64, 64] and not mask[4, 4]


@pytest.mark.parametrize(
    "frame",
    [structured_frame(), np.full((90, 70, 3), 128, dtype=np.uint8), generated_texture(np.random.default_rng(1))],
    ids=["noise", "flat", "texture"],
)
def test_part_mask_is_everything_when_in_doubt(frame: np.ndarray) -> None:
    assert estimate_part_mask([frame, frame]).all()
    assert estimate_part_mask([]).all()


def test_part_mask_of_the_demo_part_leaves_the_belt_out() -> None:
    mask = estimate_part_mask([render_good(i) for i in range(4)])
    assert mask[64, 64]
    assert 0.1 < mask.mean() <= 1


def test_perlin_noise_is_zero_on_its_lattice_and_smooth_between() -> None:
    noise = perlin_noise((64, 64), (4, 4), np.random.default_rng(0))
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise[::16, ::16], 0, atol=1e-6)
    assert 0.1 < np.abs(noise).max() <= 1.01
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2


def test_pseudo_defects_need_no_torch() -> None:
    code = "import sys, calibration.pseudo_defects, calibration.part_mask; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
