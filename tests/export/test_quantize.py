"""FP32 graphs become INT8 ones that the asked-for CPU can run; read back from the ONNX file itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.backend import OnnxRuntimeBackend
from edge.errors import ExportError
from edge.manifest import Target
from export.pack import export_onnx
from export.quantize import quantise

CHANNELS = 8
INT8, UINT8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8


def frames(count: int) -> list[np.ndarray]:
    """Standard normal network inputs (1, 3, 32, 32)."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions with channels of very different size, as in a real backbone."""
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, CHANNELS, 3), torch.nn.Conv2d(CHANNELS, 4, 3)
    with torch.no_grad():
        first.weight *= torch.logspace(-2, 1, CHANNELS)[:, None, None, None]
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    module = torch.nn.Sequential(first, torch.nn.ReLU6(), second).eval()
    export_onnx(module, (torch.from_numpy(frames(1)[0]),), ["images"], "out", path)
    return path


def quantised(fp32: Path, folder: Path, target: Target) -> onnx.ModelProto:
    """The INT8 graph for `target`."""
    int8 = folder / f"{target}.onnx"
    quantise(fp32, int8, ({"images": frame} for frame in frames(8)), target)
    return onnx.load(int8)


def zero_point_types(model: onnx.ModelProto) -> set[int]:
    """Element types that activations are quantised to."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert nodes
    return {constants[node.input[2]].data_type for node in nodes}


def weights(model: onnx.ModelProto) -> list[np.ndarray]:
    """Integer convolution weights."""
    found = [t for t in model.graph.initializer if t.data_type == INT8 and len(t.dims) == 4]
    assert len(found) == 2
    return [onnx.numpy_helper.to_array(t) for t in found]


def test_x86_gets_unsigned_activations_and_the_full_range_of_weights(fp32: Path, tmp_path: Path) -> None:
    model = quantised(fp32, tmp_path, "x86-vnni")
    assert zero_point_types(model) == {UINT8}
    assert max(int(np.abs(w.astype(int)).max()) for w in weights(model)) == 127


def test_arm_gets_signed_activations_and_signed_weights(fp32: Path, tmp_path: Path) -> None:
    model = quantised(fp32, tmp_path, "arm64")
    assert zero_point_types(model) == {INT8}
    assert max(int(np.abs(w.astype(int)).max()) for w in weights(model)) == 127


def test_x86_without_vnni_gets_seven_bits_so_that_sums_do_not_saturate(fp32: Path, tmp_path: Path) -> None:
    model = quantised(fp32, tmp_path, "x86-avx2")
    assert zero_point_types(model) == {UINT8}
    assert max(int(np.abs(w.astype(int)).max()) for w in weights(model)) <= 64


def test_every_output_channel_has_a_scale_of_its_own(fp32: Path, tmp_path: Path) -> None:
    model = quantised(fp32, tmp_path, "x86-vnni")
    sizes = [tuple(t.dims) for t in model.graph.initializer if t.name.endswith("_scale")]
    assert (CHANNELS,) in sizes


@pytest.mark.parametrize("target", ["x86-vnni", "x86-avx2", "arm64"])
def test_the_int8_graph_answers_like_the_fp32_one(fp32: Path, tmp_path: Path, target: Target) -> None:
    quantised(fp32, tmp_path, target)
    unseen = {"images": frames(9)[-1]}
    exact = OnnxRuntimeBackend(fp32).run(unseen)
    got = OnnxRuntimeBackend(tmp_path / f"{target}.onnx").run(unseen)
    assert np.corrcoef(exact.ravel(), got.ravel())[0, 1] > 0.99


def test_without_frames_nothing_is_written(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least one frame"):
        quantise(fp32, tmp_path / "int8.onnx", [], "x86-vnni")
    assert list(tmp_path.iterdir()) == []
