"""Backbones: the real ImageNet weights see what is there; anything else is refused by name."""

from __future__ import annotations

from importlib import resources, util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge.errors import ExportError
from edge.pictures import FrameBgr, read_picture
from edge.preprocess import to_network_input
from export.backbone import (
    Backbone,
    embedding_facts,
    grid_stride,
    load_backbone,
    load_lite_classifier,
    patch_embedder,
)

BELL_COTE, STUPA, MONASTERY = 442, 832, 663
CLASSIFIER_PX = 224
SIDE_PX = 64
has_timm = util.find_spec("timm") is not None


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    """EfficientNet-Lite0 with the taps of the default pack."""
    return load_backbone("efficientnet-lite0", None, SIDE_PX, (8, 16))


def china() -> FrameBgr:
    """A temple in the Summer Palace, Beijing; scikit-learn ships the picture."""
    return read_picture(Path(str(resources.files("sklearn.datasets").joinpath("images/china.jpg"))))


def test_the_network_recognises_a_known_picture() -> None:
    model, _ = load_lite_classifier("efficientnet-lite0", None, CLASSIFIER_PX)
    size_wh = (CLASSIFIER_PX, CLASSIFIER_PX)
    frame_rgb = cv2.resize(china(), size_wh, interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float32)
    images = torch.from_numpy(((frame_rgb - 127) / 128).transpose(2, 0, 1)[np.newaxis].copy())
    with torch.inference_mode():
        top = model(images)[0].topk(5).indices.tolist()
    assert top[0] == BELL_COTE
    assert {STUPA, MONASTERY} <= set(top)


def test_the_manifest_prepares_pictures_as_the_network_was_trained(lite0: Backbone) -> None:
    frame_bgr = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    frame_bgr[...] = (255, 127, 0)  # blue, green, red
    images = to_network_input(frame_bgr, embedding_facts(lite0, SIDE_PX))
    np.testing.assert_allclose(images[0, :, 0, 0], [(0 - 127) / 128, 0, (255 - 127) / 128], atol=1e-6)  # r, g, b


def test_the_taps_end_their_stages(lite0: Backbone) -> None:
    assert [(tap.name, tap.stride, tap.channels) for tap in lite0.taps] == [("s8", 8, 40), ("s16", 16, 112)]
    with torch.inference_mode():
        maps = lite0.module(torch.zeros(2, 3, SIDE_PX, SIDE_PX))
    assert [tuple(m.shape) for m in maps] == [(2, 40, 8, 8), (2, 112, 4, 4)]


def test_nothing_after_the_coarsest_tap_is_kept() -> None:
    sizes = [
        sum(p.numel() for p in load_backbone("efficientnet-lite0", None, SIDE_PX, strides).module.parameters())
        for strides in [(8,), (8, 16), (8, 16, 32)]
    ]
    assert sizes == sorted(set(sizes))


def test_a_patch_is_the_mean_of_its_neighbours_with_the_borders_not_counted(lite0: Backbone) -> None:
    class OneTap(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [torch.arange(64.0).reshape(1, 1, 8, 8)]

    only = Backbone("by hand", OneTap(), lite0.taps[:1], lite0.mean, lite0.scale, "")
    patches = patch_embedder(only, SIDE_PX)(torch.zeros(1, 3, SIDE_PX, SIDE_PX)).reshape(8, 8)
    assert patches[1, 1] == pytest.approx(9.0)  # of 0..2, 8..10, 16..18
    assert patches[0, 0] == pytest.approx((0 + 1 + 8 + 9) / 4)


def test_the_grid_has_stride_eight_or_that_of_the_finest_coarser_tap(lite0: Backbone) -> None:
    assert grid_stride(lite0.taps) == 8
    assert grid_stride(lite0.taps[1:]) == 16
    assert embedding_facts(lite0, SIDE_PX).grid_hw == (8, 8)


@pytest.mark.parametrize(
    ("name", "size", "strides", "says"),
    [
        ("resnet18", SIDE_PX, (8,), r"unknown backbone 'resnet18'; expected one of efficientnet-lite0"),
        ("efficientnet-lite0", 100, (8,), r"--input-size 100: expected a multiple of 32"),
        ("efficientnet-lite0", 32, (8,), r"--input-size 32"),
        ("efficientnet-lite0", SIDE_PX, (8, 64), r"has no stride 64; it has 2, 4, 8, 16, 32"),
        ("efficientnet-lite0", SIDE_PX, (16, 8), r"expected rising strides"),
        ("efficientnet-lite0", SIDE_PX, (8, 8), r"expected rising strides"),
        ("efficientnet-lite0", SIDE_PX, (), r"expected rising strides"),
    ],
)
def test_a_backbone_that_does_not_exist_is_refused(name: str, size: int, strides: tuple[int, ...], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        load_backbone(name, None, size, strides)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ExportError, match=r"other\.pth are not those of efficientnet-lite0: \d+ tensors missing"):
        load_backbone("efficientnet-lite0", path, SIDE_PX, (8,))


def test_weights_of_a_larger_sister_are_named(tmp_path: Path) -> None:
    model, _ = load_lite_classifier("efficientnet-lite0", None, SIDE_PX)
    state = model.state_dict()
    state["_conv_stem.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(ExportError, match=r"wide\.pth are not those of efficientnet-lite0: tensor shapes differ"):
        load_backbone("efficientnet-lite0", tmp_path / "wide.pth", SIDE_PX, (8,))


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half a zip"])
def test_a_file_that_holds_no_weights_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ExportError, match=r"w\.pth: not a file of plain weights"):
        load_backbone("efficientnet-lite0", tmp_path / "w.pth", SIDE_PX, (8,))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (trace,)  # type: ignore[return-value]

    torch.save(Trap(), tmp_path / "trap.pth")
    with pytest.raises(ExportError, match="not a file of plain weights"):
        load_backbone("efficientnet-lite0", tmp_path / "trap.pth", SIDE_PX, (8,))
    assert not trace.exists()


def test_the_users_own_weights_are_used_and_their_digest_is_kept(tmp_path: Path, lite0: Backbone) -> None:
    model, _ = load_lite_classifier("efficientnet-lite0", None, SIDE_PX)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["_bn0.bias"] += 1
    torch.save(state, tmp_path / "mine.pth")
    mine = load_backbone("efficientnet-lite0", tmp_path / "mine.pth", SIDE_PX, (8, 16))
    assert mine.weights_sha256 != lite0.weights_sha256
    with torch.inference_mode():
        images = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
        assert not torch.allclose(mine.module(images)[0], lite0.module(images)[0])


@pytest.mark.skipif(has_timm, reason="timm is installed here")
def test_without_timm_the_error_says_how_to_install_it() -> None:
    with pytest.raises(ExportError, match=r"--backbone timm:resnet18 needs timm; pip install 'oddkind\[timm\]'"):
        load_backbone("timm:resnet18", None, SIDE_PX, (8,))


@pytest.mark.skipif(not has_timm, reason="timm is an extra and not installed")
def test_timm_without_a_weights_file_says_what_to_download_and_fetches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", no_network)
    with pytest.raises(ExportError, match=r"needs --weights FILE: download \S*resnet18"):
        load_backbone("timm:resnet18", None, SIDE_PX, (8,))
