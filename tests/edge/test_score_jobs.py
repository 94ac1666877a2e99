"""Scoring in several processes gives the very bytes of one; scoring again since last looks at new files only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import MANY, run_oddkind
from edge_processes import kill, wait_for, workers_of

from edge import score
from edge.inspector import Inspector
from edge.score import ScoreOptions, score_folder
from edge.setting import InspectorSetting

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "score", *map(str, arguments)]


def files_of(out: Path) -> dict[str, bytes]:
    names = [p for p in out.rglob("*") if p.is_file() and p.name not in ("run.json", ".lock", "report.html")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


def test_two_processes_write_the_bytes_of_one(bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path) -> None:
    options = ScoreOptions(report=True, parquet=True, jobs=2)
    summary = score_folder(InspectorSetting(bundle_dir), many, tmp_path / "out", options)

    assert summary.timing and summary.timing["jobs"] == 2
    assert summary.scored_now == MANY + 1 and summary.errors == 1
    two, one = files_of(tmp_path / "out"), files_of(one_core)
    assert sorted(two) == sorted(one)
    assert [name for name in one if one[name] != two[name]] == []
    assert any(name.startswith("heatmaps/") for name in one)


def test_a_small_folder_pays_for_no_process(bundle_dir: Path, many: Path, tmp_path: Path) -> None:
    summary = score_folder(InspectorSetting(bundle_dir), many / "lot 0", tmp_path / "out", ScoreOptions(jobs=2))
    assert len(list((many / "lot 0").iterdir())) < 2 * score.PAYS_FROM_PER_JOB
    assert summary.timing and summary.timing["jobs"] == 1
    assert summary.timing["pictures_per_s"] > 0
    assert set(summary.timing["stage_p50_ms"]) >= {"read", "backbone", "memory_bank"}


def test_a_worker_that_is_killed_costs_one_line_and_the_same_command_goes_on(
    bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = command(bundle_dir, many, "--out", out, "--jobs", 2)
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    rows = out / "results.jsonl"
    wait_for(lambda: (rows.exists() and rows.stat().st_size > 5000) or process.poll() is not None)
    kill(workers_of(process.pid)[0])
    stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (1, ""), stderr
    assert stderr.startswith("oddkind: a worker process died") and stderr.count("\n") == 1
    kept = rows.read_bytes()
    assert kept and (one_core / "results.jsonl").read_bytes().startswith(kept)

    again = subprocess.run([*arguments, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 1, again.stderr  # for the broken picture
    assert json.loads(again.stdout)["scored_now"] == MANY + 1 - kept.count(b"\n")
    assert rows.read_bytes() == (one_core / "results.jsonl").read_bytes()


def test_a_command_that_is_killed_lets_go_of_its_results(
    bundle_dir: Path, many: Path, one_core: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = command(bundle_dir, many, "--out", out, "--jobs", 2)
    process = subprocess.Popen(arguments, cwd=ROOT)
    rows = out / "results.jsonl"
    wait_for(lambda: rows.exists() and rows.stat().st_size > 5000)
    kill(process.pid)
    process.wait()
    subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert rows.read_bytes() == (one_core / "results.jsonl").read_bytes()


def test_a_bundle_that_cannot_be_loaded_in_a_worker_is_its_own_error(
    bundle_dir: Path, many: Path, tmp_path: Path
) -> None:
    classes = tmp_path / "classes.npz"
    classes.write_text("no classes")
    done = run_oddkind(
        "score", str(bundle_dir), str(many), "--out", str(tmp_path / "out"), "--jobs", "2", "--classes", str(classes)
    )
    assert done.exit_code == 1
    assert done.stderr.startswith(f"oddkind: {classes}") and done.stderr.count("\n") == 1


class Night:
    """A growing folder that is scored every night with --since-last."""

    def __init__(self, bundle: Path, folder: Path, good: list[Path]) -> None:
        self.bundle, self.pictures, self.out, self.good = bundle, folder / "line", folder / "results", good
        self.pictures.mkdir()

    def take(self, *names: str, picture: int = 0) -> None:
        for name in names:
            shutil.copy(self.good[picture], self.pictures / name)

    def score(self, *options: str, code: int = 0) -> Any:
        arguments = [str(self.bundle), str(self.pictures), "--out", str(self.out), "--json", *options]
        done = run_oddkind("score", *arguments)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if code < 2 else done.stderr

    def rows(self) -> list[str]:
        return [json.loads(line)["path"] for line in (self.out / "results.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def night(tmp_path: Path, bundle_dir: Path, good_dir: Path) -> Night:
    return Night(bundle_dir, tmp_path, sorted(good_dir.rglob("*.png")))


def test_since_last_scores_what_is_new_and_speaks_of_nothing_else(night: Night) -> None:
    night.take("a.png", "b.png")
    (night.pictures / "broken.png").write_text("x")
    assert night.score("--since-last", code=1)["pictures"] == 3
    night.take("0 sorts first.png")

    tonight = night.score("--since-last", "--report")

    assert (tonight["pictures"], tonight["scored_now"], tonight["no_verdict"]) == (1, 1, 0)
    assert night.rows() == ["a.png", "b.png", "broken.png", "0 sorts first.png"]
    assert len((night.out / "results.csv").read_text("utf-8").splitlines()) == 5
    assert "broken.png" not in (night.out / "report.html").read_text("utf-8")
    assert night.score("--since-last")["pictures"] == 0


def test_since_last_keeps_rows_of_pictures_moved_away_and_takes_a_reused_name(night: Night) -> None:
    night.take("a.png", "b.png")
    night.score("--since-last")
    for path in night.pictures.iterdir():
        path.unlink()
    assert night.score("--since-last")["pictures"] == 0  # an empty folder is a night without parts
    night.take("a.png", picture=1)
    os.utime(night.pictures / "a.png", (1_000_000_000, 1_000_000_000))

    assert night.score("--since-last")["scored_now"] == 1
    assert night.rows() == ["a.png", "b.png", "a.png"]
    assert night.score("--since-last")["scored_now"] == 0
    assert night.score()["scored_now"] == 0  # without it: the newest row of a name is the one that counts


def test_since_last_does_not_open_old_pictures(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.take("a.png", "b.png")
    night.score("--since-last")
    night.take("c.png")
    opened: list[str] = []
    real = Inspector.examine

    def examine(self: Inspector, frame: Any, provenance: Any, always_type: bool = False) -> Any:
        opened.append(provenance.path)
        return real(self, frame, provenance, always_type)

    monkeypatch.setattr(Inspector, "examine", examine)
    night.score("--since-last")
    assert opened == ["c.png"]


def test_since_last_goes_on_after_classes_changed_and_says_so_in_run_json(night: Night, tmp_path: Path) -> None:
    night.bundle = Path(shutil.copytree(night.bundle, tmp_path / "bundle"))
    night.take("a.png")
    night.score("--since-last")
    size = (night.out / "results.jsonl").stat().st_size
    done = run_oddkind("enrol", str(night.bundle), "dent", str(night.good[2]), "--box", "40,40,60,60", "--force")
    assert done.exit_code == 0, done.output
    night.take("b.png")

    assert "another classes_sha256" in night.score(code=2)
    assert night.score("--since-last")["scored_now"] == 1

    run = json.loads((night.out / "run.json").read_text())
    assert run["earlier_facts"][0]["until_byte"] == size
    assert run["earlier_facts"][0]["classes_sha256"] is None
    night.pictures = night.pictures.rename(tmp_path / "another line")
    assert "another folder" in night.score("--since-last", code=2)
