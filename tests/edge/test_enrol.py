"""`oddkind enrol` and `oddkind classes` on rendered parts, as a person at the device uses them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest import run_oddkind

from edge.inspector import Inspector
from edge.pictures import read_picture


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle of its own for each test."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def kinds(bundle_dir: Path, defects_dir: Path) -> list[list[Path]]:
    """Pictures of two kinds, two each or more, all of which the bundle finds odd."""
    inspector = Inspector.load(bundle_dir)

    def is_odd(path: Path) -> bool:
        return inspector.detect(read_picture(path)).anomaly_score > inspector.image_threshold

    found = [[p for p in sorted(folder.iterdir()) if is_odd(p)] for folder in sorted(defects_dir.iterdir())]
    enough = [paths for paths in found if len(paths) >= 2]
    assert len(enough) >= 2, "the bundle misses nearly every rendered defect"
    return enough


def enrol(bundle: Path, name: str, *arguments: object) -> Result:
    return run_oddkind("enrol", str(bundle), name, *(str(a) for a in arguments))


def enrolled(bundle: Path) -> dict[str, int]:
    listed: dict[str, int] = json.loads(run_oddkind("classes", "list", str(bundle), "--json").stdout)
    return listed


def assert_refused(result: Result, says: str) -> None:
    assert result.exit_code in (1, 2)
    assert re.search(says, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1


def test_two_pictures_make_a_class_and_its_quality_is_printed(bundle: Path, kinds: list[list[Path]]) -> None:
    result = enrol(bundle, "scratch", *kinds[0][:2])

    assert result.exit_code == 0, result.output
    assert "enrolled 2 picture(s) as 'scratch', 2 in all" in result.stdout
    assert result.stdout.count("own class 0.") + result.stdout.count("own class 1.") == 2
    assert "leave-one-out" in result.stdout
    assert enrolled(bundle) == {"scratch": 2}


def test_one_picture_is_enrolled_and_said_to_be_unchecked(bundle: Path, kinds: list[list[Path]]) -> None:
    result = enrol(bundle, "scratch", kinds[0][0])

    assert result.exit_code == 0
    assert "only support" in result.stdout
    assert "enrol a second picture" in result.stdout


def test_a_second_class_is_compared_with_the_first(bundle: Path, kinds: list[list[Path]]) -> None:
    enrol(bundle, "scratch", *kinds[0][:2])
    result = enrol(bundle, "other", *kinds[1][:2], "--json")

    quality = json.loads(result.stdout)
    assert quality["defect_class"] == "other"
    assert [s["nearest_other"] for s in quality["supports"]] == ["scratch", "scratch"]
    own_scores = [s["own_score"] for s in quality["supports"]]
    assert own_scores == sorted(own_scores)  # the weakest first
    assert all(0 <= s["own_score"] <= 1 and 0 <= s["other_score"] <= 1 for s in quality["supports"])
    assert quality["confused"] == sum(s["other_score"] >= s["own_score"] for s in quality["supports"])


def test_pictures_of_two_kinds_in_one_class_are_called_confused(bundle: Path, kinds: list[list[Path]]) -> None:
    enrol(bundle, "scratch", kinds[0][0])

    result = enrol(bundle, "other", kinds[1][0], kinds[0][1])

    assert result.exit_code == 0
    assert re.search(rf"{kinds[0][1]}: own class .* <- confused", result.stdout)
    assert "fit another class better" in result.stdout


def test_a_box_for_two_pictures_is_refused(bundle: Path, kinds: list[list[Path]]) -> None:
    result = enrol(bundle, "scratch", *kinds[0][:2], "--box", "0,0,10,10")

    assert_refused(result, "--box belongs to one picture, 2 were given")


def test_show_names_each_support_with_box_score_and_time(bundle: Path, kinds: list[list[Path]]) -> None:
    enrol(bundle, "scratch", *kinds[0][:2])

    shown = json.loads(run_oddkind("classes", "show", str(bundle), "scratch", "--json").stdout)
    text = run_oddkind("classes", "show", str(bundle), "scratch").stdout

    assert [s["source"] for s in shown["enrolled"]] == [str(p) for p in kinds[0][:2]]
    threshold = Inspector.load(bundle).image_threshold
    for support in shown["enrolled"]:
        x0, y0, x1, y1 = support["box_xyxy"]
        assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 320
        assert support["anomaly_score"] > threshold
        assert f"box {x0},{y0},{x1},{y1}" in text


def test_rename_and_remove(bundle: Path, kinds: list[list[Path]]) -> None:
    enrol(bundle, "scratch", *kinds[0][:2])
    enrol(bundle, "other", kinds[1][0])

    assert run_oddkind("classes", "rename", str(bundle), "scratch", "deep scratch").exit_code == 0
    assert enrolled(bundle) == {"deep scratch": 2, "other": 1}
    assert run_oddkind("classes", "remove", str(bundle), "other").exit_code == 0
    assert enrolled(bundle) == {"deep scratch": 2}
    assert_refused(run_oddkind("classes", "remove", str(bundle), "other"), "enrolled: deep scratch")
    assert_refused(run_oddkind("classes", "rename", str(bundle), "nothing", "x"), "no class 'nothing'")
    assert_refused(run_oddkind("classes", "rename", str(bundle), "deep scratch", "unknown"), "class name 'unknown'")
    assert enrolled(bundle) == {"deep scratch": 2}


def test_an_empty_store_says_how_to_start(bundle: Path) -> None:
    assert "start with 'oddkind enrol" in run_oddkind("classes", "list", str(bundle)).stdout


def test_a_good_picture_is_refused_with_score_and_threshold(bundle: Path, good_dir: Path) -> None:
    inspector = Inspector.load(bundle)
    picture = min(good_dir.iterdir(), key=lambda p: inspector.detect(read_picture(p)).anomaly_score)
    score = inspector.detect(read_picture(picture)).anomaly_score

    result = enrol(bundle, "scratch", picture)

    assert_refused(result, re.escape(f"anomaly score {score:.3f} <= threshold {inspector.image_threshold:.3f}"))
    assert enrolled(bundle) == {}
    assert enrol(bundle, "scratch", picture, "--force").exit_code == 0
    assert enrolled(bundle) == {"scratch": 1}


def test_one_bad_picture_among_good_ones_enrols_none(bundle: Path, kinds: list[list[Path]], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")

    result = enrol(bundle, "scratch", kinds[0][0], tmp_path / "text.png")

    assert_refused(result, "text.png")
    assert enrolled(bundle) == {}


def test_a_box_is_kept_as_it_was_drawn(bundle: Path, kinds: list[list[Path]]) -> None:
    assert enrol(bundle, "scratch", kinds[0][0], "--box", "40,50,60,70").exit_code == 0

    shown = json.loads(run_oddkind("classes", "show", str(bundle), "scratch", "--json").stdout)
    assert shown["enrolled"][0]["box_xyxy"] == [40, 50, 100, 120]


@pytest.mark.parametrize("box", ["0,0,0,5", "-1,0,5,5", "0,0,321,5", "310,310,20,5", "1,2,3", "a,b,c,d", "1.5,0,5,5"])
def test_a_box_that_is_no_box_in_the_picture_is_refused(bundle: Path, kinds: list[list[Path]], box: str) -> None:
    assert_refused(enrol(bundle, "scratch", kinds[0][0], f"--box={box}"), "expected")
    assert enrolled(bundle) == {}


def test_the_same_picture_twice_is_refused_and_named(bundle: Path, kinds: list[list[Path]], tmp_path: Path) -> None:
    enrol(bundle, "scratch", kinds[0][0])
    copy = Path(shutil.copy(kinds[0][0], tmp_path / "another name.png"))

    assert_refused(enrol(bundle, "other", copy), "another name.png is already a support of 'scratch'")
    assert enrolled(bundle) == {"scratch": 1}


@pytest.mark.parametrize("name", ["good", "unknown", "a/b", ""])
def test_a_name_that_means_something_else_is_refused(bundle: Path, kinds: list[list[Path]], name: str) -> None:
    assert_refused(enrol(bundle, name, kinds[0][0]), "class name")


def test_a_broken_store_is_refused_and_left_for_a_person_to_save(bundle: Path, kinds: list[list[Path]]) -> None:
    (bundle / "classes.npz").write_bytes(b"half a store")

    assert_refused(enrol(bundle, "scratch", kinds[0][0]), "not a readable class store")
    assert (bundle / "classes.npz").read_bytes() == b"half a store"


def test_classes_may_lie_outside_the_bundle(bundle: Path, kinds: list[list[Path]], tmp_path: Path) -> None:
    aside = tmp_path / "line 3.npz"

    assert enrol(bundle, "scratch", kinds[0][0], "--classes", aside).exit_code == 0

    assert aside.is_file()
    assert enrolled(bundle) == {}
    assert json.loads(run_oddkind("classes", "list", str(bundle), "--classes", str(aside), "--json").stdout) == {
        "scratch": 1
    }


def test_enrolling_changes_no_other_file_of_the_bundle(bundle: Path, bundle_dir: Path, kinds: list[list[Path]]) -> None:
    enrol(bundle, "scratch", *kinds[0][:2])

    for path in bundle_dir.iterdir():
        assert (bundle / path.name).read_bytes() == path.read_bytes()
    with np.load(bundle / "classes.npz", allow_pickle=False) as stored:
        assert stored["descriptors"].shape[0] == 2
