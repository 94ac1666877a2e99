"""What the tests of an installation share."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from station_installation import own_environment

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("edge", "calibration", "export", "deploy", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is being tested, so that nothing is built in the checkout itself."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """A folder with everything a station needs to be installed without a network, made as deploy/README.md says."""
    folder, source = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("source") / "oddkind"
    shutil.copytree(checkout, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "wheel", "--wheel-dir", str(folder)]
    command = [*pip, "-c", str(source / "constraints.txt"), f"{source}[station]"]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
