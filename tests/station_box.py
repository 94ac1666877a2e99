"""A box for a station: Debian with nothing but Python and systemd in a folder, and systemd booted in it by nspawn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from edge_processes import children_of, wait_for

SUITE, ITS_PYTHON = "bookworm", (3, 11)
NEEDED = ("debootstrap", "systemd-nspawn", "nsenter")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_root(folder: Path, packages: str = "systemd,python3,python3-venv") -> None:
    """Fill `folder`; the test is skipped, with the reason, where that cannot be."""
    missing = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:{PATH}") is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt install debootstrap systemd-container)")
    if os.geteuid() != 0:
        pytest.skip("debootstrap and systemd-nspawn need root")
    if sys.version_info[:2] != ITS_PYTHON:
        pytest.skip(f"wheels made here are for Python {sys.version_info[:2]}, {SUITE} has {ITS_PYTHON}")
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(folder)]
    done = subprocess.run(command, env=box_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"debootstrap failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")


def box_environment() -> dict[str, str]:
    """Nothing of this machine but a path."""
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class Box:
    """systemd as process 1 of what lies in `root`, in the network of this machine; `with` it."""

    def __init__(self, root: Path) -> None:
        self.root, self._process, self._first = root, None, 0
        self._process: subprocess.Popen[bytes] | None

    def __enter__(self) -> Box:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()

    def boot(self) -> None:
        """Until systemd has started what is enabled; skips where nspawn cannot."""
        log = self.root.with_suffix(".log")
        options = ["--boot", "--register=no", "--keep-unit", "--console=pipe", f"--machine=box-{os.getpid()}"]
        command = ["systemd-nspawn", "--quiet", "-D", str(self.root), *options]
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        deadline_s = monotonic() + 60
        while monotonic() < deadline_s and self._process.poll() is None:
            first = children_of(self._process.pid)
            if first and self._answers(first[0]):
                self._first = first[0]
                return
            sleep(0.1)
        self.shut_down()
        pytest.skip(f"systemd does not boot here: {log.read_text('utf-8', 'replace').strip()[-200:]}")

    def shut_down(self) -> None:
        """As the power button does; what does not stop is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, *command: str) -> str:
        """stdout of a command in the box that must succeed."""
        done = self.try_(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in the box, as root."""
        return _inside(self._first, *command)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.call("systemctl", "show", unit, "--property", name, "--value").strip()

    def wait_until(self, unit: str, state: str, restarts: int | None = None, timeout_s: float = 60) -> None:
        """Until the unit is in that state and has been started again so often."""

        def holds() -> bool:
            is_there = self.show(unit, "ActiveState") == state
            return is_there and (restarts is None or int(self.show(unit, "NRestarts")) == restarts)

        try:
            wait_for(holds, timeout_s)
        except AssertionError:
            raise AssertionError(self.call("journalctl", "--no-pager", "-n", "40", "-u", unit)) from None

    def _answers(self, first: int) -> bool:
        done = _inside(first, "systemctl", "is-system-running")
        return done.stdout.strip() in ("running", "degraded")


def _inside(first: int, *command: str) -> subprocess.CompletedProcess[str]:
    whole = ["nsenter", "--target", str(first), "--all", *command]
    return subprocess.run(whole, env=box_environment(), capture_output=True, text=True, check=False)
