"""Broken bundles: each is refused before anything is loaded, by name, with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from edge.bundle import CENTRE_FILE, PLACES_FILE, WHITENING_FILE, Bundle, graph_files, search_columns
from edge.errors import BundleError
from edge.inspector import Inspector
from edge.manifest import MANIFEST_NAME, BundleManifest, read_manifest, write_manifest
from edge.memory_bank import BANK_FILE, INDEX_FILE

Damage = Callable[[Path], object]


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edit(folder: Path, *keys: str, value: object) -> None:
    """Set one key of the manifest, as an editor would: the digests stay as they were."""
    path = folder / MANIFEST_NAME
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(document))


def sign_again(folder: Path) -> None:
    """New digests for what lies there: what a faulty tool would leave, digests right and content wrong."""
    document = json.loads((folder / MANIFEST_NAME).read_text())
    write_manifest(folder, BundleManifest.model_validate(document))


def test_a_whole_bundle_opens_and_loads(bundle: Path) -> None:
    opened = Bundle.open(bundle)

    bank = opened.load_memory_bank()
    assert bank.rows == opened.manifest.memory_bank.rows == 300
    assert opened.load_place_statistics().mean.shape == opened.manifest.embedding.grid_hw
    assert opened.load_whitening().core.shape == (2 * opened.manifest.embedding.dim,) * 2
    assert opened.load_second_look().embedding == opened.manifest.second_look.embedding
    assert opened.load_descriptor_centre().shape == (opened.manifest.typing.descriptor_dim,)
    assert opened.classes_path == bundle / "classes.npz"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: flip_bit(b / INDEX_FILE), "memory_bank.hnsw is not the file"),
        (lambda b: flip_bit(b / BANK_FILE), "memory_bank.npz is not the file"),
        (lambda b: flip_bit(b / "backbone.int8.onnx"), "backbone.int8.onnx is not the file"),
        (lambda b: truncate(b / BANK_FILE), "memory_bank.npz is not the file"),
        (lambda b: truncate(b / "backbone.int8.bin"), "backbone.int8.bin is not the file"),
        (lambda b: (b / PLACES_FILE).unlink(), "place_statistics.npz is missing"),
        (lambda b: (b / INDEX_FILE).unlink(), "memory_bank.hnsw is missing"),
        (lambda b: (b / MANIFEST_NAME).unlink(), "it has no manifest.json"),
        (lambda b: truncate(b / MANIFEST_NAME), None),  # the last byte is a line break: still a manifest
        (lambda b: edit(b, "files", BANK_FILE, "sha256", value="0" * 64), "memory_bank.npz is not the file"),
        (lambda b: edit(b, "schema_version", value=99), "schema_version 99, this oddkind reads 1"),
        (lambda b: edit(b, "score", "sharpness", value=1), "score.sharpness: Extra inputs are not permitted"),
        (lambda b: edit(b, "thresholds", "image_threshold", value="high"), "thresholds.image_threshold"),
        (lambda b: edit(b, "files", "../x", value={"sha256": "", "size_bytes": 1}), "outside the folder"),
        (lambda b: edit(b, "typing", "descriptor", value="older-1"), "descriptors are older-1 .* calibrate again"),
        (lambda b: edit(b, "typing", "descriptor_dim", value=7), "of 7, this oddkind makes"),
        (lambda b: edit(b, "memory_bank", "space", value="cosine"), "memory_bank.space"),
    ],
)
def test_a_broken_bundle_is_one_line_and_exit_code_1(bundle: Path, damage: Damage, says: str | None) -> None:
    damage(bundle)

    result = run_oddkind("classes", "list", str(bundle))

    if says is None:
        assert result.exit_code == 0
        return
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(BundleError, match=says):
        Bundle.open(bundle)


def test_a_pack_is_no_bundle(pack_dir: Path) -> None:
    with pytest.raises(BundleError, match="expected kind 'oddkind-bundle', got 'oddkind-pack'; give a bundle folder"):
        Bundle.open(pack_dir)


def test_a_flipped_bit_in_the_index_never_reaches_hnswlib(bundle: Path, good_dir: Path, tmp_path: Path) -> None:
    flip_bit(bundle / INDEX_FILE)

    for command in (
        ("score", str(bundle), str(good_dir), "--out", str(tmp_path / "results")),
        ("run", str(bundle), "--source", str(good_dir)),
        ("enrol", str(bundle), "scratch", str(next(good_dir.iterdir()))),
    ):
        result = run_oddkind(*command)
        assert result.exit_code == 1
        assert "memory_bank.hnsw is not the file the manifest describes" in result.stderr
    assert not (tmp_path / "results").exists()


def test_a_bank_of_another_size_is_refused_though_its_digest_is_right(bundle: Path) -> None:
    edit(bundle, "memory_bank", "rows", value=299)
    sign_again(bundle)

    with pytest.raises(BundleError, match="the manifest says 299 rows"):
        Inspector.load(bundle)


def test_a_centre_of_another_length_is_refused_though_its_digest_is_right(bundle: Path) -> None:
    np.save(bundle / CENTRE_FILE, np.zeros(5, np.float32))
    sign_again(bundle)

    with pytest.raises(BundleError, match=r"descriptor_centre.npy has shape \(5,\)"):
        Inspector.load(bundle)


@pytest.mark.parametrize("name", [BANK_FILE, PLACES_FILE, CENTRE_FILE, WHITENING_FILE])
def test_arrays_that_want_to_run_code_are_refused_though_their_digest_is_right(bundle: Path, name: str) -> None:
    if name.endswith(".npz"):
        with np.load(bundle / name) as stored:
            first = stored.files[0]
            np.savez(bundle / name, **{**stored, first: np.array([print], dtype=object)})
    else:
        np.save(bundle / name, np.array([print], dtype=object))
    sign_again(bundle)

    with pytest.raises(BundleError, match="calibrate again"):
        Inspector.load(bundle)


def test_both_searches_of_one_bundle_agree(bundle: Path) -> None:
    """The index was measured at calibration: at its `ef` it finds the neighbour of nearly every bank row itself."""
    edit(bundle, "memory_bank", "search", value="hnsw")
    by_index = Bundle.open(bundle).load_memory_bank()
    edit(bundle, "memory_bank", "search", value="exact")
    exact = Bundle.open(bundle).load_memory_bank()

    distances, rows = by_index.nearest(exact.arrays.vectors)

    assert np.mean(distances == 0) >= 0.98
    assert np.mean(rows == np.arange(exact.rows)) >= 0.98


def test_search_columns_are_those_of_the_taps_with_their_weights(bundle: Path) -> None:
    embedding = read_manifest(bundle, BundleManifest).embedding
    first, second = embedding.taps

    search = search_columns(embedding, {second.name: 1.0, first.name: 0.5})

    assert sorted(search.columns.tolist()) == list(range(embedding.dim))
    assert search.columns[0] == first.channels
    assert search.weights.tolist() == [1.0] * second.channels + [0.5] * first.channels


def test_an_openvino_graph_is_two_files() -> None:
    assert graph_files({"onnxruntime-int8": "a.onnx", "openvino-int8": "a.xml"}) == ["a.onnx", "a.xml", "a.bin"]
