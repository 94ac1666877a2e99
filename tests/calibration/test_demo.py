"""`oddkind demo`, run for real with a pack made once: the commands it shows are the commands it runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from conftest import run_oddkind

from calibration.demo_line import KINDS


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path) -> tuple[Path, str]:
    """The folder and the output of a quick demo on the rendered line."""
    out = tmp_path_factory.mktemp("rendered") / "demo"
    result = run_oddkind("demo", "--out", str(out), "--pack", str(pack_dir), "--quick")
    assert result.exit_code == 0, result.output
    return out, result.stdout


def test_it_shows_the_commands_a_user_would_type(rendered: tuple[Path, str]) -> None:
    out, output = rendered
    shown = [line.split()[2] for line in output.splitlines() if line.startswith("$ oddkind ")]
    assert shown == ["calibrate", *["enrol"] * len(KINDS), "run", "score", "evaluate"]
    assert f"$ oddkind score {out}/bundle {out}/unseen --out {out}/results --heatmaps --report" in output
    assert f"{out}/results/report.html" in output


def test_every_unseen_picture_and_every_frame_has_a_record(rendered: tuple[Path, str]) -> None:
    out, _ = rendered
    scored = [json.loads(line) for line in (out / "results" / "results.jsonl").read_text().splitlines()]
    # 4 of each kind less 2 enrolled, and 4 good ones held out
    assert len(scored) == 2 * len(KINDS) + 4
    frames = [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()]
    assert [frame["frame_id"] for frame in frames] == list(range(12))
    assert (out / "results" / "report.html").stat().st_size > 10_000


def test_its_figures_are_those_of_the_records(rendered: tuple[Path, str]) -> None:
    out, output = rendered
    figures = json.loads((out / "demo.json").read_text())
    records = [json.loads(line) for line in (out / "results" / "results.jsonl").read_text().splitlines()]
    rejected = sum(record["verdict"] == "defect" and not record["path"].startswith("good/") for record in records)
    assert sum(kind["rejected"] for kind in figures["kinds"] if kind["kind"] != "good") == rejected
    assert f"{rejected} of {2 * len(KINDS)} bad parts were rejected" in output


def test_most_bad_parts_are_rejected_and_most_good_ones_pass(rendered: tuple[Path, str]) -> None:
    figures = json.loads((rendered[0] / "demo.json").read_text())
    kinds = {kind["kind"]: kind for kind in figures["kinds"]}
    good = kinds.pop("good")
    assert sum(kind["rejected"] for kind in kinds.values()) >= 8  # of 10
    assert good["passed"] >= 2  # of 4, the threshold rests on 16 pictures
    assert sum(kind["named_right"] for kind in kinds.values()) >= 4  # of 10, chance 2


def test_it_runs_on_the_users_own_folders_twice(
    tmp_path: Path, pack_dir: Path, good_dir: Path, defects_dir: Path
) -> None:
    mine = sorted(path for folder in (good_dir, defects_dir) for path in folder.rglob("*"))
    words = ["--out", str(tmp_path / "demo"), "--pack", str(pack_dir), "--quick"]
    first = run_oddkind("demo", *words, "--good", str(good_dir), "--defects", str(defects_dir))
    assert first.exit_code == 0, first.output
    assert f"# Your pictures: good from {good_dir}, defects from {defects_dir}" in first.stdout
    again = run_oddkind("demo", *words, "--good", str(good_dir), "--defects", str(defects_dir))
    assert again.exit_code == 0, again.output
    assert "holds an earlier demo; it is made anew" in again.stdout
    # one of three pictures of each kind is left, and every fifth of 24 good ones
    assert len((tmp_path / "demo/results/results.jsonl").read_text().splitlines()) == len(KINDS) + 5
    assert sorted(path for folder in (good_dir, defects_dir) for path in folder.rglob("*")) == mine


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--good", "somewhere"], "--good and --defects belong together"),
        (["--good", "nowhere", "--defects", "nowhere"], "--good nowhere: no such folder"),
        (["--good", ".", "--defects", "."], "lies in the pictures at ."),
        (["--pack", "nowhere"], "nowhere is not a pack"),
    ],
)
def test_what_cannot_run_ends_with_one_line_and_leaves_an_earlier_demo(
    tmp_path: Path, pack_dir: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "results").mkdir(parents=True)
    (tmp_path / "demo" / "demo.json").write_text("{}")
    result = run_oddkind("demo", "--pack", str(pack_dir), *words)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert (tmp_path / "demo" / "results").is_dir()


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    result = run_oddkind("demo", "--out", str(tmp_path / "demo"))
    assert result.exit_code == 2
    assert "pip install 'oddkind[train]'" in result.stderr
    assert not (tmp_path / "demo").exists()
