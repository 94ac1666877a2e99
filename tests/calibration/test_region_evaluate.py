import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_oddkind

from calibration.demo_line import KINDS, render_defect
from calibration.descriptors import Descriptors
from calibration.evaluate import Options
from calibration.region_dataset import find_region_dataset
from calibration.region_evaluate import RegionEvaluation, RegionShots, RegionTrial, evaluate_regions
from calibration.region_match import Tally
from calibration.region_pass import DescribedBoxes, RegionPass, describe_boxes
from calibration.region_report import to_document, to_text
from calibration.typing_heads import BaselineHead, cosine_scores
from edge.errors import CalibrationError, PictureError, UsageError
from edge.inspector import Inspector
from edge.pictures import write_picture

A, B = (1.0, 0.1), (0.1, 1.0)  # descriptors of two types that nothing confuses
NEAR_A, NEAR_B, NOWHERE = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
HEAD = BaselineHead("cosine", cosine_scores)
TWO_KINDS = KINDS[:2]


def described(rows: list[tuple[int, tuple[int, int, int, int], float, tuple[float, float]]]) -> DescribedBoxes:
    """rows: picture, box, peak score, descriptor."""
    pictures, boxes, scores, descriptors = zip(*rows, strict=True)
    return DescribedBoxes(
        np.array(pictures),
        np.array(boxes),
        np.array(scores),
        Descriptors.looked_at_once(np.array(descriptors, dtype=np.float32)),
    )


def hand_made(pictures: int) -> RegionPass:
    """Each picture: a defect `a` found and looking like one, a defect `b` found but looking like `a`, a false alarm
    that looks like `b`. Rows of a picture: predicted 3 n, 3 n + 1, 3 n + 2, true 2 n, 2 n + 1."""
    numbers = range(pictures)
    true = [row for n in numbers for row in [(n, NEAR_A, 3.0, A), (n, NEAR_B, 2.0, B)]]
    predicted = [row for n in numbers for row in [(n, NEAR_A, 3.0, A), (n, NEAR_B, 2.0, A), (n, NOWHERE, 1.0, B)]]
    return RegionPass(
        names=tuple(f"{n}.png" for n in numbers),
        predicted=described(predicted),
        true=described(true),
        kinds=np.array(["a", "b"] * pictures),
        pairs=[pair for n in numbers for pair in [(3 * n, 2 * n), (3 * n + 1, 2 * n + 1)]],
        passed=0,
        left_out=(),
    )


def run(scored: RegionPass, n_shot: int, seeds: range = range(20)) -> RegionShots | None:
    return RegionTrial(scored).run(HEAD, n_shot, seeds)


def boxed_line(folder: Path, per_kind: int) -> Path:
    """Rendered parts of TWO_KINDS in one board, each with the box around its mask."""
    for kind in TWO_KINDS:
        for index in range(per_kind):
            frame_bgr, mask = render_defect(kind, index)
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            write_picture(folder / "test" / f"{kind}{index}_test.png", frame_bgr)
            (folder / "boxes").mkdir(exist_ok=True)
            rows = f"x1,y1,x2,y2,type\n{x},{y},{x + w},{y + h},{kind}\n"
            (folder / "boxes" / f"{kind}{index}.csv").write_text(rows)
    return folder


@pytest.fixture(scope="module")
def line_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boxed_line(tmp_path_factory.mktemp("boxed"), per_kind=4)


@pytest.fixture(scope="module")
def evaluation(bundle_dir: Path, line_dir: Path) -> RegionEvaluation:
    return evaluate_regions(bundle_dir, line_dir, Options(shots=(1, 3, 2), draws=3, seed=5, heads=("auto", "views")))


# figures by hand


def test_precision_recall_and_f_of_each_type_and_of_all() -> None:
    result = run(hand_made(4), 1)
    assert result is not None
    for draw in result.draws:
        n = draw.pictures_asked
        assert draw.kinds == {"a": Tally(n, 2 * n, n), "b": Tally(0, n, n)}
        assert draw.regions == Tally(n, 3 * n, 2 * n)
        assert (draw.regions.precision, draw.regions.recall, draw.regions.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))


