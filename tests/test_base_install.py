"""What a device has to carry: few packages, each for a reason, and few of them loaded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Every base dependency is on every device. Another one needs a line here that says what it is for there.
BASE = {
    "numpy": "arrays",
    "opencv-python-headless": "pictures, video and cameras",
    "onnxruntime": "runs the graphs",
    "hnswlib": "searches large memory banks",
    "click": "the command line",
    "pyyaml": "station files",
    "pydantic": "checks manifests",
    "filelock": "two processes may enrol into one store",
    "threadpoolctl": "keeps the matrix library to the threads asked for",
}
# What the device's code may load from site-packages before a bundle is opened, and what a bundle then adds.
LIGHT = {"numpy", "cv2", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
LIGHT |= {"filelock", "threadpoolctl", "click", "yaml"}
NEVER = {"torch", "onnx", "dask", "distributed", "fsspec", "pyarrow", "pandas", "scipy", "sklearn", "timm"}
# Runs a script, then prints the top-level packages from site-packages that it loaded.
LOADED = """
import json, sys
before = set(sys.modules)
{script}
files = {{name.partition(".")[0]: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()
         if "." not in name and name not in before}}
print(json.dumps([name for name, file in files.items() if "site-packages" in file]))
"""
CLI = """
from edge.cli import main
try:
    main({arguments!r})
except SystemExit as exit:
    assert exit.code in (0, None), exit.code
"""
INSPECT = """
import numpy as np
from pathlib import Path
from edge.inspector import Inspector
from edge.result import Provenance, utc_now
inspector = Inspector.load(Path({bundle!r}), backend={backend!r}, classes_path=Path({classes!r}))
inspector.inspect(np.full((64, 64, 3), 90, np.uint8), Provenance("test", 0, utc_now()), always_type=True)
"""


def loaded_by(script: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(script=script)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_base_install_is_a_short_list_with_reasons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=~!\[; ]", line)[0].lower() for line in project["dependencies"]}
    why = "a base dependency is on every device: put it into an extra, or name it and its use on a device in BASE"
    assert names == set(BASE), why


@pytest.mark.parametrize(
    "script",
    [
        "import edge.inspector",
        "import edge.station.run",
        "import edge.outputs.station_outputs",
        "import edge.station.check",
        *(
            CLI.format(arguments=[command, "--help"])
            for command in ("run", "score", "enrol", "classes", "station", "bench")
        ),
    ],
    ids=["inspector", "station", "outputs", "check", "run", "score", "enrol", "classes", "station-help", "bench"],
)
def test_the_device_path_loads_light_packages_alone(script: str) -> None:
    assert loaded_by(script) - LIGHT == set()


def test_an_inspection_adds_its_runtime_and_no_other(bundle_dir: Path, tmp_path: Path) -> None:
    script = INSPECT.format(bundle=str(bundle_dir), backend="onnxruntime", classes=str(tmp_path / "none.npz"))
    loaded = loaded_by(script)
    assert loaded & NEVER == set()
    assert "openvino" not in loaded
    search = json.loads((bundle_dir / "manifest.json").read_text())["memory_bank"]["search"]
    assert ("hnswlib" in loaded) == (search == "hnsw")


@pytest.fixture(scope="module")
def size_script() -> list[str]:
    return [sys.executable, str(ROOT / "deploy" / "install-size.py")]


def test_an_environment_is_measured_package_by_package(size_script: list[str]) -> None:
    here = Path(sys.prefix)
    done = subprocess.run(
        [*size_script, "--venv", here.name, "--json"], capture_output=True, text=True, check=True, cwd=here.parent
    )
    document = json.loads(done.stdout)
    assert set(BASE) <= {name.lower() for name in document["bytes"]}
    assert document["bytes"]["numpy"] > 10e6
    assert document["total_bytes"] == sum(document["bytes"].values())
    assert document["import_s"] > 0


def test_no_environment_is_one_clear_line(size_script: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*size_script, "--venv", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "has no bin/python" in done.stderr


def test_an_environment_without_oddkind_is_one_clear_line(size_script: list[str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\necho "no oddkind here" >&2\nexit 1\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    assert shutil.which(str(tmp_path / "bin" / "python"))
    done = subprocess.run([*size_script, "--venv", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "no oddkind here" in done.stderr
