"""The rendered product line: repeatable, varied, and honest about where its defects are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import find_dataset
from calibration.demo_defects import DAMAGES
from calibration.demo_line import FRAME_PX, KINDS, render_defect, render_good, write_line
from calibration.demo_part import draw_part
from edge.errors import UsageError
from edge.pictures import iter_picture_paths, read_picture


def test_the_same_number_and_seed_give_the_same_picture() -> None:
    assert np.array_equal(render_good(3), render_good(3))
    first, again = render_defect("stain", 1, seed=5), render_defect("stain", 1, seed=5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_no_two_parts_are_alike() -> None:
    pictures = [render_good(0), render_good(1), render_good(0, seed=1), render_defect("scratch", 0)[0]]
    assert all(p.shape == (FRAME_PX, FRAME_PX, 3) and p.dtype == np.uint8 for p in pictures)
    for i, one in enumerate(pictures):
        assert all(np.abs(one.astype(int) - other).mean() > 1 for other in pictures[i + 1 :])


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_marks_a_small_part_of_the_picture(kind: str) -> None:
    for index in range(3):
        mask = render_defect(kind, index)[1]
        assert mask.shape == (FRAME_PX, FRAME_PX)
        assert mask.dtype == bool
        assert 0.0003 < mask.mean() < 0.2


@pytest.mark.parametrize("kind", ["scratch", "chip", "stain", "pit"])
def test_damage_changes_the_part_inside_its_mask_and_nowhere_else(kind: str) -> None:
    good = draw_part(np.random.default_rng(4))
    bad, changed = DAMAGES[kind](np.random.default_rng(4))
    visible = good.cover > 0.5
    difference = np.abs(bad.colour_bgr - good.colour_bgr).max(axis=2) + 255 * np.abs(bad.cover - good.cover)
    assert difference[visible & (changed > 0.5)].mean() > 20
    # a film is blurred, so it ends a few pixels outside its outline
    assert difference[visible & (changed == 0)].mean() < 0.5


def test_a_chip_lets_the_belt_show() -> None:
    good, (chipped, _) = draw_part(np.random.default_rng(0)), DAMAGES["chip"](np.random.default_rng(0))
    assert good.cover.sum() - chipped.cover.sum() > 500


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no defect kind 'rust'; expected one of scratch, chip, stain, pit, misprint"):
        render_defect("rust", 0)


def test_a_written_line_is_a_data_set_with_masks(tmp_path: Path) -> None:
    write_line(tmp_path, good=2, per_kind=1, held_out_good=1)
    dataset = find_dataset(tmp_path)
    assert dataset.kinds == sorted(KINDS)
    assert all(sample.mask_path for sample in dataset.samples if sample.is_defect)
    assert len(dataset.samples) == 1 + len(KINDS)
    train, held_out = list(iter_picture_paths(tmp_path / "train")), tmp_path / "test" / "good" / "000.png"
    assert [path.name for path in train] == ["000.png", "001.png"]
    assert not any(np.array_equal(read_picture(path), read_picture(held_out)) for path in train)
