import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from calibration.cli_evaluate import parse_shots
from calibration.confusion import CELL_PX, PASSED, ConfusionMatrix, draw_confusion
from calibration.dataset import GOOD, find_dataset
from calibration.demo_line import KINDS, write_line
from calibration.detection_figures import detection_figures
from calibration.evaluate import Options, evaluate
from calibration.evaluation_report import to_document
from calibration.few_shot import FewShotTrial
from calibration.score_histogram import draw_score_histogram
from calibration.scored_pictures import Pass, ScoredPicture, ScoredPictures, score_pictures
from calibration.support_draws import SupportDraws
from calibration.typing_heads import DeviceHead
from calibration.typing_report import (
    AUROC,
    CAUGHT,
    CLOSED_LOOP,
    FIRST_FILES,
    INSPECTION,
    MASK_GIVEN,
    WHOLE,
    typing_table,
)
from edge.class_store import ClassStore
from edge.cli import main
from edge.errors import CalibrationError, PictureError, UsageError
from edge.inspector import Inspector
from edge.pictures import read_picture, write_picture
from edge.result import UNKNOWN, Provenance
from edge.staging import write_bytes_atomically

PICTURE = np.full((16, 16, 3), 128, dtype=np.uint8)
SMALL = {"per_kind": 3, "held_out_good": 4}


@pytest.fixture(scope="module")
def line_dir(tmp_path_factory) -> Path:
    """Test pictures of the rendered product in the MVTec layout: 4 good, 3 of each kind, with masks."""
    folder = tmp_path_factory.mktemp("line")
    write_line(folder, good=0, **SMALL)
    return folder


@pytest.fixture(scope="module")
def inspector(bundle_dir) -> Inspector:
    return Inspector.load(bundle_dir)


@pytest.fixture(scope="module")
def scored(inspector, line_dir) -> Pass:
    return score_pictures(inspector, find_dataset(line_dir))


def folder_with(root: Path, *names: str) -> Path:
    """Small grey pictures at `names`; a name that ends in / is an empty folder."""
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            write_picture(root / name, PICTURE)
    return root


def pictures_of(inspector: Inspector, kinds_and_scores: list[tuple[str, float]]) -> ScoredPictures:
    """Pictures whose descriptors point a way of their own for each kind, so that typing has no doubt."""
    kinds = list(dict.fromkeys(kind for kind, _ in kinds_and_scores))
    directions = np.random.default_rng(0).standard_normal((len(kinds), len(inspector.centre))).astype(np.float32)
    rows = [
        ScoredPicture(f"{i}.png", kind, score, 1, (0, 0, 8, 8), inspector.centre + directions[kinds.index(kind)])
        for i, (kind, score) in enumerate(kinds_and_scores)
    ]
    return ScoredPictures.of(rows)


def trial_of(inspector: Inspector, pictures: ScoredPictures) -> FewShotTrial:
    """As the device does it."""
    return FewShotTrial(pictures, inspector.image_threshold, DeviceHead("auto", inspector))


# the folder


def test_mvtec_layout_is_found_with_its_masks(line_dir):
    dataset = find_dataset(line_dir)
    assert dataset.kinds == sorted(KINDS)
    assert [s.kind for s in dataset.samples[:4]] == [GOOD] * 4
    assert all(s.mask_path and s.mask_path.name == f"{s.path.stem}_mask.png" for s in dataset.samples[4:])
    assert len(dataset.samples) == 4 + 3 * len(KINDS)


def test_plain_folders_are_found_and_train_is_no_kind(tmp_path):
    folder_with(tmp_path, "good/a.png", "bent/b.png", "train/good/c.png", "ground_truth/bent/b.png", ".old/d.png")
    dataset = find_dataset(tmp_path)
    assert [(s.path.name, s.kind) for s in dataset.samples] == [("a.png", "good"), ("b.png", "bent")]
    assert dataset.samples[1].mask_path == tmp_path / "ground_truth/bent/b.png"


