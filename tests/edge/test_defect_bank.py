"""Taught defects: what is raised, what is left alone, and what cannot be taught; numbers to check by hand."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result
from conftest import run_oddkind
from hypothesis import given
from hypothesis import strategies as st

from calibration.demo_line import render_good
from edge.anomaly import MAP_SCALE, Anomaly, PlaceStatistics, detect
from edge.class_store import ClassStore, Support
from edge.cli_classes import teaching_in_words
from edge.defect_bank import FULL_RATIO, MARGIN, MIN_LIFT, REACH, TaughtPatches, raise_scores, teach
from edge.enrol import Teaching, enrol
from edge.errors import BundleError, EnrolmentError
from edge.inspector import Inspector
from edge.manifest import ScoreFacts, ThresholdFacts
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns
from edge.pictures import FrameBgr, read_picture, write_picture
from edge.regions import OddRegion

Floats = npt.NDArray[np.float32]

GRID_HW = (2, 2)
SPOT_XY = (200, 200)
# One good patch at the origin: the distance of a patch is its length. The root of `standardise` undoes squares.
BANK = MemoryBank(
    MemoryBankArrays(
        vectors=np.zeros((1, 2), np.float32),
        feature_mean=np.zeros(2, np.float32),
        feature_std=np.ones(2, np.float32),
        source_index=np.zeros(1, np.int64),
        patch_yx=np.zeros((1, 2), np.int64),
    ),
    SearchColumns.alike(np.array([0, 1])),
)
NEUTRAL = PlaceStatistics(np.zeros(GRID_HW, np.float32), np.ones(GRID_HW, np.float32))
SCORE = ScoreFacts(top_fraction=0.25, map_sigma_patches=0)  # of four patches the strangest one
# A defect patch at (10, 0) that raises by 8 and reaches as far as it is from the good patch.
TAUGHT = TaughtPatches(
    np.array([[10, 0]], np.float32), np.array([10], np.float32), np.array([8], np.float32), np.zeros(1, np.int64)
)


def thresholds(image: float, pixel: float) -> ThresholdFacts:
    return ThresholdFacts(
        image_threshold=image,
        pixel_threshold=pixel,
        false_reject_rate=0.01,
        promised_false_reject_rate=0.01,
        method="by hand",
        held_out_pictures=99,
    )


def seen(*patches: tuple[float, float], bank: MemoryBank = BANK) -> Anomaly:
    """detect() on a 2 x 2 grid whose patches are at these places; missing ones at the good patch."""
    points = np.zeros((4, 2))
    points[: len(patches)] = patches
    embeddings = np.copysign(np.square(points), points).astype(np.float32)
    return detect(embeddings, bank, NEUTRAL, SCORE)


def raised(*patches: tuple[float, float], taught: TaughtPatches = TAUGHT) -> list[float]:
    """What each patch score rises by."""
    before = seen(*patches)
    after = raise_scores(before, taught, BANK, SCORE)
    rise: list[float] = (after.patch_scores - before.patch_scores).ravel().tolist()
    return rise[: len(patches)]


def region_of(anomaly: Anomaly, *places: int) -> OddRegion:
    """The map's cells over these patches."""
    grid = np.isin(np.arange(4), places).reshape(GRID_HW)
    mask = np.kron(grid, np.ones((MAP_SCALE, MAP_SCALE))).astype(np.bool_)
    return OddRegion(mask, float(anomaly.anomaly_map[mask].max()))


def test_the_very_patch_rises_by_its_lift_and_a_good_one_not_at_all() -> None:
    assert raised((10, 0), (0, 0)) == [8, 0]


def test_the_rise_falls_with_the_distance_and_ends_where_something_good_is_as_near() -> None:
    limit = REACH * 10  # from the taught patch, in a direction that good is farther away
    full, halfway = FULL_RATIO * limit, (1 + FULL_RATIO) / 2 * limit

    assert raised((10, full), (10, halfway), (10, limit)) == pytest.approx([8, 4, 0], abs=1e-4)
    assert raised((5, 0), (4, 0)) == [0, 0]  # the middle between good and taught, and nearer to good


def test_the_nearest_of_several_taught_patches_counts_and_they_do_not_add_up() -> None:
    twice = TAUGHT + replace(TAUGHT, lift=np.array([3], np.float32))

    assert raised((10, 0), taught=twice) == [8]
    assert raised((10, 0), taught=replace(twice, lift=np.array([3, 8], np.float32))) == [8]


def test_map_and_score_follow_the_patches() -> None:
    before = seen((10, 0), (1, 0))
    after = raise_scores(before, TAUGHT, BANK, SCORE)

    assert (before.anomaly_score, after.anomaly_score) == (10, 18)
    assert after.patch_scores.tolist() == [[18, 1], [0, 0]]
    assert after.anomaly_map[0, 0] == 18
    assert after.distances.tolist() == before.distances.tolist()