def test_place_alone_and_name_alone() -> None:
    result = run(hand_made(4), 1)
    assert result is not None
    for draw in result.draws:
        n = draw.pictures_asked
        assert draw.places == Tally(2 * n, 3 * n, 2 * n)
        assert draw.named_of_matched == 0.5
        assert draw.named_of_true == 1.0
        assert draw.named_of_true_kinds == {"a": 1.0, "b": 1.0}


def test_a_stronger_region_of_the_wrong_name_does_not_take_the_box_from_the_right_one() -> None:
    scored = hand_made(4)
    both = [row for n in range(4) for row in [(n, NEAR_A, 5.0, B), (n, NEAR_A, 3.0, A)]]
    pairs = [pair for n in range(4) for pair in [(2 * n, 2 * n), (2 * n + 1, 2 * n)]]
    result = run(RegionPass(scored.names, described(both), scored.true, scored.kinds, pairs, 0, ()), 1)
    assert result is not None
    draw = result.draws[0]
    n = draw.pictures_asked
    assert draw.kinds["a"] == Tally(n, n, n)
    assert draw.places == Tally(n, 2 * n, 2 * n)


def test_a_picture_that_gave_a_support_is_not_asked_about() -> None:
    result = run(hand_made(4), 1)
    assert result is not None
    asked = {draw.pictures_asked for draw in result.draws}
    assert asked == {2, 3}  # both supports of one picture, or of two
    assert all(draw.kinds["a"].true == draw.pictures_asked for draw in result.draws)


def test_a_seed_gives_the_same_draw_and_more_shots_keep_its_supports() -> None:
    trial = RegionTrial(hand_made(30))
    assert trial.run(HEAD, 2, [7]) == trial.run(HEAD, 2, [7])
    few, many = set(trial._choose(2, 7).tolist()), set(trial._choose(5, 7).tolist())
    assert len(few) == 4
    assert len(many) == 10
    assert few < many


@pytest.mark.parametrize("n_shot", [4, 5])
def test_shots_that_leave_nothing_to_ask_about_are_left_out(n_shot: int) -> None:
    assert run(hand_made(4), n_shot) is None


def test_no_region_at_all_is_recall_0_and_no_error() -> None:
    scored = hand_made(4)
    no_descriptors = Descriptors.looked_at_once(np.zeros((0, 2), np.float32))
    nothing = DescribedBoxes(np.zeros(0, int), np.zeros((0, 4), int), np.zeros(0), no_descriptors)
    result = run(RegionPass(scored.names, nothing, scored.true, scored.kinds, [], 4, ()), 1)
    assert result is not None
    draw = result.draws[0]
    assert (draw.regions.precision, draw.regions.recall, draw.named_of_matched) == (0, 0, 0)
    assert draw.named_of_true == 1.0


# with a bundle


def test_the_pass_describes_boxes_and_regions_as_the_device_does(bundle_dir: Path, line_dir: Path) -> None:
    scored = describe_boxes(Inspector.load(bundle_dir), find_region_dataset(line_dir))
    assert len(scored.names) == len(scored.true) == 8
    assert sorted(scored.kinds.tolist()) == sorted(TWO_KINDS * 4)
    assert scored.predicted.descriptors.queries.shape[1] == scored.true.descriptors.queries.shape[1]
    assert len(set(scored.predicted.picture.tolist())) == 8 - scored.passed
    assert all(scored.predicted.picture[p] == scored.true.picture[t] for p, t in scored.pairs)


def test_every_head_and_shot_count_has_its_draws(evaluation: RegionEvaluation) -> None:
    expected = [(head, n_shot) for head in ("auto", "views") for n_shot in (1, 2, 3)]
    assert [(result.head, result.n_shot) for result in evaluation.few_shot] == expected
    assert [draw.seed for draw in evaluation.few_shot[0].draws] == [5, 6, 7]
    assert evaluation.shots_left_out == []
    assert evaluation.places.true == 8


