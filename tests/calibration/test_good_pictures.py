import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from calibration.good_pictures import MIN_GOOD_PICTURES, GoodPictures
from edge.bundle import PROVENANCE_FILE
from edge.errors import CalibrationError
from edge.manifest import BundleManifest, read_manifest
from edge.pictures import write_picture

GREY = np.full((16, 16, 3), 128, dtype=np.uint8)


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        write_picture(root / f"{name}.png", GREY)
    return root


def test_several_folders_count_as_one_product_named_by_what_they_share(tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a" / "template", "1", "2"), folder_of(tmp_path / "b" / "template", "1", "3")
    pictures = GoodPictures.find(a, 0, [b])
    assert pictures.folder == tmp_path
    expected = ["a/template/1.png", "a/template/2.png", "b/template/1.png", "b/template/3.png"]
    assert sorted(pictures.names()) == expected


def test_a_picture_of_two_given_folders_counts_once(tmp_path: Path) -> None:
    inner = folder_of(tmp_path / "good" / "monday", "1", "2", "3", "4")
    folder_of(tmp_path / "good", "5")
    assert len(GoodPictures.find(tmp_path / "good", 0, [inner, inner]).paths) == 5


def test_too_few_pictures_are_counted_over_all_folders(tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a", "1", "2"), folder_of(tmp_path / "b", "1")
    assert MIN_GOOD_PICTURES == 4
    with pytest.raises(CalibrationError, match="3 readable pictures, at least 4"):
        GoodPictures.find(a, 0, [b])


def test_a_missing_folder_among_several_is_named(tmp_path: Path) -> None:
    a = folder_of(tmp_path / "a", "1", "2", "3", "4")
    with pytest.raises(CalibrationError, match=r"nowhere: no such folder"):
        GoodPictures.find(a, 0, [tmp_path / "nowhere"])


def test_calibrate_takes_several_folders(tmp_path: Path, pack_dir: Path, good_dir: Path) -> None:
    paths = sorted(good_dir.glob("*.png"))
    for number, path in enumerate(paths[:8]):
        board = tmp_path / "boards" / f"{number % 2}" / "template"
        board.mkdir(parents=True, exist_ok=True)
        (board / path.name).symlink_to(path)
    folders = [str(path) for path in sorted((tmp_path / "boards").glob("*/template"))]
    out = tmp_path / "bundle"
    result = run_oddkind("calibrate", *folders, "--pack", str(pack_dir), "--out", str(out), "--bank-rows", "60")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out, BundleManifest)
    assert (manifest.good_pictures, manifest.product) == (8, "boards")
    sources = json.loads((out / PROVENANCE_FILE).read_text())["sources"]
    assert {source.split("/")[0] for source in sources} == {"0", "1"}