def test_nothing_taught_gives_the_very_same_object_back() -> None:
    before = seen((10, 0))

    assert raise_scores(before, TaughtPatches.none(), BANK, SCORE) is before


@given(
    st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=4, max_size=4),
    st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(0, 40)), min_size=1, max_size=5),
)
def test_no_score_is_ever_lowered(patches: list[tuple[float, float]], taught: list[tuple[float, float, float]]) -> None:
    vectors = np.array([t[:2] for t in taught], np.float32)
    reach = np.maximum(np.linalg.norm(vectors, axis=1), np.float32(0.1))
    bank = TaughtPatches(vectors, reach, np.array([t[2] for t in taught], np.float32), np.zeros(len(taught), np.int64))

    assert min(raised(*patches, taught=bank)) >= 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_patch_that_is_no_number_stays_one_and_is_never_good(value: float) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        after = raise_scores(seen((value, 0), (10, 0)), TAUGHT, BANK, SCORE)

    assert not after.anomaly_score <= 1e30
    assert after.patch_scores[0, 1] == 18


def test_taught_patches_of_another_width_are_refused() -> None:
    narrow = replace(TAUGHT, vectors=np.zeros((1, 3), np.float32))

    with pytest.raises(BundleError, match="3 features, this bundle searches 2"):
        raise_scores(seen((10, 0)), narrow, BANK, SCORE)


def test_a_missed_region_is_taught_with_its_distances_and_the_picture_ends_over_the_threshold() -> None:
    missed = seen((6, 0), (0, 4))

    taught = teach(missed, region_of(missed, 0, 1), BANK, SCORE, thresholds(image=7, pixel=8))

    assert taught is not None
    assert taught.vectors.tolist() == [[6, 0], [0, 4]]
    assert taught.reach.tolist() == [6, 4]
    assert taught.lift.tolist() == [MIN_LIFT * 8] * 2
    assert raise_scores(missed, taught, BANK, SCORE).anomaly_score == 6 + MIN_LIFT * 8


def test_few_odd_patches_are_lifted_as_far_as_their_picture_needs() -> None:
    half = ScoreFacts(top_fraction=0.5, map_sigma_patches=0)
    missed = replace(seen((6, 0)), anomaly_score=3.0)  # the mean of 6 and 0

    taught = teach(missed, region_of(missed, 0), BANK, half, thresholds(image=10, pixel=8))

    assert taught is not None
    assert taught.lift.tolist() == pytest.approx([2 * ((1 + MARGIN) * 10 - 3)])
    assert raise_scores(missed, taught, BANK, half).anomaly_score == pytest.approx((1 + MARGIN) * 10)


def test_what_looks_like_good_parts_cannot_be_taught() -> None:
    dull = seen((1.9, 0))

    assert teach(dull, region_of(dull, 0), BANK, SCORE, thresholds(image=7, pixel=8)) is None  # 1.9 < a quarter of 8
    same = seen((0, 0))
    assert teach(same, region_of(same, 0), BANK, SCORE, thresholds(image=7, pixel=0.0)) is None


def test_one_patch_that_would_have_to_decide_alone_is_not_taught() -> None:
    quarter_of_many = ScoreFacts(top_fraction=1.0, map_sigma_patches=0)
    missed = replace(seen((3, 0)), anomaly_score=0.75)

    assert teach(missed, region_of(missed, 0), BANK, quarter_of_many, thresholds(image=20, pixel=8)) is None


def support(number: int, name: str) -> Support:
    return Support(name, f"{number}.png", f"{number:064x}", (0, 0, 1, 1), 1.0, "2026-01-01T00:00:00.000Z")


def store_with_taught(*names: str | None) -> ClassStore:
    """Support n teaches n + 1 patches, all of value n; a name of None teaches nothing and is called `plain`."""
    taught = [
        None
        if name is None
        else TaughtPatches(
            np.full((n + 1, 2), n, np.float32),
            np.ones(n + 1, np.float32),
            np.ones(n + 1, np.float32),
            np.zeros(n + 1, np.int64),
        )
        for n, name in enumerate(names)
    ]
    supports = [support(n, name or "plain") for n, name in enumerate(names)]
    return ClassStore.empty("0" * 16, 3).with_supports(supports, np.zeros((len(names), 3), np.float32), taught)


