"""`calibrate --aligned`: parts that always lie at the same place, and what is good only where it belongs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from calibration.build_placed_bank import cells, placed_search
from edge.errors import PictureError
from edge.inspector import Inspector
from edge.manifest import MANIFEST_NAME, BundleManifest, TilingFacts, read_manifest
from edge.pictures import FrameBgr, write_picture
from edge.placed_bank import PlacedBank
from edge.result import Provenance
from edge.tiling import TilePlan
from tests.conftest import run_oddkind

H, W, BANK_ROWS = 256, 768, 150
BELT = slice(384, None)  # the right half of a part is chequered, the left half is striped


def part(seed: int, belt: slice = BELT) -> FrameBgr:
    """(H, W, 3): stripes, squares where the belt is, a little noise."""
    rows, columns = np.mgrid[:H, :W]
    grey = 90 + 80 * (rows // 8 % 2)
    grey[:, belt] = (70 + 110 * ((rows // 16 + columns // 16) % 2))[:, belt]
    noisy = grey[..., np.newaxis] + np.random.default_rng(seed).normal(0, 4, (H, W, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def misplaced(seed: int) -> FrameBgr:
    """Squares all over: each patch of them is good somewhere on a part."""
    return part(seed, belt=slice(None))


@pytest.fixture(scope="module")
def parts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for seed in range(24):
        write_picture(folder / f"{seed:02d}.png", part(seed))
    return folder


def calibrated(parts: Path, pack: Path, out: Path, *options: str) -> Path:
    arguments = ("--pack", str(pack), "--out", str(out), "--tile", "256", "--bank-rows", str(BANK_ROWS), *options)
    result = run_oddkind("calibrate", str(parts), *arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def aligned_dir(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path, parts_dir: Path) -> Path:
    return calibrated(parts_dir, pack_dir, tmp_path_factory.mktemp("aligned") / "bundle", "--aligned")


@pytest.fixture(scope="module")
def one_bank_dir(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path, parts_dir: Path) -> Path:
    return calibrated(parts_dir, pack_dir, tmp_path_factory.mktemp("one-bank") / "bundle")


def test_a_good_texture_at_the_wrong_place_is_odd_only_where_each_place_has_its_own_bank(
    aligned_dir: Path, one_bank_dir: Path
) -> None:
    aligned, one_bank = Inspector.load(aligned_dir), Inspector.load(one_bank_dir)
    for inspector, verdict in ((aligned, "defect"), (one_bank, "good")):
        assert inspector.inspect(part(99), Provenance("t", 0, "")).verdict == "good"
        assert inspector.inspect(misplaced(99), Provenance("t", 0, "")).verdict == verdict
    odd = aligned.detect(misplaced(99)).patch_scores > aligned.manifest.thresholds.pixel_threshold
    assert odd[4:-4, 4:20].mean() > 0.9 and odd[:, 60:].mean() < 0.1  # the left half, and not the right


def test_what_the_bundle_says_of_itself_and_that_it_opens_again(aligned_dir: Path) -> None:
    inspector = Inspector.load(aligned_dir)
    facts, bank = inspector.manifest, inspector.bank
    assert facts.tiling == TilingFacts(tile_px=256, overlap_px=64, margin_px=32)
    assert facts.view and facts.view.frame_hw == (H, W)
    assert facts.memory_bank.rows_a_place == BANK_ROWS and facts.memory_bank.rows == bank.rows == 3 * BANK_ROWS
    assert facts.memory_bank.search == "exact" and facts.memory_bank.index is None
    assert isinstance(bank, PlacedBank)
    assert [len(bank.rows_near((0, column))) > BANK_ROWS / 2 for column in (0, 24, 48, 64)] == [True] * 4
    assert bank.arrays.patch_yx.max(axis=0).tolist() <= [31, 95] and bank.arrays.patch_yx[:, 1].max() > 80


def test_frames_of_another_size_are_refused_and_say_why(aligned_dir: Path) -> None:
    with pytest.raises(PictureError, match="700 x 256 px, each place has a bank of its own, on frames of 768 x 256"):
        Inspector.load(aligned_dir).detect(part(0)[:, :700])


def test_a_bundle_of_before_there_were_places_opens(one_bank_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(one_bank_dir, tmp_path / "old")
    document = json.loads((one_bank_dir / MANIFEST_NAME).read_text())
    del document["tiling"]["margin_px"], document["memory_bank"]["rows_a_place"]
    (tmp_path / "old" / MANIFEST_NAME).write_text(json.dumps(document))
    assert Inspector.load(tmp_path / "old").detect(part(5)).anomaly_score == pytest.approx(
        Inspector.load(one_bank_dir).detect(part(5)).anomaly_score
    )


def test_a_bundle_with_places_but_no_size_of_frames_is_refused(aligned_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(aligned_dir, tmp_path / "bundle")
    document = json.loads((aligned_dir / MANIFEST_NAME).read_text())
    document["view"] = None
    (tmp_path / "bundle" / MANIFEST_NAME).write_text(json.dumps(document))
    result = run_oddkind("score", str(tmp_path / "bundle"), str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code != 0 and "no size of frames; calibrate again" in result.stderr


def test_a_misplaced_texture_can_be_enrolled_and_is_named(aligned_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(aligned_dir, tmp_path / "bundle")
    for seed in (90, 91):
        write_picture(tmp_path / f"{seed}.png", misplaced(seed))
    pictures = [str(tmp_path / f"{seed}.png") for seed in (90, 91)]
    result = run_oddkind("enrol", str(tmp_path / "bundle"), "misplaced", *pictures)
    assert result.exit_code == 0, result.output
    inspection = Inspector.load(tmp_path / "bundle").inspect(misplaced(92), Provenance("t", 0, ""))
    assert inspection.defect_class == "misplaced"


def test_more_good_pictures_cannot_be_added(aligned_dir: Path, parts_dir: Path) -> None:
    result = run_oddkind("calibrate", str(parts_dir), "--add", "--out", str(aligned_dir))
    assert result.exit_code != 0
    assert "--add cannot go with --aligned; calibrate again" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_cells_cover_every_patch_once_and_are_no_larger_than_a_tile(one_bank_dir: Path) -> None:
    embedding = read_manifest(one_bank_dir, BundleManifest).embedding
    for frame_hw in ((256, 256), (300, 513), (1100, 700)):
        plan = TilePlan.of(frame_hw, TilingFacts(tile_px=256, overlap_px=64, margin_px=32), embedding)
        times = np.zeros(plan.grid_hw, int)
        for rows, columns in cells(plan):
            assert rows.stop - rows.start <= 32 and columns.stop - columns.start <= 32
            times[rows, columns] += 1
        assert (times == 1).all()


def test_few_rows_are_searched_exactly() -> None:
    assert placed_search(100) == "exact" and placed_search(2000) == "int8"