def test_a_data_set_without_masks_has_none(tmp_path):
    assert not find_dataset(folder_with(tmp_path, "test/good/a.png", "test/bent/b.png")).has_masks


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["loose.png"], "no pictures in a folder 'good'"),
        (["bent/a.png"], "no pictures in a folder 'good'"),
        (["good/", "bent/a.png"], "no pictures in a folder 'good'"),
        (["good/a.png"], "no pictures of defects"),
        (["test/good/a.png", "bent/b.png"], "no pictures of defects"),
        (["good/a.png", "bent/"], "no pictures of defects"),
        (["good/a.png", "unknown/b.png"], "rename the folder"),
    ],
)
def test_another_layout_is_refused(tmp_path, names, complaint):
    with pytest.raises(CalibrationError, match=complaint):
        find_dataset(folder_with(tmp_path, *names))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="no such folder"):
        find_dataset(tmp_path / "nowhere")


# one pass over the pictures


def test_scores_are_those_of_an_inspection(inspector, line_dir, scored):
    for picture in (scored.pictures.rows[0], scored.pictures.rows[-1]):
        frame_bgr = read_picture(line_dir / picture.name)
        inspection = inspector.inspect(frame_bgr, Provenance("test", 0, ""), always_type=True)
        assert picture.anomaly_score == inspection.anomaly_score
        assert picture.box_xyxy == inspection.regions[0].box_xyxy
        assert picture.region_count == len(inspection.regions)


def test_maps_are_compared_with_masks_in_source_pixels(line_dir, scored):
    masks = [read_picture(path)[..., 0] > 0 for path in sorted((line_dir / "ground_truth").glob("*/*.png"))]
    assert scored.pixels is not None
    assert scored.pixels.regions >= len(masks)
    assert scored.defects_without_mask == 0
    assert 0.7 < scored.pixels.pixel_auroc <= 1


def test_broken_pictures_and_misfit_masks_are_left_out_with_a_reason(inspector, line_dir, tmp_path):
    shutil.copytree(line_dir, tmp_path / "line")
    kind = tmp_path / "line/test" / KINDS[0]
    (kind / "000.png").write_bytes(b"not a picture")
    write_picture(tmp_path / "line/ground_truth" / KINDS[0] / "001_mask.png", PICTURE)
    (tmp_path / "line/ground_truth" / KINDS[0] / "002_mask.png").unlink()
    result = score_pictures(inspector, find_dataset(tmp_path / "line"))
    assert len(result.left_out) == 2
    assert "000.png: not a picture" in result.left_out[0]
    assert "001_mask.png: 16 x 16 px, its picture is 320 x 320" in result.left_out[1]
    assert len(result.pictures.rows) == 4 + 3 * len(KINDS) - 2
    assert result.defects_without_mask == 1


def test_nothing_readable_is_an_error(inspector, tmp_path):
    folder_with(tmp_path, "good/", "bent/")
    (tmp_path / "good/a.png").write_bytes(b"")
    (tmp_path / "bent/b.png").write_bytes(b"x")
    with pytest.raises(PictureError, match="none of 2 pictures can be read"):
        score_pictures(inspector, find_dataset(tmp_path))


# detection


def test_rates_at_the_threshold_are_counts(inspector):
    pictures = pictures_of(inspector, [(GOOD, 1), (GOOD, 2), (GOOD, 5), ("bent", 4), ("bent", 2), ("torn", 6)])
    figures = detection_figures(Pass(pictures, None, 3, ()), image_threshold=4.0)
    assert (figures.false_rejects, figures.good_pictures) == (1, 3)
    assert figures.escapes == 2  # the bent parts at 2 and at 4: what is not over the threshold passes
    assert figures.escape_rate == pytest.approx(2 / 3)
    assert figures.image_auroc == pytest.approx((2 + 1.5 + 3) / 9)
    assert (figures.pixel_auroc, figures.pro) == (None, None)
    assert [(k.kind, k.pictures, k.escapes) for k in figures.kinds] == [("bent", 2, 2), ("torn", 1, 0)]
    assert figures.kinds[1].image_auroc == 1.0


@pytest.mark.parametrize(("kind", "lacking"), [(GOOD, "defect"), ("bent", "good")])
def test_detection_needs_both_sorts_of_picture(inspector, kind, lacking):
    with pytest.raises(CalibrationError, match=f"no readable {lacking} picture is left.*broken.png"):
        detection_figures(Pass(pictures_of(inspector, [(kind, 1.0)]), None, 0, ("broken.png: empty",)), 1.0)


