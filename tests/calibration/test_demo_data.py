"""The demo's folders: the user's pictures are linked, never changed, and only its own output is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.dataset import find_dataset
from calibration.demo_data import DemoFolder, link_line, link_unseen, plan_line, write_video
from calibration.demo_figures import count
from edge.errors import EnrolmentError, UsageError
from edge.pictures import iter_picture_paths, write_picture


def pictures(folder: Path, count: int, size_wh: tuple[int, int] = (32, 24)) -> list[Path]:
    """`count` grey pictures 00.png, 01.png ..., each of its own grey."""
    paths = [folder / f"{number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        write_picture(path, np.full((size_wh[1], size_wh[0], 3), 8 * number, dtype=np.uint8))
    return paths


def names(folder: Path) -> list[str]:
    return [path.name for path in iter_picture_paths(folder)]


def test_every_fifth_good_picture_is_held_out_when_the_user_has_no_good_test_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "good", 11)
    pictures(tmp_path / "bad" / "dent", 3)
    link_line(tmp_path / "line", plan_line(tmp_path / "good", tmp_path / "bad"))
    assert names(tmp_path / "line/test/good") == ["00.png", "05.png", "10.png"]
    assert len(names(tmp_path / "line/train/good")) == 8


def test_the_test_folder_of_an_mvtec_layout_brings_its_good_pictures_and_masks(tmp_path: Path) -> None:
    pictures(tmp_path / "mvtec/train/good", 10)
    pictures(tmp_path / "mvtec/test/good", 2)
    pictures(tmp_path / "mvtec/test/dent", 3)
    for path in pictures(tmp_path / "mvtec/ground_truth/dent", 3):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    link_line(tmp_path / "line", plan_line(tmp_path / "mvtec/train/good", tmp_path / "mvtec/test"))
    dataset = find_dataset(tmp_path / "line")
    assert len(names(tmp_path / "line/train/good")) == 10
    assert [sample.kind for sample in dataset.samples] == ["good"] * 2 + ["dent"] * 3
    assert all(sample.mask_path for sample in dataset.samples if sample.is_defect)


def test_pictures_of_one_name_in_several_folders_are_all_linked(tmp_path: Path) -> None:
    pictures(tmp_path / "good/monday", 5)
    pictures(tmp_path / "good/tuesday", 5)
    pictures(tmp_path / "bad/good", 1)
    pictures(tmp_path / "bad/dent", 3)
    link_line(tmp_path / "line", plan_line(tmp_path / "good", tmp_path / "bad"))
    linked = {path.resolve() for path in iter_picture_paths(tmp_path / "line/train/good")}
    assert linked == set(iter_picture_paths((tmp_path / "good").resolve()))


@pytest.mark.parametrize(
    ("good", "kinds", "message"),
    [
        (9, {"dent": 3}, "good: 9 pictures, at least 10 needed"),
        (10, {"dent": 2}, "dent: 2 pictures, at least 3 needed"),
        (10, {}, "no subfolders"),
        (10, {"good": 3}, "no subfolders"),
    ],
)
def test_too_few_pictures_are_refused_before_anything_runs(
    tmp_path: Path, good: int, kinds: dict[str, int], message: str
) -> None:
    pictures(tmp_path / "good", good)
    (tmp_path / "bad").mkdir()
    for kind, number in kinds.items():
        pictures(tmp_path / "bad" / kind, number)
    with pytest.raises(UsageError, match=message):
        plan_line(tmp_path / "good", tmp_path / "bad")


def test_a_folder_whose_name_cannot_be_a_class_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "good", 10)
    pictures(tmp_path / "bad/unknown", 3)
    with pytest.raises(EnrolmentError, match="'unknown'"):
        plan_line(tmp_path / "good", tmp_path / "bad")


def test_unseen_pictures_are_the_test_pictures_without_the_enrolled(tmp_path: Path) -> None:
    dents = pictures(tmp_path / "line/test/dent", 4)
    pictures(tmp_path / "line/test/good", 2)
    link_unseen(tmp_path / "unseen", tmp_path / "line", dents[:2])
    assert names(tmp_path / "unseen/dent") == ["02.png", "03.png"]
    assert names(tmp_path / "unseen/good") == ["00.png", "01.png"]


def test_the_film_shows_the_kinds_in_turn_and_stretches_to_one_size(tmp_path: Path) -> None:
    pictures(tmp_path / "unseen/dent", 1, size_wh=(64, 48))
    pictures(tmp_path / "unseen/good", 3, size_wh=(32, 32))
    assert write_video(tmp_path / "film.mkv", tmp_path / "unseen", frames=3) == 3
    film = cv2.VideoCapture(str(tmp_path / "film.mkv"))
    shown = [film.read()[1] for _ in range(3)]
    assert not film.read()[0]
    assert [frame.shape for frame in shown] == [(48, 64, 3)] * 3
    # dent 00, good 00, good 01: greys 0, 0, 8, and nothing lost
    assert [(frame.min(), frame.max()) for frame in shown] == [(0, 0), (0, 0), (8, 8)]


def test_a_second_demo_removes_what_the_first_made_and_nothing_else(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    assert not folder.start_afresh()
    pictures(folder.line, 1)
    pictures(folder.root / ".pack.partial-x1", 1)
    folder.run_records.write_text("{}\n")
    (folder.root / "my-notes.txt").write_text("keep")
    assert folder.start_afresh()
    assert sorted(path.name for path in folder.root.iterdir()) == ["demo.json", "my-notes.txt"]


def test_removing_linked_pictures_leaves_the_users_own(tmp_path: Path) -> None:
    mine = pictures(tmp_path / "good", 10)
    pictures(tmp_path / "bad/dent", 3)
    folder = DemoFolder(tmp_path / "demo")
    folder.start_afresh()
    link_line(folder.line, plan_line(tmp_path / "good", tmp_path / "bad"))
    folder.start_afresh()
    assert not folder.line.exists()
    assert all(path.is_file() for path in mine)


def test_a_folder_that_is_not_a_demos_is_refused_and_left_alone(tmp_path: Path) -> None:
    mine = pictures(tmp_path / "line", 2)
    with pytest.raises(UsageError, match="is not empty"):
        DemoFolder(tmp_path).start_afresh()
    assert all(path.is_file() for path in mine)


def test_figures_count_verdicts_and_names_against_the_folders(tmp_path: Path) -> None:
    def line(path: str, verdict: str, defect_class: str | None, ms: float = 5) -> str:
        latency_ms = {"backbone": ms, "typing": 1, "wait": 900}
        record = {"path": path, "verdict": verdict, "defect_class": defect_class, "latency_ms": latency_ms}
        return json.dumps({**record, "error": "broken" if verdict == "no_verdict" else None}) + "\n"

    (tmp_path / "results.jsonl").write_text(
        line("dent/0.png", "defect", "dent")
        + line("dent/1.png", "defect", "unknown")
        + line("dent/2.png", "good", None)
        + line("good/0.png", "good", None)
        + line("good/1.png", "no_verdict", None)
    )
    (tmp_path / "run.jsonl").write_text("".join(line("", "good", None, ms) for ms in (3, 5, 40)))
    figures = count(tmp_path / "results.jsonl", tmp_path / "run.jsonl")
    assert [(k.kind, k.pictures, k.rejected, k.named_right) for k in figures.kinds] == [
        ("dent", 3, 2, 1),
        ("good", 2, 0, 0),
    ]
    assert (figures.frames, figures.frame_ms) == (3, 6.0)
    # the part without a verdict has not passed
    assert "1 of 2 good parts passed; 2 of 3 bad parts were rejected, 1 of them by the right name" in str(figures)
