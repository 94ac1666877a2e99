"""Backbone -> model pack: graphs of every kind, measured against each other, with their manifest."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import ExportError
from edge.manifest import MANIFEST_NAME, Embedding, PackManifest, SecondLookFacts, Target, write_manifest
from edge.pictures import FrameBgr, iter_picture_paths, read_picture
from edge.preprocess import to_network_input
from edge.staging import refuse_taken, staged_folder
from export.backbone import Backbone, embedding_facts, load_backbone, patch_embedder
from export.openvino_ir import write_ir
from export.parity import check_parity, measure_parity
from export.quantize import quantise, simplify
from export.textures import generated_textures
from export.workstation import need_workstation_packages

if TYPE_CHECKING:
    import torch

OPSET = 18
QUANTISATION_FRAMES = 64
PARITY_FRAMES = 8
BACKBONE, SECOND_LOOK = "backbone", "second_look"
SECOND_LOOK_INPUT_SIZE = 128
LEAST_WINDOWED_SIDE = 2 * SECOND_LOOK_INPUT_SIZE  # a window of a smaller texture shows nothing
WINDOW_SHARES = (0.25, 0.6)  # of a picture's shorter side: what INT8 of the second look is calibrated on


def export_pack(
    out: Path,
    backbone_name: str = "efficientnet-lite0",
    weights: Path | None = None,
    input_size: int = 256,
    strides: Sequence[int] = (8, 16),
    target: Target = "x86-vnni",
    good: Path | None = None,
    overwrite: bool = False,
) -> PackManifest:
    """Cut, export, quantise, compare and write a model pack; on any failure `out` stays as it was."""
    need_workstation_packages()
    refuse_taken(out, MANIFEST_NAME, overwrite)
    with staged_folder(out, MANIFEST_NAME, overwrite) as folder:
        frames = _frames(good, input_size)
        first = load_backbone(backbone_name, weights, input_size, strides)
        embedding, graphs, report = _write_graphs(first, input_size, frames, folder, BACKBONE, target)
        large = _frames(good, max(input_size, LEAST_WINDOWED_SIDE))
        whole = load_backbone(backbone_name, weights, SECOND_LOOK_INPUT_SIZE, None)
        look, look_graphs, look_report = _write_graphs(
            whole, SECOND_LOOK_INPUT_SIZE, _windows(large), folder, SECOND_LOOK, target
        )
        manifest = PackManifest(
            target=target,
            embedding=embedding,
            graphs=graphs,
            second_look=SecondLookFacts(embedding=look, graphs=look_graphs),
            parity={
                "frames": "good pictures" if good else "generated textures",
                "count": PARITY_FRAMES,
                **report,
                SECOND_LOOK: look_report,
            },
            versions=tool_versions(),
        )
        return write_manifest(folder, manifest)


def graph_names(stem: str) -> dict[str, str]:
    """File of each graph by key."""
    return {
        "onnxruntime-fp32": f"{stem}.fp32.onnx",
        "onnxruntime-int8": f"{stem}.int8.onnx",
        "openvino-fp32": f"{stem}.fp32.xml",
        "openvino-int8": f"{stem}.int8.xml",
    }


def _write_graphs(
    backbone: Backbone, input_size: int, frames: Sequence[FrameBgr], folder: Path, stem: str, target: Target
) -> tuple[Embedding, dict[str, str], dict[str, dict[str, float]]]:
    """One cut of the backbone as graphs of every kind in `folder`: its facts, its files, and how far each strays."""
    embedding, graphs = embedding_facts(backbone, input_size), graph_names(stem)
    inputs = [to_network_input(frame, embedding) for frame in frames]
    module = patch_embedder(backbone, input_size)
    fp32, int8 = folder / graphs["onnxruntime-fp32"], folder / graphs["onnxruntime-int8"]
    export_onnx(module, (_tensor(inputs[0]),), ["images"], "patch_embeddings", fp32)
    quantise(fp32, int8, ({"images": each} for each in inputs[PARITY_FRAMES:]), target)
    write_ir(fp32, folder / graphs["openvino-fp32"])
    write_ir(int8, folder / graphs["openvino-int8"])
    report = measure_parity(_torch_infer(module), folder, graphs, inputs[:PARITY_FRAMES])
    check_parity(report, stem)
    return embedding, graphs, report


def export_onnx(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    input_names: list[str],
    output_name: str,
    path: Path,
    dynamic_shapes: Any = None,
) -> None:
    """Trace `module` to ONNX at OPSET, constants folded, weights inside the file."""
    import logging

    import torch

    # The exporter warns of every torchvision operator it does not need.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as aside, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = Path(aside) / "raw.onnx"
        torch.onnx.export(
            module,
            example,
            str(raw),
            input_names=input_names,
            output_names=[output_name],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=dynamic_shapes,
        )
        simplify(raw, path)


def tool_versions() -> dict[str, str]:
    """Versions of the tools that shape the graphs."""
    versions = {}
    for package in ("oddkind", "torch", "onnx", "onnxruntime", "openvino", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _frames(good: Path | None, input_size: int) -> list[FrameBgr]:
    count = QUANTISATION_FRAMES + PARITY_FRAMES
    if good is None:
        return generated_textures(count, input_size)
    if not good.is_dir():
        raise ExportError(f"--good {good}: no such folder")
    paths = list(iter_picture_paths(good))
    if len(paths) < PARITY_FRAMES + 1:
        raise ExportError(
            f"--good {good}: {len(paths)} pictures, at least {PARITY_FRAMES + 1} needed, or leave --good out"
        )
    chosen = np.random.default_rng(0).permutation(len(paths))[:count]
    return [read_picture(paths[i]) for i in chosen]


def _windows(frames: Sequence[FrameBgr]) -> list[FrameBgr]:
    """A square window of each frame, as the second look takes them."""
    rng = np.random.default_rng(0)
    windows = []
    for frame in frames:
        H, W = frame.shape[:2]
        side = max(1, round(min(H, W) * rng.uniform(*WINDOW_SHARES)))
        top, left = int(rng.integers(H - side + 1)), int(rng.integers(W - side + 1))
        windows.append(np.ascontiguousarray(frame[top : top + side, left : left + side]))
    return windows


def _tensor(frame: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(frame)


def _torch_infer(module: torch.nn.Module) -> Any:
    import torch

    def infer(frame: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            embeddings: np.ndarray = module(torch.from_numpy(frame)).numpy()
            return embeddings

    return infer
