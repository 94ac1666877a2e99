"""A real Dask cluster on this machine: the rows of one box, whoever is killed half-way."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MANY, run_oddkind
from edge_processes import children_of, kill, parent_of, wait_for, workers_of

from edge import cluster
from edge.pool import ThisProcess
from edge.score import ScoreOptions
from edge.score_shards import score_shards
from edge.setting import InspectorSetting
from edge.shard_task import SHARDS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("results.jsonl", "results.csv", "results.parquet")
END_S = 60


class Dask:
    """A scheduler and two workers as an administrator would start them, all processes of their own."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")
        wait_for(self._file.exists)
        self.address: str = json.loads(self._file.read_text())["address"]
        self.worker = self._start("worker", "--nworkers", "2", "--nthreads", "1", "--no-dashboard")

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "dask", what, *options, "--scheduler-file", str(self._file)]
        return subprocess.Popen(arguments, cwd=self._file.parent, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        for process in (self.worker, self.scheduler):
            children = children_of(process.pid)
            process.terminate()
            process.wait(END_S)
            for pid in children:
                if parent_of(pid) is not None:
                    kill(pid)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where workers unpack bundles."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ODDKIND_CACHE", str(folder))
        yield folder


@pytest.fixture
def dask(tmp_path: Path, cache: Path) -> Iterator[Dask]:
    running = Dask(tmp_path)
    yield running
    running.stop()


class Score:
    """`oddkind score` of `many` into `out`, in a process of its own."""

    def __init__(self, bundle: Path, many: Path, out: Path, *options: str) -> None:
        self.out = out
        line = ["score", str(bundle), str(many), "--out", str(out), "--parquet", "--json", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", *line],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finished_shards(self) -> int:
        folder = self.out / SHARDS
        return len(list(folder.glob("*.jsonl"))) if folder.is_dir() else 0

    def until_half_way(self) -> None:
        """Some shards are finished, others are not: else what follows would show nothing."""
        wait_for(lambda: self.finished_shards() >= 2 or self.process.poll() is not None)
        shards = json.loads((self.out / "plan.json").read_text())["shards"]
        assert 2 <= self.finished_shards() < len(shards) - 2

    def end(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=END_S)
        return self.process.returncode, stdout, stderr

    def summary(self) -> Any:
        code, stdout, stderr = self.end()
        assert code == 1, stderr  # for the broken picture
        return json.loads(stdout)


def differing(out: Path, one_core: Path) -> list[str]:
    """Names of results that are not those of one process, byte for byte."""
    return [name for name in RESULTS if (out / name).read_bytes() != (one_core / name).read_bytes()]


def test_a_local_cluster_whose_worker_is_killed_half_way_ends_with_the_rows_of_one_box(
    bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    run = Score(bundle_dir, many, tmp_path / "out", "--dask-workers", "2")
    run.until_half_way()
    workers = workers_of(run.process.pid)
    assert len(workers) == 2
    kill(workers[0])
    summary = run.summary()
    assert (summary["pictures"], summary["scored_now"], summary["no_verdict"]) == (MANY + 1, MANY + 1, 1)
    assert differing(tmp_path / "out", one_core) == []


def test_a_local_cluster_that_is_killed_whole_leaves_nobody_and_goes_on_when_started_again(
    bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    run = Score(bundle_dir, many, tmp_path / "out", "--dask-workers", "2")
    run.until_half_way()
    workers = workers_of(run.process.pid)
    kill(run.process.pid)  # the client, and the scheduler within it
    run.process.communicate()
    wait_for(lambda: all(parent_of(pid) is None for pid in workers))
    assert not (tmp_path / "out" / "results.jsonl").exists()
    again = Score(bundle_dir, many, tmp_path / "out", "--dask-workers", "2").summary()
    assert 0 < again["scored_now"] < MANY
    assert differing(tmp_path / "out", one_core) == []


def test_a_running_cluster_gets_the_bundle_and_outlives_its_client(
    dask: Dask, cache: Path, bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    run = Score(bundle_dir, many, tmp_path / "out", "--scheduler", dask.address)
    run.until_half_way()
    kill(run.process.pid)
    run.process.communicate()
    again = Score(bundle_dir, many, tmp_path / "out", "--scheduler", dask.address).summary()
    assert 0 < again["scored_now"] < MANY and again["jobs"] == 2
    assert differing(tmp_path / "out", one_core) == []
    assert len(list((tmp_path / "out" / "bundles").iterdir())) == 1
    assert any(path.is_dir() and (path / "manifest.json").is_file() for path in cache.iterdir())


def test_a_scheduler_that_is_killed_is_one_line_and_any_other_way_goes_on(
    dask: Dask, bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    run = Score(bundle_dir, many, tmp_path / "out", "--scheduler", dask.address)
    run.until_half_way()
    kill(dask.scheduler.pid)
    code, stdout, stderr = run.end()
    assert (code, stdout, stderr.count("\n")) == (1, "", 1), stderr
    assert stderr.startswith("oddkind: ") and "finished shards are kept: give the same command again" in stderr
    assert "the scheduler was lost" in stderr
    finished = run.finished_shards()
    setting, options = InspectorSetting(bundle_dir), ScoreOptions(parquet=True)
    again = score_shards(setting, str(many), str(tmp_path / "out"), ThisProcess(), options)
    assert finished >= 2 and 0 < again.scored_now < MANY
    assert differing(tmp_path / "out", one_core) == []


def test_a_scheduler_without_workers_says_how_to_start_some(
    monkeypatch: pytest.MonkeyPatch, bundle_dir: Path, many: Path, tmp_path: Path
) -> None:
    import distributed

    monkeypatch.setattr(cluster, "FIRST_WORKER_TIMEOUT_S", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty:
        done = run_oddkind(
            "score", str(bundle_dir), str(many), "--out", str(tmp_path / "out"), "--scheduler", empty.scheduler_address
        )
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"has no workers after 0.5 s; start some with 'dask worker {empty.scheduler_address}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_somebody_else_at_the_address_is_no_scheduler(
    monkeypatch: pytest.MonkeyPatch, bundle_dir: Path, many: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes calls and says nothing
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        done = run_oddkind("score", str(bundle_dir), str(many), "--out", str(tmp_path / "out"), "--scheduler", address)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"no Dask scheduler at {address} within 0.5 s" in done.stderr
