"""Teaching the discriminator: the network alone on points, and the whole of it on rendered parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from calibration.demo_line import KINDS, render_defect, render_good
from calibration.detection import CROSS_FIT_BELOW
from calibration.train_discriminator import (
    GOOD_PATCHES,
    LEARNING_RATE,
    WARM_UP_SHARE,
    good_patches,
    learning_rate,
    train_network,
)
from edge.discriminator import DISCRIMINATOR_FILE
from edge.inspector import Inspector
from edge.manifest import BundleManifest, read_manifest
from edge.pictures import write_picture


def ring(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane, odd outside the unit circle: no line parts them."""
    points = np.random.default_rng(seed).uniform(-2, 2, (count, 2)).astype(np.float32)
    return points, (np.linalg.norm(points, axis=1) > 1).astype(np.float32)


def test_a_network_learns_what_no_line_can_part() -> None:
    points, odd = ring(4000, 0)
    weights, bias, output = train_network(lambda chosen: points[chosen], odd, 16, 60, 0)

    unseen, truth = ring(1000, 1)
    logits = np.maximum(unseen @ weights + bias, 0) @ output
    best = max(((logits > cut) == truth).mean() for cut in np.quantile(logits, np.linspace(0, 1, 50)))

    assert best > 0.9


def test_one_seed_gives_one_network() -> None:
    points, odd = ring(500, 0)
    first, again, other = (train_network(lambda c: points[c], odd, 4, 2, seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()


def test_the_learning_rate_goes_up_and_down_again() -> None:
    assert learning_rate(0) == pytest.approx(0.04 * LEARNING_RATE)
    assert learning_rate(WARM_UP_SHARE) == pytest.approx(LEARNING_RATE)
    assert learning_rate(1) == pytest.approx(0, abs=1e-9)


def test_half_of_the_good_patches_are_the_strangest() -> None:
    scores = np.zeros((32, 32), np.float32)
    scores[:5] = 1  # 160 patches

    chosen = good_patches(scores, np.random.default_rng(0))

    assert len(chosen) == GOOD_PATCHES
    assert set(range(160)) <= set(chosen.tolist())


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path) -> Path:
    """A bundle from just enough pictures to hold some out."""
    good, out = tmp_path_factory.mktemp("many"), tmp_path_factory.mktemp("taught") / "bundle"
    for index in range(CROSS_FIT_BELOW):
        write_picture(good / f"{index:03d}.png", render_good(index))
    result = run_oddkind("calibrate", str(good), "--pack", str(pack_dir), "--out", str(out), "--bank-rows", "300")
    assert result.exit_code == 0, result.output
    return out


def test_a_bundle_says_what_its_discriminator_is(taught: Path) -> None:
    facts = read_manifest(taught, BundleManifest).discriminator

    assert facts is not None
    assert (facts.good_pictures, facts.hidden_units) == (40, 128)
    assert (taught / DISCRIMINATOR_FILE).is_file()


def test_it_passes_new_good_parts_and_rejects_marks_it_never_saw(taught: Path) -> None:
    inspector = Inspector.load(taught)

    def rejected(frame_bgr: np.ndarray) -> bool:
        return inspector.detect(frame_bgr).anomaly_score > inspector.image_threshold

    assert sum(rejected(render_good(1000 + n)) for n in range(20)) <= 1
    assert sum(rejected(render_defect(kind, n)[0]) for kind in KINDS for n in range(3)) >= 0.8 * 3 * len(KINDS)


def test_too_few_pictures_teach_none(bundle_dir: Path) -> None:
    assert read_manifest(bundle_dir, BundleManifest).discriminator is None
    assert not (bundle_dir / DISCRIMINATOR_FILE).exists()
