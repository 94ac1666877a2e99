"""`oddkind calibrate --add`: more good pictures for a bundle, on rendered parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest import run_oddkind

from calibration.add_good import MAX_GROWTH, add_good, uncovered
from calibration.demo_line import render_defect, render_good
from edge.anomaly import PlaceStatistics
from edge.bundle import Bundle
from edge.inspector import Inspector
from edge.manifest import BundleManifest, read_manifest
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from edge.pictures import FrameBgr, read_picture, write_picture
from edge.registry import load_stage

# Three good patches on a line, at 0, 10 and 20; each place of a 1 x 4 grid shows distances of 1 +- 1.
LINE = MemoryBank(
    MemoryBankArrays(
        vectors=np.array([[0], [10], [20]], np.float32),
        feature_mean=np.zeros(1, np.float32),
        feature_std=np.ones(1, np.float32),
        source_index=np.zeros(3, np.int64),
        patch_yx=np.zeros((3, 2), np.int64),
    ),
    SearchColumns.alike(np.array([0])),
)
PLACES = PlaceStatistics(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))  # covered up to 1 + 2 * 1 = 3


def chosen(*points: float, room: int = 9, places: PlaceStatistics = PLACES) -> tuple[list[int], bool]:
    patches, left = uncovered(LINE, np.array(points, np.float32)[:, np.newaxis], places, room)
    return patches.tolist(), left


def test_patches_near_a_row_are_covered_and_those_beyond_are_added() -> None:
    assert chosen(0, 12.9, 17.1, 23) == ([], False)
    assert chosen(0, 14, 17.1, 23.5) == ([1, 3], False)


def test_the_farthest_goes_first_and_covers_its_neighbours() -> None:
    assert chosen(30, 32, 34, 40) == ([3, 0, 2], False)  # 20 away, then 10, then 34 is still 4 from 30
    assert chosen(30, 32, 33, 40) == ([3, 0], False)


def test_what_is_usual_at_a_place_decides_there() -> None:
    loose = PlaceStatistics(PLACES.mean, np.array([[1, 1, 1, 9]], np.float32))

    assert chosen(25, 0, 0, 35, places=loose) == ([0], False)  # 15 <= 1 + 2 * 9


def test_a_full_bank_stops_and_says_so() -> None:
    assert chosen(30, 50, 70, 90, room=2) == ([3, 1], True)
    assert chosen(30, 50, 70, 90, room=4) == ([3, 1, 2, 0], False)


# From here on rendered parts: the bundle never saw a part whose brushed steel is bluish.


def bluish(frame_bgr: FrameBgr, tint: float = 0.12) -> FrameBgr:
    return np.asarray(np.clip(frame_bgr * np.array([1 + tint, 1, 1 - tint]), 0, 255), dtype=np.uint8)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good parts of the new steel."""
    folder = tmp_path_factory.mktemp("more")
    for number in range(4):
        write_picture(folder / f"blue-{number}.png", bluish(render_good(500 + number)))
    return folder


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def grown(bundle_dir: Path, more: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The bundle with them added, and what the command said; a class was enrolled and a defect taught before."""
    out = Path(shutil.copytree(bundle_dir, tmp_path_factory.mktemp("grown") / "bundle"))
    for number in range(2):
        write_picture(out.parent / f"chip-{number}.png", render_defect("chip", number)[0])
    chips = [str(out.parent / f"chip-{number}.png") for number in range(2)]
    assert run_oddkind("enrol", str(out), "chip", *chips).exit_code == 0
    result = run_oddkind("calibrate", "--add", str(more), "--out", str(out), "--even-far")
    assert result.exit_code == 0, result.output
    return out, result


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


def scores(bundle: Path, frames: list[FrameBgr]) -> list[float]:
    inspector = Inspector.load(bundle)
    return [inspector.detect(frame_bgr).anomaly_score for frame_bgr in frames]


def test_parts_like_the_added_ones_score_lower_and_defects_are_still_rejected(
    bundle_dir: Path, grown: tuple[Path, Result]
) -> None:
    unseen = [bluish(render_good(600 + number)) for number in range(4)]
    defects = [bluish(render_defect(kind, 7)[0]) for kind in ("chip", "stain", "scratch")]

    before, after = scores(bundle_dir, unseen), scores(grown[0], unseen)

    assert all(a < b for a, b in zip(after, before, strict=True))
    assert min(scores(grown[0], defects)) > Inspector.load(grown[0]).image_threshold


def test_the_command_says_what_it_did_before_and_after(
    bundle_dir: Path, more: Path, grown: tuple[Path, Result]
) -> None:
    out, result = grown
    limit = Inspector.load(bundle_dir).image_threshold
    pictures = [read_picture(path) for path in sorted(more.iterdir())]
    before, after = (sum(s > limit for s in scores(folder, pictures)) for folder in (bundle_dir, out))
    rows = [read_manifest(folder, BundleManifest).memory_bank.rows for folder in (bundle_dir, out)]

    assert before > after
    assert f"rejected    {before} of the added before, {after} now" in result.stdout
    assert f"bank        {rows[0]} rows before, {rows[1]} now" in result.stdout
    assert f"threshold   {limit:.4f}, as before" in result.stdout
    assert "4 added, 0 known already, 0 left out" in result.stdout


def test_all_but_bank_index_and_provenance_stays_as_it_was(bundle_dir: Path, grown: tuple[Path, Result]) -> None:
    before, after = contents(bundle_dir), contents(grown[0])
    changed = {name for name in before if before[name] != after[name]}

    searches = {"memory_bank.hnsw", "memory_bank_axes.npy"}
    assert changed == {"manifest.json", "memory_bank.npz", "provenance.json", *searches}
    old, new = (read_manifest(folder, BundleManifest) for folder in (bundle_dir, grown[0]))
    assert new.bundle_id != old.bundle_id
    assert new.thresholds == old.thresholds
    assert new.good_pictures == old.good_pictures + 4


def test_old_rows_are_all_there_and_new_ones_name_their_picture(bundle_dir: Path, grown: tuple[Path, Result]) -> None:
    old, new = (Bundle.open(folder).load_memory_bank().arrays for folder in (bundle_dir, grown[0]))
    sources = json.loads((grown[0] / "provenance.json").read_text())["sources"]

    np.testing.assert_array_equal(new.vectors[: len(old.vectors)], old.vectors)
    named = {sources[number] for number in new.source_index[len(old.vectors) :].tolist()}
    assert named
    assert named <= {f"blue-{number}.png" for number in range(4)}
    assert len(new.vectors) <= (1 + MAX_GROWTH) * len(old.vectors)


def test_the_index_finds_the_new_rows_too(grown: tuple[Path, Result], more: Path) -> None:
    bundle = Bundle.open(grown[0])
    facts = bundle.manifest.memory_bank
    assert facts.index is not None
    assert facts.index.recall_good >= 0.99
    searched = bundle.manifest.model_copy(update={"memory_bank": facts.model_copy(update={"search": "hnsw"})})
    hnsw, exact = Bundle(bundle.folder, searched).load_memory_bank(), bundle.load_memory_bank()
    found = hnsw.nearest(exact.arrays.vectors)[1]
    assert np.mean(found == np.arange(facts.rows)) >= 0.99


def test_enrolled_classes_go_with_the_bundle(grown: tuple[Path, Result]) -> None:
    listed = run_oddkind("classes", "list", str(grown[0]), "--json")
    assert json.loads(listed.stdout) == {"chip": 2}
    inspector = Inspector.load(grown[0])
    assert inspector.classifier.names == ["chip"]


def test_taught_defects_go_with_the_bundle(bundle: Path, more: Path) -> None:
    inspector = Inspector.load(bundle)
    place = bundle.parent / "missed.png"
    write_picture(place, render_good(1000))
    enrolled = run_oddkind("enrol", str(bundle), "faint", str(place), "--force")
    assert "taught: now" in enrolled.stdout, enrolled.output
    taught = Inspector.load(bundle).taught

    add_good([more], bundle, load_stage("index_bank"), even_far=True)

    after = Inspector.load(bundle)
    assert after.manifest.bundle_id != inspector.manifest.bundle_id
    np.testing.assert_array_equal(after.taught.vectors, taught.vectors)
    assert after.detect(read_picture(place)).anomaly_score > after.image_threshold


def test_the_same_pictures_again_change_nothing(grown: tuple[Path, Result], more: Path, tmp_path: Path) -> None:
    before = contents(grown[0])
    copy = tmp_path / "another name.png"
    shutil.copy(sorted(more.iterdir())[0], copy)

    result = run_oddkind("calibrate", "--add", str(more), str(copy), "--out", str(grown[0]), "--even-far")

    assert result.exit_code == 0, result.output
    assert "unchanged" in result.stdout
    assert "0 added, 4 known already" in result.stdout
    assert contents(grown[0]) == before


def test_an_obvious_defect_is_left_out_named_and_added_only_when_asked_for(bundle: Path, tmp_path: Path) -> None:
    defect, good = tmp_path / "defect.png", tmp_path / "good.png"
    write_picture(defect, render_defect("chip", 0)[0])
    write_picture(good, render_good(700))
    inspector = Inspector.load(bundle)
    score = inspector.detect(read_picture(defect)).anomaly_score

    result = run_oddkind("calibrate", "--add", str(defect), str(good), "--out", str(bundle))

    assert f"left out: {defect} scores {score:.2f}, over 1.5 times the threshold" in result.stderr
    assert "add it with --even-far" in result.stderr
    assert "1 added, 0 known already, 1 left out as too odd" in result.stdout
    assert scores(bundle, [read_picture(defect)])[0] > inspector.image_threshold
    forced = add_good([defect], bundle, load_stage("index_bank"), even_far=True)
    assert (forced.rejected_before, forced.far) == (1, ())


def test_json_has_scores_before_and_after(bundle: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png", bluish(render_good(701), 0.05))

    result = run_oddkind("calibrate", "--add", str(tmp_path / "good.png"), "--out", str(bundle), "--json", "--even-far")

    document = json.loads(result.stdout)
    (picture,) = document["added"]
    assert picture["score_after"] <= picture["score_before"]
    assert document["manifest"]["bundle_id"] == read_manifest(bundle, BundleManifest).bundle_id


def test_a_failure_on_the_way_leaves_the_bundle_as_it_was(bundle: Path, more: Path) -> None:
    before = contents(bundle)

    def broken(*_: object) -> None:
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        add_good([more], bundle, broken, even_far=True)  # type: ignore[arg-type]

    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_unreadable_pictures_are_named_and_the_others_added(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write_picture(folder / "good.png", render_good(702))
    (folder / "notes.png").write_text("not a picture")

    result = run_oddkind("calibrate", "--add", str(folder), "--out", str(bundle))

    assert result.exit_code == 0, result.output
    assert "left out: " in result.stderr
    assert "notes.png" in result.stderr
    assert "1 added" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--add {gone} --out {bundle}", 1, "no such picture or folder"),
        ("--add {text} --out {bundle}", 1, "no readable picture to add"),
        ("--add {empty} --out {bundle}", 1, "no readable picture to add"),
        ("--add {good} --out {gone}", 1, "is not a bundle"),
        ("--add {good} --out {bundle} --pack {gone}", 2, "--pack cannot go with --add"),
        ("--add {good} --out {bundle} --bank-rows 10", 2, "--bank-rows cannot go with --add"),
        ("{good} --out {gone}", 2, "--pack PACK is missing"),
        ("{good} --pack {gone} --out {gone} --even-far", 2, "--even-far goes with --add"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    bundle: Path, more: Path, tmp_path: Path, arguments: str, code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    before = contents(bundle)
    places = {"bundle": bundle, "good": more, "gone": tmp_path / "gone"}
    places |= {"empty": tmp_path / "empty", "text": tmp_path / "text.png"}

    result = run_oddkind("calibrate", *arguments.format(**places).split())

    assert result.exit_code == code
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert contents(bundle) == before


def test_a_provenance_that_names_nothing_is_refused(bundle: Path, more: Path) -> None:
    from calibration.add_good import read_provenance
    from edge.errors import BundleError

    (bundle / "provenance.json").write_text('{"sources": 3}')

    with pytest.raises(BundleError, match="not a list of sources"):
        read_provenance(bundle)
