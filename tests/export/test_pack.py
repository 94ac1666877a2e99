"""Model packs: torch is the oracle for every graph in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.backend import load_backend
from edge.errors import ExportError, UsageError
from edge.manifest import BackendName, PackManifest, Target, read_manifest
from edge.preprocess import to_network_input
from export.backbone import load_backbone, patch_embedder
from export.pack import BACKBONE, OPSET, export_pack, graph_names
from export.parity import FP32_TOLERANCE, INT8_MIN_MEAN_COSINE, check_parity, compare
from export.textures import generated_textures

GRAPHS = graph_names(BACKBONE)

SIDE_PX = 64


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Path]:
    """A small pack for each kind of CPU."""
    folder = tmp_path_factory.mktemp("packs")
    made: dict[Target, Path] = {}
    for target in ("x86-vnni", "x86-avx2", "arm64"):
        made[target] = folder / target
        export_pack(made[target], input_size=SIDE_PX, target=target)
    return made


@pytest.fixture(scope="module")
def pack(packs: dict[Target, Path]) -> Path:
    """The default one."""
    return packs["x86-vnni"]


def unseen(pack: Path) -> list[np.ndarray]:
    """Network inputs that neither quantisation nor the measured parity saw."""
    embedding = read_manifest(pack, PackManifest).embedding
    return [to_network_input(frame, embedding) for frame in generated_textures(4, SIDE_PX, seed=99)]


def by_torch(images: np.ndarray) -> np.ndarray:
    """Patch embeddings (1, N, D) by the torch module itself."""
    module = patch_embedder(load_backbone("efficientnet-lite0", None, SIDE_PX, (8, 16)), SIDE_PX)
    with torch.inference_mode():
        return module(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_fp32_on_the_device_gives_torchs_embeddings(pack: Path, backend: BackendName) -> None:
    runtime = load_backend(pack, GRAPHS, backend, "fp32")
    for images in unseen(pack):
        expected = by_torch(images)
        assert expected.shape == (1, 64, 152)
        np.testing.assert_allclose(runtime.run({"images": images}), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8_on_unseen_frames_keeps_the_cosine_of_the_manifest(pack: Path, backend: BackendName) -> None:
    stated = read_manifest(pack, PackManifest).parity[f"{backend}-int8"]["cosine_mean"]
    assert INT8_MIN_MEAN_COSINE[BACKBONE] <= stated < 1
    runtime = load_backend(pack, GRAPHS, backend, "int8")
    measured = [compare(by_torch(x), runtime.run({"images": x}))["cosine_mean"] for x in unseen(pack)]
    assert np.mean(measured) == pytest.approx(stated, abs=0.02)


def test_the_manifest_describes_every_file(pack: Path) -> None:
    manifest = read_manifest(pack, PackManifest)  # checks every digest
    assert set(manifest.files) == {path.name for path in pack.iterdir()} - {"manifest.json"}
    assert manifest.embedding.grid_hw == (8, 8)
    assert manifest.embedding.dim == 40 + 112
    assert manifest.parity["frames"] == "generated textures"
    assert manifest.parity["onnxruntime-fp32"]["largest_relative_error"] <= FP32_TOLERANCE
    assert {"torch", "onnx", "onnxruntime", "openvino"} <= set(manifest.versions)


def test_the_graph_has_the_stated_opset(pack: Path) -> None:
    model = onnx.load(pack / GRAPHS["onnxruntime-fp32"])
    assert {o.version for o in model.opset_import if o.domain == ""} == {OPSET}


@pytest.mark.parametrize(("target", "signed"), [("x86-vnni", False), ("x86-avx2", False), ("arm64", True)])
def test_the_target_decides_the_sign_of_activations(packs: dict[Target, Path], target: Target, signed: bool) -> None:
    model = onnx.load(packs[target] / GRAPHS["onnxruntime-int8"])
    tensors = {t.name: t.data_type for t in model.graph.initializer}
    found = {tensors[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert found == {onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8}
    assert read_manifest(packs[target], PackManifest).target == target


@pytest.mark.parametrize(("target", "largest"), [("x86-vnni", 127), ("x86-avx2", 64), ("arm64", 127)])
def test_only_x86_without_vnni_gets_a_reduced_range(packs: dict[Target, Path], target: Target, largest: int) -> None:
    model = onnx.load(packs[target] / GRAPHS["onnxruntime-int8"])
    kernels = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert kernels
    values = max(int(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max()) for t in kernels)
    assert largest - 1 <= values <= largest


def test_failing_parity_keeps_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INT8_MIN_MEAN_COSINE, BACKBONE, 1.01)  # no graph can be as near as that
    with pytest.raises(ExportError, match=r"int8: mean cosine to torch is 0\.\d+, at least 1\.01 needed; nothing"):
        export_pack(tmp_path / "pack", input_size=SIDE_PX)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_pack_is_not_replaced_unasked(pack: Path) -> None:
    before = (pack / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="add --overwrite"):
        export_pack(pack, input_size=SIDE_PX)
    assert (pack / "manifest.json").read_bytes() == before


def test_parity_by_hand() -> None:
    figures = compare(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 2.0]]))
    assert figures == {"cosine_mean": 0.5, "cosine_worst": 0.0, "largest_relative_error": 0.5}


@pytest.mark.parametrize(
    ("key", "figures"),
    [
        ("onnxruntime-fp32", {"largest_relative_error": 2e-3}),
        ("openvino-fp32", {"largest_relative_error": float("nan")}),
        ("onnxruntime-int8", {"cosine_mean": 0.9}),
        ("openvino-int8", {"cosine_mean": float("nan")}),
    ],
)
def test_a_graph_that_strays_is_named(key: str, figures: dict[str, float]) -> None:
    with pytest.raises(ExportError, match=key):
        check_parity({key: figures}, BACKBONE)
