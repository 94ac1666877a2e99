"""manifest.json: what it refuses, and that its id stands for every fact and file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BundleError
from edge.manifest import (
    MANIFEST_NAME,
    Embedding,
    PackManifest,
    SecondLookFacts,
    Tap,
    content_id,
    graph_key,
    read_manifest,
    sha256_of,
    write_manifest,
)

EMBEDDING = Embedding(
    backbone="hand-made",
    weights_sha256="",
    input_size=32,
    colour_order="rgb",
    mean=(127, 127, 127),
    scale=(1, 1, 1),
    taps=(Tap(name="s8", stride=8, channels=3), Tap(name="s16", stride=16, channels=2)),
    patch_pool=3,
    grid_hw=(4, 4),
)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack folder of one file."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "graph.onnx").write_bytes(b"graph")
    facts = {"onnxruntime-int8": "graph.onnx"}
    look = SecondLookFacts(embedding=EMBEDDING, graphs=facts)
    manifest = PackManifest(
        target="x86-vnni", embedding=EMBEDDING, graphs=facts, second_look=look, parity={}, versions={}
    )
    write_manifest(folder, manifest)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Overwrite top-level keys of the manifest; None removes one."""
    path = folder / MANIFEST_NAME
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def test_what_was_written_is_read_back(pack: Path) -> None:
    manifest = read_manifest(pack, PackManifest)

    assert manifest.embedding == EMBEDDING
    assert manifest.pack_id == content_id(manifest)
    # sha256 of b"graph", from the coreutils
    digest = sha256_of(pack / "graph.onnx")
    assert (manifest.files["graph.onnx"].sha256, manifest.files["graph.onnx"].size_bytes) == (digest, 5)


def test_a_digest_is_the_well_known_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_id_changes_with_any_fact_and_any_file(pack: Path) -> None:
    manifest = read_manifest(pack, PackManifest)
    ids = {manifest.pack_id, content_id(manifest.model_copy(update={"target": "arm64"}))}
    (pack / "graph.onnx").write_bytes(b"grapf")
    ids.add(write_manifest(pack, manifest).pack_id)

    assert len(ids) == 3
    (pack / "graph.onnx").write_bytes(b"graph")
    assert write_manifest(pack, manifest).pack_id == manifest.pack_id


def test_taps_own_their_columns() -> None:
    assert EMBEDDING.dim == 5
    assert (EMBEDDING.tap_slice("s8"), EMBEDDING.tap_slice("s16")) == (slice(0, 3), slice(3, 5))
    with pytest.raises(BundleError, match="no tap 's32' in this pack; it has s8, s16"):
        EMBEDDING.tap_slice("s32")


def test_graphs_are_keyed_by_runtime_and_precision() -> None:
    assert graph_key("openvino", "int8") == "openvino-int8"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "schema_version 2, this oddkind reads 1"),
        ({"schema_version": None}, "schema_version None"),
        ({"kind": "oddkind-bundle"}, "expected kind 'oddkind-pack', got 'oddkind-bundle'"),
        ({"kind": None}, "got None"),
        ({"colour": "rgb"}, "colour: Extra inputs are not permitted"),
        ({"target": "z80"}, "target: Input should be"),
        ({"embedding": None}, "embedding: Field required"),
        ({"graphs": ["graph.onnx"]}, "graphs: Input should be"),
        ({"files": {"../graph.onnx": {"sha256": "", "size_bytes": 5}}}, "outside the folder: '../graph.onnx'"),
        ({"files": {"/etc/passwd": {"sha256": "", "size_bytes": 5}}}, "outside the folder: '/etc/passwd'"),
        ({"files": {"gone.onnx": {"sha256": "", "size_bytes": 5}}}, "gone.onnx is missing"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(pack: Path, changes: dict[str, Any], says: str) -> None:
    edit(pack, **changes)

    with pytest.raises(BundleError, match=says) as caught:
        read_manifest(pack, PackManifest)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"', "null", "\x00\x01"])
def test_a_file_that_is_no_manifest_is_refused(pack: Path, text: str) -> None:
    (pack / MANIFEST_NAME).write_text(text)

    with pytest.raises(BundleError, match=MANIFEST_NAME):
        read_manifest(pack, PackManifest)


def test_a_manifest_that_is_not_utf8_is_refused(pack: Path) -> None:
    (pack / MANIFEST_NAME).write_bytes(b"\xff\xfe{}")

    with pytest.raises(BundleError, match="is not JSON"):
        read_manifest(pack, PackManifest)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None, lambda path: path.touch()])
def test_a_place_without_a_manifest_says_what_makes_one(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "pack")

    with pytest.raises(BundleError, match=r"it has no manifest\.json; make one with 'oddkind export"):
        read_manifest(tmp_path / "pack", PackManifest)


@pytest.mark.parametrize("content", [b"grapf", b"grap", b"graph2", b""])
def test_a_file_with_another_content_is_refused(pack: Path, content: bytes) -> None:
    (pack / "graph.onnx").write_bytes(content)

    with pytest.raises(BundleError, match=r"graph\.onnx is not the file the manifest describes"):
        read_manifest(pack, PackManifest)