# few-shot typing


def test_without_doubt_every_rejected_defect_is_named_and_the_rest_are_not(inspector):
    over, under = inspector.image_threshold + 1, inspector.image_threshold - 1
    parts = [("bent", over)] * 4 + [("torn", under)] * 4 + [(GOOD, under)] * 3 + [(GOOD, over)]
    result = trial_of(inspector, pictures_of(inspector, parts)).run(2, seeds=[0, 1, 2])
    assert result is not None
    for draw in result.draws:  # 2 bent and 2 torn queries, 4 good parts
        assert draw.typing == 1.0
        assert draw.inspection == 0.5
        assert draw.whole == (2 + 0 + 3) / 8
    assert result.mean_and_spread("typing") == (1.0, 0.0)
    assert result.typing_confusion.counts.tolist() == [[6, 0], [0, 6]]
    confusion = result.inspection_confusion
    assert confusion.answers == ("bent", "torn", UNKNOWN, PASSED)
    assert confusion.counts[:2].tolist() == [[6, 0, 0, 0], [0, 0, 0, 6]]
    assert confusion.counts[2, 3] == 9  # good parts that pass, three a draw


def test_the_same_seeds_draw_the_same_supports(inspector, scored):
    trial = trial_of(inspector, scored.pictures)
    first, again, other = (trial.run(1, seeds) for seeds in ([0, 1, 2], [0, 1, 2], [7, 8, 9]))
    assert first.draws == again.draws
    assert not np.array_equal(first.typing_confusion.counts, other.typing_confusion.counts)


def test_every_defect_that_is_no_support_is_asked_about(inspector, scored):
    result = trial_of(inspector, scored.pictures).run(1, seeds=[0, 1])
    queries = 3 * len(KINDS) - len(KINDS)
    assert result.typing_confusion.counts.sum() == 2 * queries
    assert result.inspection_confusion.counts.sum() == 2 * (queries + 4)


def test_names_are_those_the_device_gives(inspector, bundle_dir, line_dir, scored, tmp_path):
    """One draw, enrolled into a class store and inspected from the files."""
    pictures = scored.pictures
    choice = SupportDraws(pictures.kinds, pictures.is_defect).first_files(1)
    store = ClassStore(
        inspector.manifest.bundle_id,
        pictures.supports(choice.support_rows),
        pictures.descriptors.supports[choice.support_rows],
    )
    write_bytes_atomically(tmp_path / "classes.npz", store.to_bytes())
    device = Inspector.load(bundle_dir, classes_path=tmp_path / "classes.npz")
    _, named = trial_of(inspector, pictures).type_pictures(choice, choice.query_rows)
    inspections = [
        device.inspect(read_picture(line_dir / pictures.rows[i].name), Provenance("test", 0, ""), always_type=True)
        for i in choice.query_rows
    ]
    assert [i.defect_class for i in inspections] == named.tolist()


def test_a_type_with_too_few_pictures_is_left_out_and_named(inspector):
    over = inspector.image_threshold + 1
    parts = [("bent", over)] * 3 + [("torn", over)] * 3 + [("rare", over)] * 2 + [(GOOD, 0.0)]
    trial = trial_of(inspector, pictures_of(inspector, parts))
    two = trial.run(2, seeds=[0])
    assert (two.n_way, two.kinds_left_out) == (2, ("rare",))
    assert trial.run(1, seeds=[0]).n_way == 3
    assert trial.run(3, seeds=[0]) is None


# the whole


def test_evaluation_keeps_shot_counts_that_could_not_be_drawn(bundle_dir, line_dir):
    evaluation = evaluate(bundle_dir, line_dir, Options(shots=(9, 1, 2, 1), draws=3, seed=5))
    assert [result.n_shot for result in evaluation.few_shot] == [1, 2]
    assert evaluation.shots_left_out == [9]
    assert [draw.seed for draw in evaluation.few_shot[0].draws] == [5, 6, 7]
    assert evaluation.middle is evaluation.few_shot[0]
    assert evaluation.detection.image_auroc > 0.8


