"""oddkind beside anomalib's PatchCore, in one run: latency, memory and AUROC, as a markdown table.

    python -m venv peer-venv
    HNSWLIB_NO_NATIVE=1 peer-venv/bin/pip install -c constraints.txt -r docs/peer_requirements.txt
    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 peer-venv/bin/python docs/peer_anomalib.py BUNDLE DATASET

BUNDLE: calibrated on DATASET/train/good, 256 px. Both sides get the same frames, decoded and resized, one thread each,
in a process of its own, and are timed in turns. Fitting the peer takes a quarter of an hour; `--work DIR` keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from calibration.dataset import Dataset, find_dataset  # noqa: E402
from calibration.metrics import auroc  # noqa: E402
from edge import Inspector, Provenance  # noqa: E402
from edge.machine import machine_facts  # noqa: E402
from edge.pictures import iter_picture_paths, read_picture  # noqa: E402
from edge.preprocess import resize_square  # noqa: E402
from edge.result import utc_now  # noqa: E402

SIDE_PX = 256
TIMED_FRAMES = 24  # evenly over the test pictures
SHOTS = 2  # pictures a type that are enrolled
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass
class Side:
    """One row of the table. job: see docs/peer_worker.py. slow: timed on fewer frames, and its scores mean nothing."""

    title: str
    job: dict[str, Any]
    slow: bool = False
    rounds_ms: list[list[float]] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    precision: str = ""
    auroc: float | None = None

    def start(self, work: Path) -> None:
        """Its process; returns when it is loaded."""
        frames = work / ("few.npy" if self.slow else "timed.npy")
        job = {"frames": str(frames), "test": str(work / "test.npy"), **self.job}
        command = [sys.executable, str(ROOT / "docs/peer_worker.py"), json.dumps(job)]
        with (work / "workers.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=work,
                env={**os.environ, **ONE_THREAD},
            )
        self.precision = self._answer()["precision"]

    def time(self) -> None:
        """One turn."""
        told = self._ask("time")
        self.rounds_ms.append(told["latencies_ms"])
        self.peak_rss_mb = told["peak_rss_mb"]

    def score(self, is_defect: np.ndarray) -> None:
        """Image AUROC over the whole test split."""
        self.auroc = auroc(self._ask("scores")["scores"], is_defect)

    def end(self) -> None:
        """Stop its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    @property
    def medians_ms(self) -> np.ndarray:
        """(rounds,) p50 of each turn."""
        return np.median(self.rounds_ms, axis=1)

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.title}: its process ended; see workers.log in the work folder")
        answer: dict[str, Any] = json.loads(line)
        return answer


def sides(models: Path, bundle: Path) -> list[Side]:
    """Ours first."""

    def peer(side: str, model: str, precision: str | None) -> dict[str, Any]:
        return {"side": side, "path": str(models / model / "weights/openvino/model.xml"), "precision": precision}

    def ours(backend: str, typed: bool) -> dict[str, Any]:
        return {"side": "oddkind", "path": str(bundle), "backend": backend, "typed": typed}

    return [
        Side("oddkind, every picture typed, ONNX Runtime", ours("onnxruntime", True)),
        Side("oddkind, rejected ones typed, ONNX Runtime", ours("onnxruntime", False)),
        Side("oddkind, every picture typed, OpenVINO", ours("openvino", True)),
        Side("oddkind, rejected ones typed, OpenVINO", ours("openvino", False)),
        Side("anomalib's inferencer", peer("inferencer", "lite0", None)),
        Side("anomalib's inferencer, pinned", peer("inferencer", "lite0", "f32")),
        Side("anomalib's inferencer, its INT8", peer("inferencer", "lite0-int8", None)),
        Side("anomalib's inferencer, its INT8, pinned", peer("inferencer", "lite0-int8", "f32")),
        Side("its INT8 file in OpenVINO alone", peer("openvino", "lite0-int8", None)),
        Side("its model in torch", {"side": "torch", "path": str(models / "lite0.bank.pt")}),
        Side("WideResNet-50, 2,000 rows", peer("inferencer", "wide", None), slow=True),
        Side("WideResNet-50, 2,000 rows, pinned", peer("inferencer", "wide", "f32"), slow=True),
        Side("WideResNet-50, its default number of rows", peer("inferencer", "wide-default", None), slow=True),
        Side("WideResNet-50, its default rows, pinned", peer("inferencer", "wide-default", "f32"), slow=True),
    ]


