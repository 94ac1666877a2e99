"""anomalib's PatchCore, fitted and exported for docs/peer_anomalib.py, which has the whole story.

    python docs/peer_models.py FRAMES.npy OUT_FOLDER

FRAMES.npy: (n, S, S, 3) uint8 BGR good pictures. Its model classes are used directly: its trainer and data modules
would add nothing but progress bars. Runs in the peer's own virtual environment.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

BANK_ROWS = 2000
STRIDES, LAYERS = (8, 16), ("blocks.4", "blocks.10")  # of efficientnet-lite0, as in our packs
CALIBRATION_PICTURES = 300  # what anomalib recommends for INT8
DEFAULT_CORESET_SHARE = 0.1  # of anomalib's Patchcore()
BATCH = 16


def let_torchvision_load() -> Any:
    """PyPI's torchvision is built for CUDA; beside a CPU torch its compiled part, of which nothing is used here, does
    not load, and importing it fails at two operators that it describes. They are declared here; keep the answer."""
    if "+cpu" not in torch.__version__ or "+cpu" in version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def untrained_peer(**options: Any) -> Any:
    """Patchcore without what an inspection does not need: scores stay raw, which saves the peer work."""
    from anomalib.models import Patchcore

    return Patchcore(pre_trained=False, post_processor=False, evaluator=False, visualizer=False, **options).eval()


def lite_peer(side_px: int, coreset_share: float = 1.0) -> Any:
    """Patchcore over the backbone of our packs: same weights, stages and normalising of pixels."""
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    from export.backbone import load_backbone

    backbone = load_backbone("efficientnet-lite0", None, side_px, STRIDES)
    scaled = [[one / 255 for one in each] for each in (backbone.mean, [1 / s for s in backbone.scale])]
    transform = Compose([Resize((side_px, side_px), antialias=True), Normalize(*scaled)])
    options = {"layers": LAYERS, "pre_processor": PreProcessor(transform=transform)}
    return untrained_peer(backbone=backbone.module, coreset_sampling_ratio=coreset_share, **options)


def batches(frames_bgr: np.ndarray, size: int) -> Any:
    """(n, S, S, 3) uint8 BGR -> tensors (size, 3, S, S) of RGB in 0..1."""
    for start in range(0, len(frames_bgr), size):
        rgb = np.ascontiguousarray(frames_bgr[start : start + size, ..., ::-1].transpose(0, 3, 1, 2))
        yield torch.from_numpy(rgb).float() / 255


def fit(peer: Any, frames_bgr: np.ndarray) -> None:
    """Collect embeddings of all pictures, then anomalib's own coreset."""
    peer.model.train()
    with torch.no_grad():
        for batch in batches(frames_bgr, BATCH):
            peer.model(peer.pre_processor(batch))
    peer.fit()
    peer.eval()


class CalibrationPictures:
    """What anomalib's INT8 export asks of a data module: good pictures it was fitted on, no defects."""

    train_batch_size = 1

    def __init__(self, frames_bgr: np.ndarray) -> None:
        self.frames_bgr = frames_bgr[:: max(1, len(frames_bgr) // CALIBRATION_PICTURES)][:CALIBRATION_PICTURES]

    def setup(self, stage: str) -> None:
        """Nothing to prepare."""

    def val_dataloader(self) -> Any:
        """One picture at a time."""
        samples = [{"image": batch[0]} for batch in batches(self.frames_bgr, 1)]
        return torch.utils.data.DataLoader(samples, batch_size=1)


def export_openvino(peer: Any, out: Path, side_px: int, int8_with: CalibrationPictures | None = None) -> None:
    """Its own export. Batch of one: left to choose, anomalib 2.7 exports this model for batches of exactly two."""
    from anomalib.deploy import CompressionType

    peer.to_openvino(
        out,
        input_size=(side_px, side_px),
        compression_type=CompressionType.INT8_PTQ if int8_with else None,
        datamodule=int8_with,
        onnx_kwargs={"dynamic_axes": {}},
    )


def make_lite(frames_bgr: np.ndarray, out: Path) -> None:
    """Fitted model as torch checkpoint, as OpenVINO and as INT8 OpenVINO."""
    side_px = frames_bgr.shape[1]
    patches = len(frames_bgr) * (side_px // STRIDES[0]) ** 2
    peer = lite_peer(side_px, (BANK_ROWS + 0.5) / patches)
    torch.manual_seed(0)
    fit(peer, frames_bgr)
    assert len(peer.model.memory_bank) == BANK_ROWS
    torch.save(peer.model.memory_bank, out / "lite0.bank.pt")
    export_openvino(peer, out / "lite0", side_px)
    export_openvino(peer, out / "lite0-int8", side_px, CalibrationPictures(frames_bgr))


def make_default(good_pictures: int, side_px: int, out: Path) -> None:
    """WideResNet-50 with random weights: Patchcore() with our number of rows and with its own.

    The rows are random too; no step's time hangs on what they are.
    """
    own_rows = int(DEFAULT_CORESET_SHARE * good_pictures * (side_px // 8) ** 2)
    torch.manual_seed(0)
    peer = untrained_peer()
    for name, rows in (("wide", BANK_ROWS), ("wide-default", own_rows)):
        peer.model.memory_bank = torch.rand(rows, 512 + 1024)
        export_openvino(peer, out / name, side_px)


def main(frames_path: Path, out: Path) -> None:
    """Everything that the workers time."""
    out.mkdir(parents=True, exist_ok=True)
    keep = let_torchvision_load()
    frames_bgr, started_s = np.load(frames_path), perf_counter()
    make_default(len(frames_bgr), frames_bgr.shape[1], out)
    make_lite(frames_bgr, out)
    print(f"{perf_counter() - started_s:.0f} s")
    del keep


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