@pytest.mark.parametrize("options", [Options(shots=()), Options(shots=(0, 1)), Options(draws=0), Options(seed=-1)])
def test_impossible_options_are_refused_before_any_work(tmp_path, options):
    with pytest.raises(UsageError, match="expected"):
        evaluate(tmp_path / "no bundle", tmp_path / "no pictures", options)


def test_every_head_takes_part_in_the_order_asked_for_and_is_compared_on_the_same_draws(bundle_dir, line_dir):
    evaluation = evaluate(bundle_dir, line_dir, Options(shots=(1, 2), draws=2, heads=("ridge", "views")))
    assert evaluation.heads == ["ridge", "views"]
    assert [result.n_shot for result in evaluation.few_shot] == [1, 2, 1, 2]
    ridge, views = evaluation.few_shot[1], evaluation.few_shot[3]
    assert evaluation.rival(ridge, "views") is views
    assert evaluation.rival(views, "views") is None
    entry = to_document(evaluation)["few_shot"][1]
    expected = np.subtract(ridge.values("typing"), views.values("typing")).mean()
    assert entry["against_views"]["typing"]["mean"] == pytest.approx(expected)
    assert len(entry["mask_given"]["draws"]) == 2
    assert set(entry["open_set"]["by_kind"]) == set(KINDS)


# pictures of the result


def test_confusion_counts_pairs_and_shares_rows():
    matrix = ConfusionMatrix.empty(["a", "b", "c"], ["a", "b"])
    matrix.count(np.array(["a", "a", "a", "b"]), np.array(["a", "b", "a", "b"]))
    assert matrix.counts.tolist() == [[2, 1], [0, 1], [0, 0]]
    assert matrix.shares().tolist() == [[2 / 3, 1 / 3], [0, 1], [0, 0]]
    with pytest.raises(KeyError):
        matrix.count(np.array(["d"]), np.array(["a"]))


def test_a_fuller_cell_is_darker():
    matrix = ConfusionMatrix.empty(["left", "right"], ["left", "right"])
    matrix.count(np.array(["left"] * 4), np.array(["left"] * 3 + ["right"]))
    canvas = draw_confusion(matrix, "title")
    corner_y = canvas.shape[0] - 24 - 2 * CELL_PX + 5  # the upper row, clear of text
    first, second = canvas[corner_y, -24 - 2 * CELL_PX + 5], canvas[corner_y, -24 - CELL_PX + 5]
    assert int(first.sum()) < int(second.sum()) < 3 * 255


def test_long_names_widen_the_picture():
    short, long = (ConfusionMatrix.empty([name], [name]) for name in ("a", "a name that needs some room of its own"))
    assert draw_confusion(long, "t").shape[1] > draw_confusion(short, "t").shape[1] + 300


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
def test_histogram_is_drawn_even_when_all_scores_are_equal(scores):
    canvas = draw_score_histogram(np.array(scores), np.array([False, False, True]), 2.0)
    assert len(np.unique(canvas.reshape(-1, 3), axis=0)) > 3  # paper, two colours of bars, ink


# the command