def test_a_store_keeps_taught_patches_through_bytes_and_drops_them_with_their_support() -> None:
    store = store_with_taught("scratch", None, "dent", "scratch")

    read = ClassStore.from_bytes(store.to_bytes(), Path("classes.npz"))
    assert read.taught.support.tolist() == [0, 2, 2, 2, 3, 3, 3, 3]
    left = ClassStore.from_bytes(read.without("scratch").to_bytes(), Path("classes.npz"))
    assert [s.defect_class for s in left.supports] == ["plain", "dent"]
    assert left.taught.support.tolist() == [1, 1, 1]
    assert left.taught.vectors.tolist() == [[2, 2]] * 3
    assert len(left.without("dent").taught) == 0


def test_one_picture_of_a_class_can_be_removed_alone() -> None:
    left = store_with_taught("scratch", "scratch").without("scratch", "0.png")

    assert [s.source for s in left.supports] == ["1.png"]
    assert left.taught.support.tolist() == [0, 0]
    with pytest.raises(EnrolmentError, match=r"no support of 'scratch' came from 0\.png; its pictures: 1\.png"):
        left.without("scratch", "0.png")


def test_a_store_of_the_version_before_is_read_and_one_of_the_next_is_refused(tmp_path: Path) -> None:
    def as_version(version: int) -> bytes:
        facts = {"store_version": version, "bundle_id": "0" * 16, "supports": []}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(tmp_path / "c.npz", descriptors=np.zeros((0, 3), np.float32), facts=text)
        return (tmp_path / "c.npz").read_bytes()

    assert len(ClassStore.from_bytes(as_version(1), tmp_path).taught) == 0
    with pytest.raises(BundleError, match="store version 3"):
        ClassStore.from_bytes(as_version(3), tmp_path)
    with pytest.raises(BundleError, match="taught_vectors"):
        ClassStore.from_bytes(as_version(2), tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        replace(TAUGHT, reach=np.array([0], np.float32)),
        replace(TAUGHT, reach=np.array([np.nan], np.float32)),
        replace(TAUGHT, lift=np.array([-1], np.float32)),
        replace(TAUGHT, vectors=np.array([[np.nan, 0]], np.float32)),
        replace(TAUGHT, support=np.array([1])),
        replace(TAUGHT, support=np.array([0, 0])),
    ],
)
def test_taught_patches_that_could_lower_a_score_or_fit_no_support_are_refused(broken: TaughtPatches) -> None:
    store = replace(store_with_taught(None), taught=broken)

    with pytest.raises(BundleError, match="not a readable class store"):
        ClassStore.from_bytes(store.to_bytes(), Path("classes.npz"))


# From here on a person at a device, with rendered parts.


