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
from edge.manifest import MANIFEST_NAME, PackManifest, Target, write_manifest
from edge.pictures import FrameBgr, iter_picture_paths, read_picture
from edge.preprocess import to_network_input
from edge.staging import refuse_taken, staged_folder
from export.backbone import embedding_facts, load_backbone, patch_embedder
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
GRAPHS = {
    "onnxruntime-fp32": "backbone.fp32.onnx",
    "onnxruntime-int8": "backbone.int8.onnx",
    "openvino-fp32": "backbone.fp32.xml",
    "openvino-int8": "backbone.int8.xml",
}


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
        backbone = load_backbone(backbone_name, weights, input_size, strides)
        embedding = embedding_facts(backbone, input_size)
        frames = [to_network_input(f, embedding) for f in _frames(good, input_size)]
        module = patch_embedder(backbone, input_size)
        export_onnx(module, (_tensor(frames[0]),), ["images"], "patch_embeddings", folder / GRAPHS["onnxruntime-fp32"])
        fp32, int8 = folder / GRAPHS["onnxruntime-fp32"], folder / GRAPHS["onnxruntime-int8"]
        quantise(fp32, int8, ({"images": frame} for frame in frames[PARITY_FRAMES:]), target)
        write_ir(fp32, folder / GRAPHS["openvino-fp32"])
        write_ir(int8, folder / GRAPHS["openvino-int8"])
        report = measure_parity(_torch_infer(module), folder, GRAPHS, frames[:PARITY_FRAMES])
        check_parity(report)
        manifest = PackManifest(
            target=target,
            embedding=embedding,
            graphs=GRAPHS,
            parity={
                "frames": "good pictures" if good else "generated textures",
                "count": PARITY_FRAMES,
                **report,
            },
            versions=tool_versions(),
        )
        return write_manifest(folder, manifest)


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
