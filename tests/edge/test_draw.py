"""Verdicts and heat-maps drawn on frames of every size."""

from __future__ import annotations

import numpy as np
import pytest

from edge.draw import (
    VERDICT_BGR,
    banner_text,
    draw_heatmap,
    draw_inspection,
    enlarged,
    fit_within,
    region_label,
)
from edge.result import Inspection, Provenance, Region, no_verdict

PROVENANCE = Provenance("line 1", 7, "2026-11-23T20:00:00.000Z")


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def inspection(score: float = 3.0, threshold: float = 2.0, *regions: Region) -> Inspection:
    verdict = "good" if score <= threshold else "defect"
    name = regions[0].defect_class if regions else None
    return Inspection(PROVENANCE, "0" * 16, verdict, score, threshold, regions, name)


def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(H, W) bool: where the picture has exactly this colour."""
    return np.asarray((picture == np.array(colour, dtype=np.uint8)).all(axis=2))


@pytest.mark.parametrize("size_hw", [(100, 100), (240, 320), (3000, 4000), (8, 8), (40, 1200), (9, 5000)])
def test_banner_stands_above_the_frame_whatever_its_size(size_hw: tuple[int, int]) -> None:
    frame_bgr = grey(*size_hw)

    drawn = draw_inspection(frame_bgr, inspection())

    factor = drawn.shape[1] // size_hw[1]
    banner_height = drawn.shape[0] - factor * size_hw[0]
    assert drawn.shape[1] == factor * size_hw[1]
    assert banner_height >= 12
    assert shows(drawn[:banner_height], VERDICT_BGR["defect"]).mean() > 0.5
    assert (drawn[banner_height:] == 128).all()  # nothing of the part is covered
    assert (frame_bgr == 128).all()


def test_small_frames_are_enlarged_until_a_label_can_be_read() -> None:
    assert enlarged(grey(100, 120))[0].shape == (400, 480, 3)
    assert enlarged(grey(100, 120))[1] == 4
    assert enlarged(grey(320, 400))[1] == 1
    assert enlarged(grey(9, 5000))[1] == 1  # a strip is not blown up to 180,000 pixels


def test_box_is_drawn_around_the_region_at_the_enlarged_place() -> None:
    region = Region((40, 50, 60, 70), 400, 3.0, "scratch", 0.8)

    drawn = draw_inspection(grey(100, 100), inspection(3.0, 2.0, region))

    picture = drawn[-400:]  # enlarged four times
    red = shows(picture, VERDICT_BGR["defect"])
    rows, columns = np.flatnonzero(red[200:, :].any(axis=1)) + 200, np.flatnonzero(red[240:270].any(axis=0))
    assert abs(columns.min() - 160) <= 2 and abs(columns.max() - 239) <= 2
    assert abs(rows.max() - 279) <= 2


def test_label_of_a_region_in_the_corner_stays_inside_the_picture() -> None:
    corner = Region((90, 0, 100, 10), 100, 3.0, "a long name that would not fit beside it", 0.8)

    drawn = draw_inspection(grey(100, 100), inspection(3.0, 2.0, corner))

    assert drawn.shape[1] == 400
    label = shows(drawn[-400:][:12], VERDICT_BGR["defect"])
    assert label.any(axis=0)[50:395].all()  # it was moved left, and it reaches the right edge


def test_texts_say_class_score_and_threshold() -> None:
    typed = Region((0, 0, 5, 5), 25, 3.0, "scratch", 0.834)
    assert banner_text(inspection(3.0, 2.0, typed)) == "DEFECT scratch  3.000 > 2.000"
    assert banner_text(inspection(1.0, 2.0)) == "GOOD  1.000 <= 2.000"
    assert region_label(typed) == "scratch 0.83"
    assert region_label(Region((0, 0, 5, 5), 25, 3.14159)) == "odd 3.14"
    failed = no_verdict(PROVENANCE, "0" * 16, 2.0, "the file is empty")
    assert banner_text(failed) == "NO VERDICT  the file is empty"


def test_scores_that_differ_never_read_the_same() -> None:
    assert banner_text(inspection(1.95004, 1.95)) == "DEFECT  1.95004 > 1.95000"
    assert banner_text(inspection(1.95, 1.95)) == "GOOD  1.950000 <= 1.950000"


def test_text_outside_ascii_is_drawn_and_does_not_raise() -> None:
    draw_inspection(grey(100, 100), no_verdict(PROVENANCE, "0" * 16, 2.0, "größer als 120 Megapixel"))


def test_heatmap_leaves_the_usual_untouched_and_tints_the_odd() -> None:
    frame_bgr = grey(64, 64)
    anomaly_map = np.zeros((16, 16), dtype=np.float32)
    anomaly_map[:, 8:] = 8.0

    overlay = draw_heatmap(frame_bgr, anomaly_map, pixel_threshold=2.0)

    assert overlay.shape == frame_bgr.shape
    assert (overlay[:, :28] == 128).all()
    blue, _, red = overlay[32, 60].astype(int)
    assert red > blue + 60  # four times the threshold is red
    assert (frame_bgr == 128).all()


def test_a_value_has_the_same_colour_on_every_picture() -> None:
    calm, wild = np.full((16, 16), 1.5, dtype=np.float32), np.full((16, 16), 1.5, dtype=np.float32)
    wild[0, 0] = 1000.0  # a min-max scale would turn all the rest blue

    calm_overlay = draw_heatmap(grey(64, 64), calm, pixel_threshold=2.0)
    wild_overlay = draw_heatmap(grey(64, 64), wild, pixel_threshold=2.0)

    assert (calm_overlay[32:, 32:] == wild_overlay[32:, 32:]).all()


def test_contour_surrounds_what_is_over_the_pixel_threshold() -> None:
    anomaly_map = np.full((16, 16), 0.5, dtype=np.float32)
    anomaly_map[4:12, 4:12] = 3.0

    overlay = draw_heatmap(grey(160, 160), anomaly_map, pixel_threshold=2.0)

    white = shows(overlay, (255, 255, 255))
    rows = np.flatnonzero(white.any(axis=1))
    assert 35 <= rows.min() <= 45 and 115 <= rows.max() <= 125
    assert not shows(draw_heatmap(grey(160, 160), anomaly_map, 4.0), (255, 255, 255)).any()


def test_heatmap_shows_nan_as_the_strangest() -> None:
    unknown = draw_heatmap(grey(64, 64), np.full((16, 16), np.nan, dtype=np.float32), 2.0)
    strongest = draw_heatmap(grey(64, 64), np.full((16, 16), 99.0, dtype=np.float32), 2.0)
    assert (unknown == strongest).all()


def test_fit_within_shrinks_and_never_grows_or_vanishes() -> None:
    assert fit_within(grey(3000, 4000), 400).shape == (300, 400, 3)
    assert fit_within(grey(30, 40), 400).shape == (30, 40, 3)
    assert fit_within(grey(8, 100_000), 400).shape == (1, 400, 3)
