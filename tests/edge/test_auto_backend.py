"""`--backend auto` with real runtimes, with one that cannot load its graph, and with one that dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from edge import auto_backend, fresh_process
from edge.auto_backend import TOLERANCE, Tried, candidates, choose_runtime, difference, pick, try_all
from edge.backend import installed_backends
from edge.backend_memory import Choice, ProbeKey, cache_root, recall, remember
from edge.bundle import Bundle
from edge.errors import BackendError
from edge.inspector import Inspector
from edge.manifest import BackendName, BundleManifest, write_manifest

both_runtimes = pytest.mark.skipif(len(installed_backends()) < 2, reason="needs both runtimes")
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
OWN = ("onnxruntime", "int8")
CHOICE = Choice("openvino", "int8", products="openvino")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.open(bundle_dir)


@pytest.fixture
def notices() -> Iterator[list[str]]:
    told: list[str] = []
    yield told
    assert all("\n" not in text for text in told)


def killing(monkeypatch: pytest.MonkeyPatch, *runtimes: str) -> None:
    """Let the processes that try `runtimes` die by SIGILL, as where the CPU lacks an instruction; others are real."""
    real = fresh_process.command_for

    def command_for(module: str, question: dict[str, object]) -> list[str]:
        return [sys.executable, "-c", DIE] if question["backend"] in runtimes else real(module, question)

    monkeypatch.setattr(fresh_process, "command_for", command_for)


def with_broken_graph(bundle_dir: Path, folder: Path, backend: BackendName) -> Bundle:
    """A copy in which every graph of `backend` is no graph, with digests that fit."""
    copy = Path(shutil.copytree(bundle_dir, folder))
    manifest = Bundle.open(copy).manifest
    graphs = {**manifest.graphs, "": ""}
    for key, name in graphs.items():
        if key.startswith(backend):
            (copy / name).write_bytes(b"not a graph")
    (copy / "classes.npz").unlink(missing_ok=True)
    assert isinstance(write_manifest(copy, manifest), BundleManifest)
    return Bundle.open(copy)


# --- trying


@both_runtimes
def test_every_runtime_is_tried_and_compared_with_the_calibrated_one(bundle: Bundle) -> None:
    tried = try_all(bundle, installed_backends(), None, threads=1)
    assert {t.runtime for t in tried} == {(b, p) for b in ("onnxruntime", "openvino") for p in ("int8", "fp32")}
    assert tried[0].runtime == OWN and tried[0].difference == 0
    assert all(t.error is None and t.p50_ms and t.p50_ms > 0 for t in tried)
    by_runtime = {t.runtime: t.difference for t in tried}
    assert 0 < by_runtime["openvino", "int8"] < by_runtime["openvino", "fp32"]


@both_runtimes
def test_the_choice_agrees_with_the_calibrated_runtime_and_scores_like_it(
    bundle: Bundle, good_dir: Path, notices: list[str]
) -> None:
    chosen = choose_runtime(bundle, notify=notices.append)
    assert chosen.runtime in candidates(bundle, installed_backends(), None)
    assert len(notices) == 1
    assert notices[0].startswith(f"--backend auto: {' '.join(chosen.runtime)}, ") and "tried: " in notices[0]


def test_a_precision_that_was_asked_for_is_kept(bundle: Bundle, notices: list[str]) -> None:
    assert choose_runtime(bundle, "fp32", notify=notices.append).precision == "fp32"
    assert "int8" not in notices[0]


@both_runtimes
def test_a_runtime_that_dies_by_a_signal_leads_to_the_other_and_a_message(
    bundle: Bundle, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, "openvino")
    assert choose_runtime(bundle, notify=notices.append) == Choice(*OWN)
    assert "openvino int8 does not run (the process was killed by signal 4 (Illegal instruction)" in notices[0]


@both_runtimes
def test_when_the_calibrated_runtime_dies_the_same_precision_of_the_other_is_taken_with_a_warning(
    bundle: Bundle, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, "onnxruntime")
    assert choose_runtime(bundle, notify=notices.append) == Choice("openvino", "int8", products="openvino")
    assert "does not run here; scores may have drifted" in notices[0]
    assert "Illegal instruction" in notices[0]


def test_when_nothing_runs_the_error_says_what_died(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    killing(monkeypatch, *installed_backends())
    with pytest.raises(BackendError, match=r"nothing runs this bundle .*Illegal instruction.*; install a runtime"):
        choose_runtime(bundle, notify=pytest.fail)


@both_runtimes
def test_a_graph_that_one_runtime_cannot_load_leads_to_the_other(
    bundle_dir: Path, tmp_path: Path, notices: list[str]
) -> None:
    broken = with_broken_graph(bundle_dir, tmp_path / "bundle", "openvino")
    assert choose_runtime(broken, notify=notices.append).backend == "onnxruntime"
    assert "openvino int8 does not run (OpenVINO cannot load" in notices[0]


# --- picking


def tried(backend: BackendName, p50_ms: float | None, apart: float | None, error: str | None = None) -> Tried:
    return Tried(backend, "int8", p50_ms, apart, error)


@pytest.mark.parametrize(
    ("other", "chosen"),
    [
        (tried("openvino", 6.0, 0.03), "openvino"),
        (tried("openvino", 6.0, TOLERANCE + 0.001), "onnxruntime"),  # scores would leave the threshold
        (tried("openvino", 6.0, float("inf")), "onnxruntime"),
        (tried("openvino", 9.8, 0.03), "onnxruntime"),  # within the noise
        (tried("openvino", 12.0, 0.0), "onnxruntime"),
        (tried("openvino", None, None, "killed"), "onnxruntime"),
    ],
)
def test_the_fastest_that_agrees_is_picked(other: Tried, chosen: str) -> None:
    assert pick([tried("onnxruntime", 10.0, 0.0), other], OWN)[0] == (chosen, "int8")


def test_fp32_is_not_taken_for_int8_where_the_calibrated_one_is_gone() -> None:
    gone = tried("onnxruntime", None, None, "killed")
    int8, fp32 = tried("openvino", 9.0, None), replace(tried("openvino", 5.0, None), precision="fp32")
    assert pick([gone, fp32, int8], OWN)[0] == ("openvino", "int8")
    assert pick([gone, fp32], OWN)[0] == ("openvino", "fp32")


def test_difference_is_relative_and_that_of_the_worst_graph() -> None:
    ones = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}
    assert difference(ones, ones) == 0
    assert difference({**ones, "b": np.full(4, 1.5, np.float32)}, ones) == 0.5
    assert difference({"a": ones["a"]}, ones) == float("inf")
    assert difference({**ones, "b": np.ones(5, np.float32)}, ones) == float("inf")
    assert difference({**ones, "b": np.full(4, np.nan, np.float32)}, ones) == float("inf")


# --- remembering


def key(**changes: object) -> ProbeKey:
    return replace(ProbeKey.of("b" * 16, installed_backends(), None, 1), **changes)  # type: ignore[arg-type]


def test_a_second_time_nothing_is_tried(bundle: Bundle, notices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose_runtime(bundle, notify=notices.append)
    monkeypatch.setattr(auto_backend, "try_all", lambda *arguments: pytest.fail("tried again"))
    assert choose_runtime(bundle, notify=notices.append) == first
    assert "as found before" in notices[1]


@pytest.mark.parametrize(
    "change",
    [{"bundle_id": "c" * 16}, {"runtimes": {"onnxruntime": "9"}}, {"cpu": "another"}, {"threads": 2}, {"cores": 99},
     {"precision": "fp32"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_another_bundle_version_cpu_or_thread_count_is_another_choice(change: dict[str, object]) -> None:
    remember(key(), CHOICE)
    assert recall(key()) == CHOICE
    assert recall(key(**change)) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"key": 1}', None], ids=str)
def test_a_file_that_cannot_be_read_or_is_another_s_is_ignored_and_replaced(content: bytes | None) -> None:
    path = key().path
    assert path
    path.parent.mkdir(parents=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert recall(key()) is None
    remember(key(), CHOICE)
    assert recall(key()) == (None if content is None else CHOICE)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing is left beside it


def test_a_remembered_runtime_that_no_longer_exists_is_not_trusted() -> None:
    remember(key(), CHOICE)
    path = key().path
    assert path
    path.write_text(json.dumps({**json.loads(path.read_text()), "backend": "tensorrt"}))
    assert recall(key()) is None


def test_a_cache_that_cannot_be_written_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    remember(key(), CHOICE)
    assert recall(key()) is None


def test_the_cache_folder_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_root() == tmp_path / ".cache"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == tmp_path / ".cache"


# --- using


def test_an_inspector_loads_what_was_chosen(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    remember(ProbeKey.of(bundle.manifest.bundle_id, installed_backends(), None, 1), Choice("onnxruntime", "fp32"))
    inspector = Inspector.load(bundle.folder, "auto")
    assert (inspector.backbone.name, inspector.precision) == ("onnxruntime", "fp32")
    assert "onnxruntime fp32" in capsys.readouterr().err


def test_the_command_says_on_stderr_what_it_chose(bundle_dir: Path, good_dir: Path) -> None:
    result = run_oddkind("run", str(bundle_dir), "--source", str(good_dir), "--max-frames", "1", "--backend", "auto")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("oddkind: --backend auto: ")
    assert json.loads(result.stdout)["verdict"] == "good"


@both_runtimes
def test_where_importing_onnxruntime_kills_the_process_parts_are_inspected_all_the_same(
    bundle_dir: Path, good_dir: Path, tmp_path: Path
) -> None:
    """As on a CPU that lacks an instruction: nothing of that runtime is touched then, search included."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(DIE)
    bundle = Bundle.open(Path(shutil.copytree(bundle_dir, tmp_path / "bundle")))
    (bundle.folder / "classes.npz").unlink(missing_ok=True)
    searched = bundle.manifest.memory_bank.model_copy(update={"search": "int8"})
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"memory_bank": searched}))
    command = [sys.executable, "-m", "edge.cli", "run", str(bundle.folder), "--source", str(good_dir)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    result = subprocess.run(
        [*command, "--max-frames", "1", "--backend", "auto"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "onnxruntime int8 does not run (the process was killed by signal 4" in result.stderr
    assert json.loads(result.stdout)["verdict"] in ("good", "defect")