@pytest.fixture
def bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def missed(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A part with a dark spot so faint that it is passed as good, and the box around the spot."""
    inspector = Inspector.load(bundle_dir)
    place = tmp_path_factory.mktemp("missed") / "missed.png"
    for darker in np.arange(0.9, 0.02, -0.04):
        frame_bgr = with_spot(render_good(1000), darker)
        score = inspector.detect(frame_bgr).anomaly_score
        if 0.6 * inspector.image_threshold < score <= inspector.image_threshold:
            write_picture(place, frame_bgr)
            return place, f"{SPOT_XY[0] - 12},{SPOT_XY[1] - 12},24,24"
    raise AssertionError("no spot is faint enough to be passed and dark enough to be seen")


def with_spot(frame_bgr: FrameBgr, darker: float) -> FrameBgr:
    spot = np.zeros(frame_bgr.shape[:2], np.float32)
    cv2.circle(spot, SPOT_XY, 8, 1.0, -1)
    shade = 1 - darker * cv2.GaussianBlur(spot, (0, 0), 1.5)[..., np.newaxis]
    return np.asarray(np.rint(frame_bgr * shade), dtype=np.uint8)


def scores(bundle: Path, *paths: Path) -> list[float]:
    inspector = Inspector.load(bundle)
    return [inspector.detect(read_picture(path)).anomaly_score for path in paths]


def enrolled(bundle: Path, *arguments: object) -> Result:
    return run_oddkind("enrol", str(bundle), *(str(a) for a in arguments))


def test_a_missed_defect_is_refused_without_a_box_and_says_how_to_teach_it(
    bundle: Path, missed: tuple[Path, str]
) -> None:
    result = enrolled(bundle, "faint", missed[0])

    assert result.exit_code == 1
    assert re.search(r"nothing odd in it, anomaly score .* teach this one: --box x,y,w,h .* --force", result.stderr)
    assert not (bundle / "classes.npz").exists()


@pytest.mark.parametrize("how", ["box", "force"])
def test_a_taught_defect_is_rejected_from_then_on_and_named(bundle: Path, missed: tuple[Path, str], how: str) -> None:
    picture, box = missed
    before = scores(bundle, picture)[0]

    result = enrolled(bundle, "faint", picture, *(["--box", box] if how == "box" else ["--force"]))

    threshold = Inspector.load(bundle).image_threshold
    after = scores(bundle, picture)[0]
    assert result.exit_code == 0, result.output
    assert before <= threshold < after
    told = f"passed as good at {before:.2f} <= {threshold:.2f}; taught: now {after:.2f}, rejected"
    assert told in result.stdout
    run_oddkind("score", str(bundle), str(picture.parent), "--out", str(bundle.parent / "results"))
    record = json.loads((bundle.parent / "results" / "results.jsonl").read_text())
    assert (record["verdict"], record["defect_class"]) == ("defect", "faint")
    run = json.loads((bundle.parent / "results" / "run.json").read_text())
    assert "defect_bank" in run["last_run"]["stage_p50_ms"]


def test_good_parts_score_as_before_and_are_still_passed(
    bundle: Path, missed: tuple[Path, str], good_dir: Path
) -> None:
    good = sorted(good_dir.iterdir())[:8]
    before = scores(bundle, *good)

    enrolled(bundle, "faint", missed[0], "--box", missed[1])

    after, threshold = scores(bundle, *good), Inspector.load(bundle).image_threshold
    assert [b <= threshold for b in before] == [a <= threshold for a in after]
    assert all(a >= b for a, b in zip(after, before, strict=True))


def test_removing_the_support_unteaches_it_to_the_last_bit(bundle: Path, missed: tuple[Path, str]) -> None:
    before = scores(bundle, missed[0])
    enrolled(bundle, "faint", missed[0], "--box", missed[1])
    shown = run_oddkind("classes", "show", str(bundle), "faint").stdout
    assert re.search(r"taught \d+ patches", shown)

    removed = run_oddkind("classes", "remove", str(bundle), "faint", "--picture", str(missed[0]))

    assert removed.exit_code == 0, removed.output
    assert scores(bundle, missed[0]) == before


def test_a_second_picture_of_what_is_known_already_is_enrolled_without_teaching(
    bundle: Path, missed: tuple[Path, str], tmp_path: Path
) -> None:
    enrolled(bundle, "faint", missed[0], "--box", missed[1])
    brighter = tmp_path / "again.png"
    frame_bgr = read_picture(missed[0])
    frame_bgr[0, 0] += 1
    write_picture(brighter, frame_bgr)

    quality = json.loads(enrolled(bundle, "faint", brighter, "--json").stdout)

    assert quality["taught"] == []
    assert len(quality["supports"]) == 2


def test_a_good_place_cannot_be_taught_and_the_class_is_enrolled_all_the_same(bundle: Path, good_dir: Path) -> None:
    inspector = Inspector.load(bundle)
    picture = sorted(good_dir.iterdir())[0]
    scored = inspector.detect(read_picture(picture)).patch_scores
    y, x = np.unravel_index(scored.argmin(), scored.shape)

    result = enrolled(bundle, "nothing", picture, "--box", f"{10 * x},{10 * y},2,2")  # 320 px, 32 patches

    assert result.exit_code == 0, result.output
    assert "cannot be taught: what is there looks like good parts" in result.stdout
    quality = json.loads(run_oddkind("classes", "show", str(bundle), "nothing", "--json").stdout)
    assert len(quality["enrolled"]) == 1
    assert scores(bundle, picture) == [float(inspector.detect(read_picture(picture)).anomaly_score)]


def test_a_box_that_a_rejected_picture_was_not_rejected_for_is_taught_too(
    bundle: Path, missed: tuple[Path, str]
) -> None:
    inspector = Inspector.load(bundle)
    both = read_picture(missed[0])
    cv2.line(both, (60, 80), (130, 100), (20, 20, 20), 3)  # far from the spot
    picture = bundle.parent / "both.png"
    write_picture(picture, both)
    assert inspector.detect(both).anomaly_score > inspector.image_threshold
    x, y, w, h = (int(v) for v in missed[1].split(","))

    (teaching,) = enrol(inspector, "faint", [picture], (x, y, x + w, y + h)).taught

    assert teaching.what == "box"
    assert teaching.score_before <= teaching.threshold
    assert teaching.score_after > teaching.score_before
    assert f"the box was not marked at {teaching.score_before:.2f}" in teaching_in_words(teaching)


def test_teachings_are_told_in_one_line() -> None:
    assert teaching_in_words(Teaching("a.png", "picture", 2.91, 4.1, 3.4, 9)) == (
        "a.png: passed as good at 2.91 <= 3.40; taught: now 4.10, rejected"
    )
    assert teaching_in_words(Teaching("a.png", "box", 2.91, 2.91, 3.4, 0)) == (
        "a.png: the box was not marked at 2.91 <= 3.40; cannot be taught: what is there looks like good parts; "
        "it is enrolled for its name alone"
    )
