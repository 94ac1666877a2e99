"""The base wheel in a fresh virtual environment: a device without torch inspects, enrols and calibrates."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("edge", "calibration", "export", "pyproject.toml", "README.md", "LICENSE")
ABSENT = ("torch", "onnx", "openvino", "onnxscript", "scipy", "sklearn", "timm", "efficientnet_lite_pytorch")
MAX_BASE_BYTES = 350e6  # 316 MB when it was set; newer releases of the runtimes may add some
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


def call(*command: object, cwd: Path) -> str:
    """stdout of a command that must succeed, with no way to see this checkout."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env["HNSWLIB_NO_NATIVE"] = "1"
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    call(sys.executable, *PIP, "wheel", "--no-deps", "-w", out, source, cwd=out)
    (built,) = out.glob("oddkind-*.whl")
    return built


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """bin/ of a fresh virtual environment with the wheel and its base dependencies, no extras."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    call(folder / "bin" / "python", *PIP, "install", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_nothing_of_the_workstation_can_be_imported(device: Path, tmp_path: Path) -> None:
    script = (
        "import json, sys; from importlib.util import find_spec; print(json.dumps([*filter(find_spec, sys.argv[1:])]))"
    )

    assert json.loads(call(device / "python", "-c", script, *ABSENT, cwd=tmp_path)) == []
    assert json.loads(call(device / "python", "-c", script, "edge", "hnswlib", cwd=tmp_path)) == ["edge", "hnswlib"]


def test_what_ships_beside_the_code_is_in_the_wheel(device: Path, tmp_path: Path) -> None:
    script = "import edge, pathlib; print(*sorted(p.name for p in pathlib.Path(edge.__file__).parent.rglob('*')))"

    shipped = call(device / "python", "-c", script, cwd=tmp_path).split()

    for name in (
        "record.schema.json",
        "report.html",
        "station.example.yaml",
        *(p.name for p in (ROOT / "edge" / "page" / "static").iterdir()),
        *(p.name for p in (ROOT / "edge").rglob("*.py")),
    ):
        assert name in shipped
    assert "oddkind, version" in call(device / "oddkind", "--version", cwd=tmp_path)


def test_the_base_install_stays_under_its_size(device: Path, tmp_path: Path) -> None:
    measured = json.loads(
        call(sys.executable, ROOT / "deploy" / "install-size.py", "--venv", device.parent, "--json", cwd=tmp_path)
    )

    assert measured["total_bytes"] < MAX_BASE_BYTES, f"{measured['bytes']}: see docs/performance.md, Size and start"


def test_enrol_score_and_run(device: Path, bundle: Path, good_dir: Path, defects_dir: Path, tmp_path: Path) -> None:
    kind = sorted(defects_dir.iterdir())[0]
    shots = sorted(kind.iterdir())[:2]
    call(device / "oddkind", "enrol", bundle, kind.name, *shots, "--force", cwd=tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in [*sorted(good_dir.iterdir())[:3], *sorted(kind.iterdir())]:
        shutil.copy(path, pictures / f"{path.parent.name}-{path.name}")

    call(device / "oddkind", "score", bundle, pictures, "--out", "results", "--report", "--heatmaps", cwd=tmp_path)
    ran = call(device / "oddkind", "run", bundle, "--source", pictures, cwd=tmp_path)

    scored = [json.loads(line) for line in (tmp_path / "results" / "results.jsonl").read_text().splitlines()]
    live = [json.loads(line) for line in ran.splitlines()]
    assert len(scored) == len(live) == len(list(pictures.iterdir()))
    by_name = {Path(record["path"]).name: record["anomaly_score"] for record in live}
    assert {Path(r["path"]).name: r["anomaly_score"] for r in scored} == pytest.approx(by_name, abs=1e-5)
    assert {r["defect_class"] for r in scored if r["verdict"] == "defect"} <= {kind.name, "unknown"}
    assert (tmp_path / "results" / "report.html").is_file()


def test_calibrate_on_the_device_gives_the_workstations_bundle(
    device: Path, pack_dir: Path, good_dir: Path, bundle_dir: Path, tmp_path: Path
) -> None:
    arguments = ("--pack", pack_dir, "--out", "bundle", "--bank-rows", 300)
    call(device / "oddkind", "calibrate", good_dir, *arguments, cwd=tmp_path)

    here, there = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "bundle", bundle_dir))
    assert here["memory_bank"]["rows"] == there["memory_bank"]["rows"] == 300
    assert here["thresholds"]["image_threshold"] == pytest.approx(there["thresholds"]["image_threshold"], rel=1e-3)
    assert here["pack_id"] == there["pack_id"]


def test_what_needs_the_workstation_says_what_to_install(device: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [device / "oddkind", "export", "--out", "pack"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode in (1, 2)
    assert "oddkind[export]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "pack").exists()


def test_a_runtime_that_is_not_installed_says_what_to_install(
    device: Path, bundle: Path, good_dir: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [device / "oddkind", "run", bundle, "--source", good_dir, "--backend", "openvino"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "pip install 'oddkind[openvino]'" in done.stderr
    assert "Traceback" not in done.stderr
