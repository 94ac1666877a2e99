"""`--backend auto`: the fastest runtime on this machine that sees what the calibrated one sees.

Each runtime is tried in a process of its own: one that dies of an instruction this CPU lacks takes nothing with it.
Thresholds were set on the embeddings of the calibrated runtime and precision, so that only a runtime whose embeddings
lie near those may take its place. The choice is remembered for this bundle on this machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edge.backend import installed_backends
from edge.backend_memory import Choice, ProbeKey, recall, remember
from edge.bundle import Bundle
from edge.errors import UNREADABLE_NPZ, BackendError
from edge.fresh_process import ask
from edge.machine import usable_cores
from edge.manifest import BackendName, Precision, graph_key
from edge.notify import Notify, say
from edge.probe_worker import Embeddings, Probe

AUTO = "auto"
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
# |a - b| / |b| on the probe picture, of the worse graph. INT8 in another runtime rounds elsewhere: 0.046, scores move
# by 1 % (median). FP32 instead of INT8: 0.145, single good parts score five times as much. See docs/performance.md.
TOLERANCE = 0.06
# Less is within the noise of a measurement, and the calibrated runtime is the one whose promise was measured.
WORTH_CHANGING = 0.95
TIMEOUT_S = 120.0

Runtime = tuple[BackendName, Precision]


@dataclass(frozen=True)
class Tried:
    """One runtime on the probe picture. p50_ms: of the bare backbone. difference: from the calibrated runtime.

    difference is None where there is nothing to compare with, error None when it ran.
    """

    backend: BackendName
    precision: Precision
    p50_ms: float | None = None
    difference: float | None = None
    error: str | None = None

    @property
    def runtime(self) -> Runtime:
        """What it is called by."""
        return self.backend, self.precision

    def __str__(self) -> str:
        name = f"{self.backend} {self.precision}"
        if self.p50_ms is None:
            return f"{name} does not run ({self.error})"
        if not self.difference:
            return f"{name} {self.p50_ms:.1f} ms"
        allowed = "" if self.difference <= TOLERANCE else f", more than {TOLERANCE}"
        return f"{name} {self.p50_ms:.1f} ms, embeddings differ by {self.difference:.3f}{allowed}"


def choose_runtime(
    bundle: Bundle, precision: Precision | None = None, threads: int = 1, notify: Notify = say
) -> Choice:
    """What to inspect with, remembered or tried now; one line to `notify` says which and why.

    precision: take no other. BackendError when nothing runs.
    """
    backends = installed_backends()
    key = ProbeKey.of(bundle.manifest.bundle_id, backends, precision, threads)
    known = recall(key)
    if known and known.runtime in candidates(bundle, backends, precision):
        notify(f"--backend auto: {' '.join(known.runtime)}, as found before on this machine")
        return known
    tried = try_all(bundle, backends, precision, threads)
    runtime, why = pick(tried, _calibrated(bundle, precision))
    notify(f"--backend auto: {' '.join(runtime)}, {why}; tried: {'; '.join(map(str, tried))}")
    chosen = Choice(*runtime, products=products_runtime(tried))
    remember(key, chosen)
    return chosen


def products_runtime(tried: Sequence[Tried]) -> BackendName:
    """What multiplies in integers: ONNX Runtime, in which a call costs the least, unless it runs nothing here."""
    runs = {each.backend for each in tried if each.error is None}
    return "openvino" if "openvino" in runs and "onnxruntime" not in runs else "onnxruntime"


def candidates(bundle: Bundle, backends: Sequence[BackendName], precision: Precision | None) -> list[Runtime]:
    """Runtimes that are installed and that the bundle has graphs for, the calibrated one first."""
    found = [
        (backend, each)
        for backend in backends
        for each in PRECISIONS
        if precision in (None, each) and graph_key(backend, each) in bundle.manifest.graphs
    ]
    return sorted(found, key=lambda runtime: runtime != _calibrated(bundle, precision))


def try_all(bundle: Bundle, backends: Sequence[BackendName], precision: Precision | None, threads: int) -> list[Tried]:
    """Every candidate on the probe picture, one after the other, so that none slows another down."""
    with tempfile.TemporaryDirectory(prefix="oddkind-probe-") as folder:
        reference, tried = None, []
        for runtime in candidates(bundle, backends, precision):
            path = Path(folder) / f"{graph_key(*runtime)}.npz"
            result = try_runtime(bundle, runtime, threads, path)
            embeddings = None if result.error else _read(path)
            if runtime == _calibrated(bundle, precision):
                reference = embeddings
            if embeddings and reference:
                result = replace(result, difference=difference(embeddings, reference))
            tried.append(result)
    return tried


def try_runtime(bundle: Bundle, runtime: Runtime, threads: int, embeddings_path: Path) -> Tried:
    """One runtime in a fresh process; whatever becomes of that process is in the answer."""
    count = threads or usable_cores()
    probe = Probe(str(bundle.folder), *runtime, count, str(embeddings_path))
    answer = ask("edge.probe_worker", asdict(probe), count, timeout_s=TIMEOUT_S)
    return Tried(*runtime, p50_ms=answer.document.get("p50_ms"), error=answer.error)


def pick(tried: Sequence[Tried], calibrated: Runtime) -> tuple[Runtime, str]:
    """The runtime to use and, in words, why; BackendError when none runs."""
    running = [t for t in tried if t.p50_ms is not None]
    if not running:
        errors = "; ".join(map(str, tried)) or "none is installed that this bundle has graphs for"
        raise BackendError(f"--backend auto: nothing runs this bundle ({errors}); install a runtime or export again")
    own = next((t for t in running if t.runtime == calibrated), None)
    if own is None:
        return _pick_unchecked(running, calibrated)
    agreeing = [t for t in running if t.difference is not None and t.difference <= TOLERANCE]
    fastest = min(agreeing, key=_latency_ms, default=own)
    if fastest is own or _latency_ms(fastest) > WORTH_CHANGING * _latency_ms(own):
        return own.runtime, "because it was calibrated with that runtime and none that agrees is clearly faster"
    return fastest.runtime, f"the fastest that agrees with {' '.join(calibrated)}"


def difference(embeddings: Embeddings, reference: Embeddings) -> float:
    """Largest |a - b| / |b| of any graph; infinite where they cannot be compared, NaN is no agreement."""
    worst = 0.0
    for name, expected in reference.items():
        got = embeddings.get(name)
        if got is None or got.shape != expected.shape:
            return float("inf")
        apart = float(np.linalg.norm(got - expected) / max(float(np.linalg.norm(expected)), 1e-12))
        worst = max(worst, apart) if np.isfinite(apart) else float("inf")
    return round(worst, 4)


def _pick_unchecked(running: Sequence[Tried], calibrated: Runtime) -> tuple[Runtime, str]:
    """The calibrated runtime does not run here: the nearest to it is the same precision in another."""
    chosen = min(running, key=lambda t: (t.precision != calibrated[1], _latency_ms(t)))
    return chosen.runtime, (
        f"because {' '.join(calibrated)}, which it was calibrated with, does not run here; scores may have drifted "
        "from the threshold, check them on good parts or calibrate on this machine"
    )


def _latency_ms(tried: Tried) -> float:
    assert tried.p50_ms is not None
    return tried.p50_ms


def _calibrated(bundle: Bundle, precision: Precision | None) -> Runtime:
    """What others must agree with; a precision that the user asked for is the user's own answer for the threshold."""
    return bundle.manifest.calibrated_backend, precision or bundle.manifest.calibrated_precision


def _read(path: Path) -> Embeddings | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except UNREADABLE_NPZ:
        return None