def prepare(bundle: Path, dataset: Dataset, work: Path) -> Path:
    """Frames as arrays, a copy of the bundle with the first pictures of each type enrolled, the peer's models."""
    work.mkdir(parents=True, exist_ok=True)
    test = frames_of([sample.path for sample in dataset.samples])
    np.save(work / "test.npy", test)
    np.save(work / "timed.npy", test[np.linspace(0, len(test) - 1, TIMED_FRAMES).round().astype(int)])
    np.save(work / "few.npy", test[:: len(test) // 3][:3])
    if not (work / "models/lite0-int8").is_dir():
        np.save(work / "good.npy", frames_of(sorted(iter_picture_paths(dataset.folder / "train/good"))))
        script = [sys.executable, str(ROOT / "docs/peer_models.py"), str(work / "good.npy"), str(work / "models")]
        subprocess.run(script, check=True)
    return enrolled(bundle, dataset, work / "bundle")


def frames_of(paths: list[Path]) -> np.ndarray:
    """(n, S, S, 3) uint8 BGR."""
    return np.stack([resize_square(read_picture(path), SIDE_PX) for path in paths])


def enrolled(bundle: Path, dataset: Dataset, copy: Path) -> Path:
    """A copy of the bundle that knows every type of the data set.

    By pictures that it rejects anyway: others would be taught to it, and raise the scores that AUROC is taken of.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    for kind in dataset.kinds:
        pictures = rejected(copy, [sample.path for sample in dataset.samples if sample.kind == kind])
        command = [sys.executable, "-m", "edge.cli", "enrol", str(copy), kind, *map(str, pictures)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return copy


def rejected(bundle: Path, paths: list[Path]) -> list[Path]:
    """The first SHOTS of `paths` that the bundle rejects."""
    inspector, provenance = Inspector.load(bundle), Provenance("peer", 0, utc_now())
    odd = (path for path in paths if inspector.inspect(read_picture(path), provenance).verdict == "defect")
    return list(islice(odd, SHOTS))


def table(measured: list[Side]) -> str:
    """Markdown; ratios against the first row, over pairs of turns."""
    lines = [
        "| one thread, 256 px | precision | ms a frame | turns | over ours | peak RSS, MiB | image AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in measured:
        medians = side.medians_ms
        ratio = np.median(medians / measured[0].medians_ms)
        share = "-" if side.auroc is None else f"{side.auroc:.4f}".lstrip("0")
        lines.append(
            f"| {side.title} | {precision_name(side.precision)} | {np.median(medians):.1f} | "
            f"{medians.min():.1f} to {medians.max():.1f} | {ratio:.2f} | {side.peak_rss_mb:.0f} | {share} |"
        )
    return "\n".join(lines)


def precision_name(hint: str) -> str:
    """`<Type: 'bfloat16'>` -> `bfloat16`."""
    return hint.split("'")[1] if "'" in hint else hint


def main() -> None:
    """Everything, and the table on standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, default=Path("peer"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    dataset, work = find_dataset(options.dataset), options.work.resolve()
    running = sides(work / "models", prepare(options.bundle, dataset, work))
    for side in running:
        side.start(work)
    for _ in range(options.rounds):
        for side in running:
            side.time()
    is_defect = np.array([sample.is_defect for sample in dataset.samples])
    for side in running:
        if not side.slow:
            side.score(is_defect)
        side.end()
    print(json.dumps(machine_facts()))
    print(table(running))


if __name__ == "__main__":
    main()