def run(*arguments: object):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_command_writes_tables_data_and_pictures(bundle_dir, line_dir, tmp_path):
    out = tmp_path / "results"
    result = run(bundle_dir, line_dir, "--shots", "1,2", "--draws", "2", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((out / "evaluation.json").read_text("utf-8"))
    assert document["draw_seeds"] == [0, 1]
    assert [shot["n_shot"] for shot in document["few_shot"]] == [1, 2]
    assert document["few_shot"][0]["typing"]["mean"] == np.mean([d["typing"] for d in document["few_shot"][0]["draws"]])
    for name in ("confusion.png", "confusion_in_the_loop.png", "scores.png"):
        assert read_picture(out / name).std() > 0
    assert "image AUROC" in (out / "evaluation.txt").read_text("utf-8")
    with (out / "pictures.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == document["dataset"]["pictures"]
    assert sum(row["kind"] == GOOD and row["rejected"] == "1" for row in rows) == document["detection"]["false_rejects"]


def test_command_prints_a_table(bundle_dir, line_dir):
    result = run(bundle_dir, line_dir, "--shots", "2", "--draws", "2", "--head", "all")
    assert result.exit_code == 0, result.output
    assert all(kind in result.stdout for kind in KINDS)
    assert "mean +- std of 2 draws, seeds 0 to 1, auto: cosine\n" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 120
    for title in (CLOSED_LOOP, MASK_GIVEN, FIRST_FILES, INSPECTION, WHOLE, AUROC, CAUGHT):
        rows = result.stdout.split(title + "\n")[1].splitlines()[:5]
        assert [row.split()[0] for row in rows] == ["auto", "views", "cosine", "ridge", "lda"]


@pytest.mark.parametrize("head", ["nonsense", "auto,", "views,Ridge", ""])
def test_a_head_that_is_none_is_refused_before_any_work(tmp_path, head):
    result = run(tmp_path / "no bundle", tmp_path / "no pictures", "--head", head)
    assert result.exit_code == 2
    assert "expected auto, relation, relation-once, views, cosine, ridge, lda" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_papers_head_without_good_pictures_is_refused_before_any_work(tmp_path):
    result = run(tmp_path / "no bundle", tmp_path / "no pictures", "--head", "auto,paper")
    assert result.exit_code == 2
    assert result.stderr == "oddkind: --head paper learns from good pictures: give their folder with --good GOOD_DIR\n"


def test_many_shot_counts_are_set_in_tables_of_three(bundle_dir, line_dir):
    options = Options(shots=(1, 2), draws=2, heads=("auto", "views"))
    evaluation = evaluate(bundle_dir, line_dir, options)
    more = [replace(r, n_shot=r.n_shot + 2) for r in evaluation.few_shot]
    lines = typing_table(replace(evaluation, few_shot=(*evaluation.few_shot, *more))).splitlines()
    assert [line.split() for line in lines if " shots of " in line] == [
        ["1", "shot", "of", "5", "types", "2", "shots", "of", "5", "types", "3", "shots", "of", "5", "types"],
        ["4", "shots", "of", "5", "types"],
    ]
    assert lines.count(CLOSED_LOOP) == 2
    assert max(map(len, lines)) <= 120


def test_with_two_types_the_table_says_why_there_is_no_open_set(bundle_dir, line_dir, tmp_path):
    for kind in (GOOD, *KINDS[:2]):
        shutil.copytree(line_dir / "test" / kind, tmp_path / kind)
    result = run(bundle_dir, tmp_path, "--shots", "1,2", "--draws", "2", "--head", "auto,views")
    assert result.exit_code == 0, result.output
    assert "no open set at 1 shot: 2 types, at least 3 needed" in result.stdout
    assert "no mask given: the data set has no ground_truth" in result.stdout
    assert AUROC not in result.stdout and MASK_GIVEN not in result.stdout


def test_command_reports_unreadable_pictures_and_ends_with_1(bundle_dir, line_dir, tmp_path):
    shutil.copytree(line_dir, tmp_path / "line")
    (tmp_path / "line/test/good/000.png").write_bytes(b"")
    result = run(bundle_dir, tmp_path / "line", "--shots", "1", "--draws", "1")
    assert result.exit_code == 1
    assert "000.png: the file is empty" in result.stdout
    assert "3 good pictures" in result.stdout


def test_command_never_touches_a_folder_it_did_not_write(bundle_dir, line_dir, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    result = run(bundle_dir, line_dir, "--out", tmp_path, "--overwrite")
    assert result.exit_code == 2
    assert "choose another --out" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("shots", ["", "0", "1,,2", "1;2", "-1", "1.5", "two", "²"])
def test_shots_that_are_no_numbers_are_refused(shots):
    with pytest.raises(UsageError, match="expected whole numbers from 1"):
        parse_shots(shots)


def test_shots_may_have_blanks():
    assert parse_shots("1, 2,5") == (1, 2, 5)


def test_one_clear_line_for_a_folder_that_is_no_bundle(line_dir, tmp_path):
    result = run(tmp_path, line_dir)
    assert result.exit_code == 1
    assert result.stderr.startswith("oddkind: ") and len(result.stderr.splitlines()) == 1
    assert "is not a bundle" in result.stderr
