"""What a device gets: megabytes on disk of every package, and how long the device's code takes to import.

python deploy/install-size.py              makes a virtual environment with the base install alone and measures it
python deploy/install-size.py --venv DIR   measures one that is there

Needs what `make` needs, and some minutes where hnswlib is not built yet. The environment is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
DEVICE_PATH = "edge.inspector"
# Runs in the measured environment: bytes by package, from what its installer wrote down. pip itself is not counted.
SIZES = """
import json
from importlib.metadata import distributions
sizes = {}
for package in distributions():
    files = [file.locate() for file in package.files or ()]
    sizes[package.metadata["Name"]] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps({name: size for name, size in sizes.items() if name not in ("pip", "setuptools")}))
"""
IMPORT = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
__import__(sys.argv[1])
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, help="measure this environment")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.venv and not python_of(arguments.venv).exists():
        print(f"install-size: {arguments.venv} has no bin/python; give the folder of an environment", file=sys.stderr)
        return 2
    try:
        document = measure(arguments.venv) if arguments.venv else measure_fresh()
    except subprocess.CalledProcessError as exc:
        words = (exc.stderr or "no message").strip().splitlines()[-1:]
        print(f"install-size: {exc.cmd[0]} failed: {' '.join(words)}", file=sys.stderr)
        return 1
    print(json.dumps(document) if arguments.json else in_words(document))
    return 0


def measure_fresh() -> dict[str, object]:
    """Install this checkout's base package, nothing else, and measure it."""
    with tempfile.TemporaryDirectory(prefix="oddkind-size-") as root:
        folder = Path(root) / "venv"
        venv.create(folder, with_pip=True)
        wheel = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "wheel", "--no-deps", "-w", root]
        call(*wheel, str(ROOT))
        (built,) = Path(root).glob("oddkind-*.whl")
        pip = [str(python_of(folder)), "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-compile"]
        call(*pip, "-c", str(ROOT / "constraints.txt"), str(built))
        return measure(folder)


def measure(folder: Path) -> dict[str, object]:
    """Bytes by package and seconds to import, in the environment at `folder`."""
    python = str(python_of(folder.absolute()))  # not resolved: an environment's python is a link to another
    sizes = json.loads(call(python, "-c", SIZES))
    # The first one compiles. Seconds of CPU are told too: on a busy machine the wall clock counts others' work.
    seconds = [[float(word) for word in call(python, "-c", IMPORT, DEVICE_PATH).split()] for _ in range(ROUNDS)]
    wall_s, cpu_s = zip(*seconds[1:], strict=True)
    return {
        "machine": platform.machine(),
        "python": call(python, "-c", "import platform; print(platform.python_version())").strip(),
        "bytes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
        "total_bytes": sum(sizes.values()),
        "import": DEVICE_PATH,
        "first_import_s": round(seconds[0][0], 3),
        "import_s": round(statistics.median(wall_s), 3),
        "import_cpu_s": round(statistics.median(cpu_s), 3),
    }


def in_words(document: dict[str, object]) -> str:
    """A table for the terminal."""
    sizes = document["bytes"]
    assert isinstance(sizes, dict)
    rows = [f"{name:28s}{size / 1e6:8.1f}" for name, size in [*sizes.items(), ("total", document["total_bytes"])]]
    head = f"Base install on {document['machine']}, Python {document['python']}, MB on disk without bytecode"
    seconds = (
        f"{document['import_s']} s, {document['import_cpu_s']} s of CPU; {document['first_import_s']} s the first time"
    )
    return "\n".join([head, *rows, f"import {document['import']}: {seconds}"])


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "bin" / "python"


def call(*command: str) -> str:
    """stdout of a command, away from this checkout; CalledProcessError when it fails."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env["HNSWLIB_NO_NATIVE"] = "1"
    return subprocess.run(
        command, cwd=tempfile.gettempdir(), env=env, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
