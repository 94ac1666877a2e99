"""Both runtimes on the pack's own graphs: they agree, they refuse clearly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.backend import Backend, installed_backends, is_installed, load_backend
from edge.errors import BackendError
from edge.manifest import BackendName, PackManifest, Precision, read_manifest
from edge.pictures import read_picture
from edge.preprocess import to_network_input

Floats = npt.NDArray[np.float32]

needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="the extra oddkind[openvino] is not installed")


@pytest.fixture(scope="module")
def manifest(pack_dir: Path) -> PackManifest:
    return read_manifest(pack_dir, PackManifest)


@pytest.fixture(scope="module")
def images(manifest: PackManifest, good_dir: Path) -> Floats:
    """One rendered part as network input."""
    return to_network_input(read_picture(sorted(good_dir.iterdir())[0]), manifest.embedding)


def load(pack: Path, backend: BackendName, precision: Precision, threads: int = 1) -> Backend:
    return load_backend(pack, read_manifest(pack, PackManifest).graphs, backend, precision, threads)


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)))


@needs_openvino
def test_the_runtimes_agree_on_the_fp32_graph(pack_dir: Path, images: Floats) -> None:
    ort, ov = (load(pack_dir, name, "fp32").run({"images": images}) for name in ("onnxruntime", "openvino"))

    assert np.abs(ort - ov).max() <= 1e-4 * np.abs(ort).max()


@needs_openvino
def test_the_runtimes_agree_on_the_int8_graph(pack_dir: Path, images: Floats) -> None:
    """Rounding at a step's edge may fall either way, so single values differ; the patches as a whole do not."""
    ort, ov = (load(pack_dir, name, "int8").run({"images": images})[0] for name in ("onnxruntime", "openvino"))

    assert cosines(ort, ov).mean() >= 0.995
    assert np.abs(ort - ov).mean() <= 0.1 * np.abs(ort).mean()


def test_int8_stays_near_fp32_without_being_it(pack_dir: Path, images: Floats) -> None:
    fp32, int8 = (load(pack_dir, "onnxruntime", p).run({"images": images})[0] for p in ("fp32", "int8"))

    assert cosines(fp32, int8).mean() >= 0.97
    assert not np.array_equal(fp32, int8)


@pytest.mark.parametrize("backend", installed_backends())
def test_a_graph_gives_what_the_manifest_says(
    pack_dir: Path, manifest: PackManifest, images: Floats, backend: BackendName
) -> None:
    runtime = load(pack_dir, backend, "int8")
    embeddings = runtime.run({"images": images})

    h, w = manifest.embedding.grid_hw
    assert (embeddings.shape, embeddings.dtype) == ((1, h * w, manifest.embedding.dim), np.float32)
    assert runtime.name == backend
    assert runtime.version[0].isdigit()


@pytest.mark.parametrize("backend", installed_backends())
def test_an_answer_belongs_to_the_caller(pack_dir: Path, images: Floats, backend: BackendName) -> None:
    runtime = load(pack_dir, backend, "int8")
    first = runtime.run({"images": images})
    kept = first.copy()

    second = runtime.run({"images": np.zeros_like(images)})

    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("backend", installed_backends())
def test_more_threads_change_nothing_but_the_last_digits(pack_dir: Path, images: Floats, backend: BackendName) -> None:
    one, every = (load(pack_dir, backend, "fp32", threads).run({"images": images}) for threads in (1, 0))

    assert np.abs(one - every).max() <= 1e-4 * np.abs(one).max()


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize(
    "inputs",
    [{"frames": np.zeros((1, 3, 256, 256), np.float32)}, {"images": np.zeros((1, 3, 255, 256), np.float32)}],
    ids=["another name", "another size"],
)
def test_input_that_does_not_fit_is_refused(pack_dir: Path, backend: BackendName, inputs: dict[str, Floats]) -> None:
    with pytest.raises(BackendError, match="failed") as caught:
        load(pack_dir, backend, "int8").run(inputs)

    assert "\n" not in str(caught.value)


def test_a_graph_the_folder_does_not_have_is_named_with_those_it_has(pack_dir: Path) -> None:
    with pytest.raises(BackendError, match="has no openvino-int8 graph; it has onnxruntime-fp32, onnxruntime-int8"):
        load_backend(pack_dir, {"onnxruntime-int8": "a", "onnxruntime-fp32": "b"}, "openvino", "int8")


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("content", [None, b"", b"not a graph"], ids=["missing", "empty", "text"])
def test_a_graph_that_cannot_be_loaded_is_one_line(tmp_path: Path, backend: BackendName, content: bytes | None) -> None:
    name = "graph.onnx" if backend == "onnxruntime" else "graph.xml"
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(BackendError, match=r"cannot load .* export the pack again") as caught:
        load_backend(tmp_path, {f"{backend}-int8": name}, backend, "int8")

    assert "\n" not in str(caught.value)


@needs_openvino
def test_an_openvino_graph_without_its_weights_is_refused(pack_dir: Path, tmp_path: Path) -> None:
    shutil.copy(pack_dir / "backbone.int8.xml", tmp_path)

    with pytest.raises(BackendError, match="OpenVINO"):
        load_backend(tmp_path, {"openvino-int8": "backbone.int8.xml"}, "openvino", "int8")
