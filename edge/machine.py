"""What this machine is: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge.errors import UsageError

PACKAGES = ("oddkind", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "hnswlib")


def machine_facts() -> dict[str, object]:
    """Processor, cores this process may use, how busy they are, system, and versions of what does the work."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
    }


def cpu_name() -> str:
    """The processor as the system names it; ARM boards often name the board only."""
    for path, key in ((Path("/proc/cpuinfo"), "model name"), (Path("/proc/device-tree/model"), "")):
        name = _first_value(path, key)
        if name:
            return name
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_rss_mb() -> float:
    """Most memory this process has held, in MiB.

    Linux carries `ru_maxrss` of the parent over into a new program, so the kernel's own mark comes first.
    """
    mark = _first_value(Path("/proc/self/status"), "VmHWM")
    if mark:
        return round(int(mark.split()[0]) / 1024, 1)
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def rss_kib() -> int:
    """Memory of this process that is in RAM now, in KiB; UsageError where the system has no /proc."""
    now = _first_value(Path("/proc/self/status"), "VmRSS")
    if not now:
        raise UsageError("resident memory cannot be read here: expected /proc/self/status; use a Linux machine")
    return int(now.split()[0])


def _first_value(path: Path, key: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip("\0\n").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[-1].strip() for line in lines if line.startswith(key)), "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
