"""deploy/Dockerfile, built whole by podman and run as it will be; its base is a bare Debian instead of Docker Hub's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from edge_processes import wait_for
from mjpeg_server import MjpegServer
from mosquitto import free_port
from station_box import make_root

from edge.pictures import read_picture

BASE, IMAGE, NAME = "localhost/base", "localhost/oddkind-test", f"oddkind-test-{os.getpid()}"
# Without a timer of systemd's to ask for its health, and within limits that a root of few rights may set.
HERE = ["--no-healthcheck", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
# podman refuses to work with both kinds of control groups mounted, as some machines have them.
ONE_KIND = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


@dataclass(frozen=True)
class Podman:
    """podman with a store of its own."""

    folder: Path

    def try_(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        store = [
            "podman",
            "--root",
            self.folder / "root",
            "--runroot",
            self.folder / "run",
            "--cgroup-manager=cgroupfs",
        ]
        command = ["unshare", "-m", "sh", "-c", ONE_KIND, "sh", *store, *arguments]
        return subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)

    def call(self, *arguments: object) -> str:
        done = self.try_(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (Debian: apt install podman crun)")
    folder = tmp_path_factory.mktemp("podman")
    yield Podman(folder)
    Podman(folder).try_("rm", "-f", NAME)
    Podman(folder).try_("unmount", "--all")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image; the test is skipped where no base can be made."""
    root, checkout = tmp_path_factory.mktemp("base") / "root", Path(__file__).resolve().parents[2]
    make_root(root, "python3,python3-venv,python3-dev,ca-certificates")
    subprocess.run(["tar", "-C", root, "-cf", f"{root}.tar", "."], check=True)
    podman.call("import", f"{root}.tar", BASE)
    shutil.rmtree(root)
    trusted = os.environ.get("SSL_CERT_FILE")  # of a proxy that stands between us and the index
    volumes = ["-v", f"{trusted}:/etc/ssl/certs/ca-certificates.crt:ro"] if trusted else []
    how = ["--format", "docker", "--network", "host", "--isolation", "chroot", *volumes]
    podman.call("build", *how, "--build-arg", f"PYTHON_IMAGE={BASE}", "-f", "deploy/Dockerfile", "-t", IMAGE, checkout)
    return IMAGE


def test_the_image_says_how_it_is_to_be_run(podman: Podman, image: str) -> None:
    (facts,) = json.loads(podman.call("inspect", image))
    assert facts["User"] == "10001:10001"
    assert facts["Config"]["StopSignal"] in ("SIGTERM", "15")
    assert facts["Config"]["Entrypoint"] == ["oddkind"]
    assert facts["Healthcheck"]["Test"] == ["CMD", "oddkind", "station", "health", "/etc/oddkind/station.yaml"]
    asked = ["--entrypoint=sh", image, "-c", "command -v g++ || echo none"]
    assert podman.call("run", "--rm", *HERE, *asked) == "none"  # the compiler stayed behind


def test_a_station_in_it_is_healthy_and_stops(
    podman: Podman, image: str, bundle_dir: Path, good_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good_bgr = read_picture(min(good_dir.iterdir()))

    def render(number: int) -> np.ndarray:
        picture = good_bgr.copy()
        picture[:16, :16] = number * 10 % 250  # not frozen
        return picture

    camera = MjpegServer(render, fps=10)
    camera.start()
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 10001, 10001)
    (tmp_path / "station.yaml").write_text(
        f"bundle: /bundle\ncameras: [{{source: '{camera.url}', wait_for_camera: true}}]\n"
        f"outputs:\n  records: {{file: /var/lib/oddkind/results.jsonl}}\n  http: {{port: {free_port()}}}\n"
    )
    (tmp_path / "station.yaml").chmod(0o644)
    hard = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", *HERE]
    mounts = [
        f"{state}:/var/lib/oddkind",
        f"{bundle_dir}:/bundle:ro",
        f"{tmp_path}/station.yaml:/etc/oddkind/station.yaml:ro",
    ]
    try:
        volumes = [word for mount in mounts for word in ("-v", mount)]
        podman.call("run", "-d", "--name", NAME, *hard, *volumes, image)
        asked = ["exec", NAME, "oddkind", "station", "health", "/etc/oddkind/station.yaml"]
        wait_for(lambda: podman.try_(*asked).stdout == "ok\n", timeout_s=60)
        assert podman.try_("exec", NAME, "touch", "/opt/oddkind/new").returncode != 0
        assert podman.call("exec", NAME, "id", "-u") == "10001"
        camera.freeze()
        wait_for(lambda: podman.try_(*asked).returncode == 1, timeout_s=60)
        started_s = monotonic()
        podman.call("stop", "-t", "20", NAME)
        took_s = monotonic() - started_s
    finally:
        camera.stop()
        said = podman.try_("logs", NAME)
    assert podman.call("inspect", NAME, "--format", "{{.State.ExitCode}}") == "0", said.stderr
    assert took_s < 10
    assert (state / "results.jsonl").read_text().endswith("}\n")
    with capsys.disabled():
        print(f"\nstopped after {took_s:.1f} s; {said.stderr.strip().splitlines()[-1]}")
