"""`oddkind calibrate` from end to end, on rendered parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import BANK_ROWS, GOOD_PARTS, run_oddkind

from calibration.calibrate import product_name
from calibration.cli_calibrate import worth_of_threshold
from calibration.detection import split
from calibration.good_pictures import Embedder
from edge.bundle import PROVENANCE_FILE, Bundle
from edge.inspector import Inspector
from edge.manifest import BundleManifest, PackManifest, read_manifest
from edge.memory_bank import INDEX_FILE, MemoryBank
from edge.pictures import read_picture

EIGHT = 8
ROWS = "120"


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory, good_dir: Path) -> Path:
    """Eight good pictures, and beside them a text called .png and a cut-off picture."""
    folder = tmp_path_factory.mktemp("eight") / "bracket" / "train" / "good"
    folder.mkdir(parents=True)
    paths = sorted(good_dir.iterdir())[:EIGHT]
    for path in paths:
        shutil.copy(path, folder)
    (folder / "notes.png").write_text("not a picture")
    (folder / "cut.png").write_bytes(paths[0].read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, eight: Path, pack_dir: Path) -> tuple[Path, str, str]:
    """A bundle of them, and what the command said on stdout and stderr."""
    out = tmp_path_factory.mktemp("first") / "bundle"
    result = run_oddkind("calibrate", str(eight), "--pack", str(pack_dir), "--out", str(out), "--bank-rows", ROWS)
    assert result.exit_code == 0, result.output
    return out, result.stdout, result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_eight_pictures_make_a_bundle_that_says_what_its_threshold_is_worth(first: tuple[Path, str, str]) -> None:
    out, said, _ = first
    facts = read_manifest(out, BundleManifest).thresholds
    assert (facts.held_out_pictures, facts.method) == (EIGHT, "student-extrapolated")
    assert facts.promised_false_reject_rate == pytest.approx(1 / 9, abs=1e-4)
    assert "8 pictures vouch for 11.1% of good parts rejected, not for 1.00%" in said
    assert "add good pictures, 99 held out are enough" in said


def test_unreadable_pictures_are_left_out_and_named(first: tuple[Path, str, str]) -> None:
    out, said, complained = first
    assert read_manifest(out, BundleManifest).good_pictures == EIGHT
    assert "8 good, 2 left out" in said
    lines = complained.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("left out: ") for line in lines)
    assert "cut.png" in complained
    assert "notes.png" in complained


def test_the_bundle_inspects(first: tuple[Path, str, str], eight: Path, defects_dir: Path) -> None:
    inspector = Inspector.load(first[0])
    good = inspector.detect(read_picture(sorted(eight.glob("0*.png"))[0])).anomaly_score
    odd = [inspector.detect(read_picture(kind / "000.png")).anomaly_score for kind in sorted(defects_dir.iterdir())]
    assert good <= inspector.image_threshold
    assert good < min(odd)


def test_the_product_is_named_after_the_folder_above_the_layout(first: tuple[Path, str, str]) -> None:
    assert read_manifest(first[0], BundleManifest).product == "bracket"
    assert product_name(Path("/data/tile/good")) == "tile"
    assert product_name(Path("/data/monday")) == "monday"


def test_the_same_pictures_and_seed_give_the_same_bytes(
    tmp_path: Path, first: tuple[Path, str, str], eight: Path, pack_dir: Path
) -> None:
    again = tmp_path / "bundle"
    run_oddkind("calibrate", str(eight), "--pack", str(pack_dir), "--out", str(again), "--bank-rows", ROWS)
    assert INDEX_FILE in contents(again)
    assert contents(again) == contents(first[0])


def test_provenance_names_pictures_of_the_folder_and_every_row_has_one(
    first: tuple[Path, str, str], eight: Path
) -> None:
    bundle = Bundle.open(first[0])
    sources = json.loads((bundle.folder / PROVENANCE_FILE).read_text())["sources"]
    arrays = bundle.load_memory_bank().arrays
    assert sorted(sources) == [path.name for path in sorted(eight.glob("0*.png"))]
    assert arrays.source_index.shape == (int(ROWS),)
    assert set(arrays.source_index.tolist()) <= set(range(EIGHT))


def test_overwrite_replaces_a_bundle_and_hnsw_is_searched_when_asked_for(
    tmp_path: Path, first: tuple[Path, str, str], eight: Path, pack_dir: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(first[0], out)
    (out / "classes.npz").write_bytes(b"of the earlier bundle")
    arguments = ("calibrate", str(eight), "--pack", str(pack_dir), "--out", str(out), "--bank-rows", ROWS)
    refused = run_oddkind(*arguments)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (out / "classes.npz").exists()
    result = run_oddkind(*arguments, "--search", "hnsw", "--overwrite", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["memory_bank"]["search"] == "hnsw"
    assert (
        read_manifest(out, BundleManifest).bundle_id
        == document["bundle_id"]
        != Bundle.open(first[0]).manifest.bundle_id
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert Inspector.load(out).bank._index is not None


def test_the_recall_in_the_manifest_holds(bundle_dir: Path, pack_dir: Path, good_dir: Path) -> None:
    bundle = Bundle.open(bundle_dir)
    facts = bundle.manifest.memory_bank
    assert facts.index is not None
    assert facts.index.recall_good >= 0.99
    assert facts.index.recall_pseudo >= 0.98
    exact = bundle.load_memory_bank()
    searched = bundle.manifest.model_copy(update={"memory_bank": facts.model_copy(update={"search": "hnsw"})})
    hnsw = Bundle(bundle.folder, searched).load_memory_bank()
    embedder = Embedder.load(pack_dir, read_manifest(pack_dir, PackManifest), "onnxruntime", "int8")
    shares = [share_found(hnsw, exact, e) for e in embedder.embed_good(sorted(good_dir.iterdir()))]
    assert np.mean(shares) >= 0.99


def share_found(hnsw: MemoryBank, exact: MemoryBank, embeddings: np.ndarray) -> float:
    """Share of patches for which HNSW finds a row as near as the exact one."""
    standardised = exact.standardise(embeddings)
    return float(np.mean(hnsw.nearest(standardised)[0] <= exact.nearest(standardised)[0] * (1 + 1e-5)))


def test_the_facts_of_the_bundle_are_those_of_the_command(bundle_dir: Path, pack_dir: Path) -> None:
    manifest, pack = read_manifest(bundle_dir, BundleManifest), read_manifest(pack_dir, PackManifest)
    assert manifest.pack_id == pack.pack_id
    assert manifest.good_pictures == GOOD_PARTS
    assert manifest.memory_bank.rows == int(BANK_ROWS)
    assert manifest.thresholds.false_reject_rate == 0.01


def test_no_readable_picture_is_an_error_and_leaves_nothing_behind(tmp_path: Path, pack_dir: Path) -> None:
    good, place = tmp_path / "good", tmp_path / "place"
    good.mkdir()
    place.mkdir()
    (good / "a.png").write_text("not a picture")
    result = run_oddkind("calibrate", str(good), "--pack", str(pack_dir), "--out", str(place / "bundle"))
    assert result.exit_code == 1
    assert "0 readable pictures and 1 that cannot be read, at least 4 good ones needed" in result.stderr
    assert list(place.iterdir()) == []


def test_a_failure_on_the_way_leaves_the_earlier_bundle_as_it_was(
    tmp_path: Path, first: tuple[Path, str, str], eight: Path, pack_dir: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(first[0], out)
    before = contents(out)
    arguments = ("calibrate", str(eight), "--pack", str(pack_dir), "--out", str(out), "--overwrite")
    result = run_oddkind(*arguments, "--taps", "s8,s99")
    assert result.exit_code == 1
    assert "no tap 's99' in this pack; it has s8, s16" in result.stderr
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_large_set_holds_out_a_fifth_and_a_small_one_nothing() -> None:
    paths = [Path(f"{n}.png") for n in range(100)]
    fit, held_out = split(paths)
    assert (len(fit), len(held_out)) == (80, 20)
    assert not set(fit) & set(held_out)
    assert split(paths[:49]) == (paths[:49], ())
    assert len(split([Path(str(n)) for n in range(5000)])[1]) == 300


@pytest.mark.parametrize(
    ("asked", "promised", "words"),
    [(0.01, 0.01, "at most 1.00% of good parts"), (0.01, 0.0476, "20 pictures vouch for 4.8%"), (0.02, 0.1, "49 held")],
)
def test_the_worth_of_a_threshold_in_words(asked: float, promised: float, words: str) -> None:
    assert words in worth_of_threshold(asked, promised, pictures=20)