def test_document_is_json_and_agrees_with_the_evaluation(evaluation: RegionEvaluation) -> None:
    document = json.loads(json.dumps(to_document(evaluation), allow_nan=False))
    assert document["level"] == "regions"
    assert document["draw_seeds"] == [5, 6, 7]
    first = document["few_shot"][0]
    draws = evaluation.few_shot[0].draws
    assert first["f1"]["mean"] == pytest.approx(np.mean([draw.regions.f1 for draw in draws]))
    assert first["f1"]["std"] == pytest.approx(np.std([draw.regions.f1 for draw in draws], ddof=1))
    assert first["draws"][0]["kinds"].keys() == set(TWO_KINDS)


def test_text_has_every_type_and_both_tables(evaluation: RegionEvaluation) -> None:
    text = to_text(evaluation)
    assert "IoU > 0.33" in text
    assert all(kind in text for kind in TWO_KINDS)
    assert "views, 3 shots" in text
    assert "pictures that gave a support are not asked about" in text


def test_more_shots_than_boxes_are_reported(bundle_dir: Path, line_dir: Path) -> None:
    evaluation = evaluate_regions(bundle_dir, line_dir, Options(shots=(4,), draws=2))
    assert evaluation.shots_left_out == [4]
    assert "left out, some type has no box left" in to_text(evaluation)


def test_a_picture_that_cannot_be_read_is_left_out_and_named(bundle_dir: Path, tmp_path: Path) -> None:
    folder = boxed_line(tmp_path, per_kind=3)
    broken = folder / "test" / f"{TWO_KINDS[0]}0_test.png"
    broken.write_bytes(b"\x89PNG cut")
    evaluation = evaluate_regions(bundle_dir, folder, Options(shots=(1,), draws=1))
    assert len(evaluation.scored.names) == 5
    assert str(broken) in to_text(evaluation)


def test_no_readable_picture_is_an_error(bundle_dir: Path, tmp_path: Path) -> None:
    folder = boxed_line(tmp_path, per_kind=1)
    for path in (folder / "test").iterdir():
        path.write_bytes(b"")
    with pytest.raises(PictureError, match=r"no box in a readable picture; the first: .* the file is empty"):
        evaluate_regions(bundle_dir, folder, Options(shots=(1,), draws=1))


def test_a_box_outside_its_picture_stops_with_its_line(bundle_dir: Path, tmp_path: Path) -> None:
    folder = boxed_line(tmp_path, per_kind=1)
    path = folder / "boxes" / f"{TWO_KINDS[0]}0.csv"
    path.write_text(f"x1,y1,x2,y2,type\n0,0,9999,5,{TWO_KINDS[0]}\n")
    with pytest.raises(CalibrationError, match=r"line 2: box 0,0,9999,5 leaves its picture"):
        evaluate_regions(bundle_dir, folder)


def test_the_command_takes_boxes_writes_a_report_and_asks_for_ten_shots_by_itself(
    bundle_dir: Path, line_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = run_oddkind("evaluate", str(bundle_dir), str(line_dir), "--draws", "2", "--json", "--out", str(out))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["level"] == "regions"
    assert [row["n_shot"] for row in printed["few_shot"]] == [1, 2]
    assert printed["shots_left_out"] == [5, 10]
    assert json.loads((out / "evaluation.json").read_text()) == printed
    assert "Regions found" in (out / "evaluation.txt").read_text()


def test_the_command_ends_with_1_when_a_picture_was_left_out(bundle_dir: Path, tmp_path: Path) -> None:
    folder = boxed_line(tmp_path, per_kind=2)
    (folder / "test" / f"{TWO_KINDS[0]}0_test.png").write_bytes(b"")
    result = run_oddkind("evaluate", str(bundle_dir), str(folder), "--draws", "1", "--shots", "1")
    assert result.exit_code == 1
    assert "the file is empty" in result.output


def test_a_head_for_whole_pictures_is_refused(bundle_dir: Path, line_dir: Path) -> None:
    with pytest.raises(UsageError, match="paper"):
        evaluate_regions(bundle_dir, line_dir, Options(heads=("paper",), good_dir=line_dir))
