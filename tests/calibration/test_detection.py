"""What is learned of a product does not hang on how its bank is searched; what is decided does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.build_bank import build_bank, default_tap_weights
from calibration.detection import Detection, calibrate_detection, split
from calibration.good_pictures import Embedder
from calibration.recipe import Recipe
from calibration.train_discriminator import Effort
from edge.manifest import PackManifest, read_manifest
from edge.memory_bank import MemoryBank
from edge.pictures import iter_picture_paths, write_picture

FIRST_EFFORT = Effort(pseudo_classes=2, epochs=1)


class SecondNearest:
    """Always just misses the nearest row."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys

    def nearest_rows(self, queries: np.ndarray) -> np.ndarray:
        squares = ((self._keys**2).sum(1)[None] - 2 * queries @ self._keys.T) / 2
        return np.argsort(squares, axis=1)[:, 1]


@pytest.fixture(scope="module")
def detections(pack_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detection, Detection]:
    """By exact search, and by one that misses."""
    from calibration.demo_line import render_good

    folder = tmp_path_factory.mktemp("enough")
    for index in range(50):
        write_picture(folder / f"{index:03d}.png", render_good(index))
    embedder = Embedder.load(pack_dir, read_manifest(pack_dir, PackManifest), "onnxruntime", "int8")
    recipe = Recipe(default_tap_weights(embedder.embedding))
    fit, held_out = split(list(iter_picture_paths(folder)))
    bank = build_bank(embedder, fit, recipe.tap_weights, 100).bank
    missing = MemoryBank(bank.arrays, bank.search, SecondNearest(bank.keys))
    exact, missed = (
        calibrate_detection(embedder, b, recipe, fit, held_out, 0.05, seed=0, effort=FIRST_EFFORT)
        for b in (bank, missing)
    )
    return exact, missed


def test_places_and_network_are_those_of_exact_search(detections: tuple[Detection, Detection]) -> None:
    exact, missed = detections
    np.testing.assert_array_equal(exact.places.mean, missed.places.mean)
    np.testing.assert_array_equal(exact.places.std, missed.places.std)
    assert exact.discriminator is not None and missed.discriminator is not None
    for name, array in exact.discriminator.__dict__.items():
        np.testing.assert_array_equal(array, missed.discriminator.__dict__[name], err_msg=name)


def test_thresholds_are_those_of_the_search_that_the_device_uses(detections: tuple[Detection, Detection]) -> None:
    exact, missed = detections
    assert missed.thresholds.image.value != exact.thresholds.image.value
    assert not missed.bank.is_exact
