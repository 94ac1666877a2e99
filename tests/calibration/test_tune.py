"""Choosing a recipe: the choice and the comparison on figures given by hand, and all of it once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from calibration.demo_line import render_good
from calibration.recipe import Recipe
from calibration.tune import (
    MIN_PICTURES,
    Trial,
    TrialResult,
    _Scores,
    candidates,
    choose,
    gain_and_error,
    separation,
    shares,
)
from edge.bundle import TUNING_FILE
from edge.errors import CalibrationError
from edge.manifest import BundleManifest, PackManifest, read_manifest
from edge.pictures import write_picture

DEFAULT = Recipe({"s8": 0.5, "s16": 1.0})


def result(name: str, gain: float, gain_error: float, frame_ms: float = 10.0) -> TrialResult:
    return TrialResult(Trial(name, Path("pack"), DEFAULT), 0.9 + gain, gain, gain_error, 0.5, frame_ms)


def scores(good: list[float], painted: list[float]) -> _Scores:
    return _Scores(np.array(good), np.array(painted), np.ones(len(painted), bool), 1.0)


def test_a_recipe_that_is_better_by_noise_alone_leaves_the_default() -> None:
    results = [result("default", 0, 0), result("lucky", 0.02, 0.011)]
    assert choose(results, None).chosen.trial.name == "default"


def test_a_recipe_that_is_surely_better_replaces_the_default() -> None:
    results = [result("default", 0, 0), result("good", 0.02, 0.009), result("worse", -0.1, 0.01)]
    assert choose(results, None).chosen.trial.name == "good"


def test_what_is_over_the_budget_is_not_chosen() -> None:
    results = [result("default", 0, 0, 9), result("slow", 0.05, 0.01, 11)]
    assert choose(results, 10).chosen.trial.name == "default"


def test_a_default_over_the_budget_gives_way_to_the_best_within_it() -> None:
    results = [result("default", 0, 0, 12), result("bad", -0.05, 0.01, 5), result("nearly", -0.01, 0.01, 8)]
    tuning = choose(results, 10)
    assert tuning.chosen.trial.name == "nearly"
    assert [tuning.is_affordable(r) for r in results] == [False, True, True]


def test_a_budget_that_nothing_meets_names_the_fastest() -> None:
    with pytest.raises(CalibrationError, match=r"the fastest recipe, 'quick', takes 5\.0 ms"):
        choose([result("default", 0, 0, 12), result("quick", -0.2, 0.01, 5)], 3)


def test_separation_is_the_chance_that_a_mark_scores_over_a_good_part() -> None:
    assert separation(np.array([1.0, 3.0]), np.array([2.0, 4.0])) == 0.75


def test_a_recipe_against_itself_gains_nothing_for_certain() -> None:
    same = scores([1, 2, 3], [2, 4])
    assert gain_and_error(same, same, 0) == (0.0, 0.0)


def test_a_gain_on_few_pictures_is_uncertain() -> None:
    better, worse = scores([1, 2, 3, 4], [5, 6, 7, 8]), scores([1, 2, 3, 4], [5, 6, 7, 0])
    gain, error = gain_and_error(better, worse, 0)
    assert gain == pytest.approx(0.25)
    assert 0.1 < error < 0.4  # of four painted pictures one decides: 0.25 +- about 0.22


def test_no_picture_has_two_uses() -> None:
    for count in (50, 77, 600, 5000):
        fit, statistics, judged = shares(count)
        assert fit.stop <= statistics.start and statistics.stop <= judged.start and judged.stop <= count
        assert min(s.stop - s.start for s in (fit, statistics, judged)) >= 10


def test_recipes_differ_from_the_default_in_one_choice_each(pack_dir: Path) -> None:
    default, *others = candidates(pack_dir, read_manifest(pack_dir, PackManifest).embedding)
    assert default.recipe == DEFAULT
    for trial in others:
        changed = [name for name, value in default.recipe.__dict__.items() if trial.recipe.__dict__[name] != value]
        assert len(changed) == 1, trial.name


def test_too_few_pictures_are_refused_before_any_work(good_dir: Path, pack_dir: Path, tmp_path: Path) -> None:
    run = run_oddkind("calibrate", str(good_dir), "--pack", str(pack_dir), "--tune", "--out", str(tmp_path / "b"))
    assert run.exit_code == 1
    assert f"tuning needs {MIN_PICTURES}" in run.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pack", "p", "--pack", "q"], "go with --tune"),
        (["--pack", "p", "--budget-ms", "5"], "go with --tune"),
        (["--pack", "p", "--tune", "--taps", "s8"], "leave --taps out"),
        (["--tune"], "--pack PACK is missing"),
        (["--add", "--tune"], "--tune cannot go with --add"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], says: str, tmp_path: Path) -> None:
    run = run_oddkind("calibrate", "good", "--out", str(tmp_path / "b"), *arguments)
    assert run.exit_code == 2
    assert says in run.stderr


def test_a_tuned_bundle_says_what_was_tried_and_keeps_to_it(
    tmp_path: Path, pack_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.tune.PSEUDO_CLASSES", 12)
    monkeypatch.setattr("calibration.tune.PER_CLASS", 1)
    monkeypatch.setattr("calibration.tune.SMOOTHINGS_PATCHES", ())
    for index in range(MIN_PICTURES):
        write_picture(tmp_path / "good" / f"{index:03d}.png", render_good(index))
    arguments = ["--pack", str(pack_dir), "--out", str(tmp_path / "b"), "--bank-rows", "100", "--tune"]

    run = run_oddkind("calibrate", str(tmp_path / "good"), *arguments)

    assert run.exit_code == 0, run.output
    assert "chosen" in run.stderr
    tuning = json.loads((tmp_path / "b" / TUNING_FILE).read_text())
    assert [t["name"] for t in tuning["trials"]][:2] == ["default", "taps alike"]
    (chosen,) = (t for t in tuning["trials"] if t["name"] == tuning["chosen"])
    manifest = read_manifest(tmp_path / "b", BundleManifest)
    assert manifest.memory_bank.tap_weights == chosen["recipe"]["tap_weights"]
    assert manifest.score.model_dump() == chosen["recipe"]["score"]
