"""Rendered products: the same for the same seed, alike within a product, different between products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import rendered_products
from calibration.perlin import PATTERNS
from calibration.rendered_products import RENDERED_PRODUCTS, render_product, write_rendered_products
from edge.pictures import iter_picture_paths, read_picture


@pytest.mark.parametrize("name", RENDERED_PRODUCTS)
def test_the_same_number_and_seed_give_the_same_picture_and_others_another(name: str) -> None:
    first, again, next_one, elsewhere = (render_product(name, i, s) for i, s in ((0, 3), (0, 3), (1, 3), (0, 4)))
    assert first.dtype == np.uint8 and first.ndim == 3 and min(first.shape[:2]) >= 256
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_one) and not np.array_equal(first, elsewhere)


@pytest.mark.parametrize("name", PATTERNS)
def test_parts_of_one_product_have_its_colours(name: str) -> None:
    def colours(index: int, seed: int) -> np.ndarray:
        return np.percentile(render_product(name, index, seed), (10, 90), axis=(0, 1))

    within = np.abs(colours(0, 0) - colours(1, 0)).mean()
    between = np.mean([np.abs(colours(0, 0) - colours(0, seed)).mean() for seed in range(1, 5)])
    assert within < 0.5 * between


def test_every_product_gets_a_folder_of_readable_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered_products, "PICTURES", 2)
    folders = write_rendered_products(tmp_path, seed=0)
    assert [folder.name for folder in folders] == list(RENDERED_PRODUCTS)
    for folder in folders:
        paths = list(iter_picture_paths(folder))
        assert len(paths) == 2
        np.testing.assert_array_equal(read_picture(paths[1]), render_product(folder.name, 1, 0))
