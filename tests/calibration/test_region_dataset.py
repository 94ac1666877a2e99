from pathlib import Path

import numpy as np
import pytest

from calibration.region_dataset import find_region_dataset, is_region_dataset, read_boxes
from edge.errors import CalibrationError
from edge.pictures import write_picture

HEADER = "x1,y1,x2,y2,type\n"
GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def board(root: Path, boxes: dict[str, str], suffix: str = "_test") -> Path:
    """A folder of 60 x 40 px pictures, one for each entry of `boxes`: name -> rows below the header."""
    for name, rows in boxes.items():
        write_picture(root / "test" / f"{name}{suffix}.png", GREY)
        (root / "boxes").mkdir(exist_ok=True)
        (root / "boxes" / f"{name}.csv").write_text(HEADER + rows)
    return root


def one_line(excinfo: pytest.ExceptionInfo[CalibrationError]) -> str:
    text = str(excinfo.value)
    assert "\n" not in text
    return text


def test_boards_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    board(tmp_path / "b", {"2": "1,2,3,4,spur\n"})
    board(tmp_path / "a", {"1": "0,0,60,40,open\n5,6,7,9,spur\n"})
    dataset = find_region_dataset(tmp_path)
    assert [picture.path.name for picture in dataset.pictures] == ["1_test.png", "2_test.png"]
    assert [box.box_xyxy for box in dataset.pictures[0].boxes] == [(0, 0, 60, 40), (5, 6, 7, 9)]
    assert dataset.kinds == ["open", "spur"]


def test_one_board_and_pictures_without_a_suffix_will_do(tmp_path: Path) -> None:
    board(tmp_path, {"1": "1,2,3,4,spur\n", "2": "1,2,3,4,open\n"}, suffix="")
    assert len(find_region_dataset(tmp_path).pictures) == 2


def test_a_picture_without_defects_has_the_header_alone(tmp_path: Path) -> None:
    board(tmp_path, {"1": "1,2,3,4,spur\n5,6,7,8,open\n", "2": ""})
    assert [len(picture.boxes) for picture in find_region_dataset(tmp_path).pictures] == [2, 0]


def test_the_layout_tells_boxes_from_folders_of_types(tmp_path: Path) -> None:
    board(tmp_path / "boards" / "a", {"1": "1,2,3,4,spur\n"})
    write_picture(tmp_path / "mvtec" / "test" / "good" / "1.png", GREY)
    assert is_region_dataset(tmp_path / "boards")
    assert is_region_dataset(tmp_path / "boards" / "a")
    assert not is_region_dataset(tmp_path / "mvtec")
    assert not is_region_dataset(tmp_path / "nowhere")


def test_a_picture_without_boxes_is_named_with_the_file_it_lacks(tmp_path: Path) -> None:
    board(tmp_path, {"1": "1,2,3,4,spur\n"})
    write_picture(tmp_path / "test" / "2_test.png", GREY)
    with pytest.raises(CalibrationError) as excinfo:
        find_region_dataset(tmp_path)
    assert str(tmp_path / "boxes" / "2.csv") in one_line(excinfo)


def test_boxes_without_a_picture_are_named(tmp_path: Path) -> None:
    board(tmp_path, {"1": "1,2,3,4,spur\n"})
    (tmp_path / "boxes" / "7.csv").write_text(HEADER)
    with pytest.raises(CalibrationError, match=r"7\.csv: no picture 7_test or 7 in"):
        find_region_dataset(tmp_path)


def test_one_type_of_defect_is_too_few(tmp_path: Path) -> None:
    board(tmp_path, {"1": "1,2,3,4,spur\n"})
    with pytest.raises(CalibrationError, match="1 pictures with boxes of 1 types, at least two types"):
        find_region_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "columns are missing, expected x1,y1,x2,y2,type"),
        (b"x,y,w,h,type\n1,2,3,4,spur\n", "columns are x,y,w,h,type, expected x1,y1,x2,y2,type"),
        (HEADER.encode() + b"1,2,3,spur\n", "line 2: '1,2,3,spur', expected"),
        (HEADER.encode() + b"1,2,3,4,spur\n1,2,3.5,4,spur\n", "line 3: '1,2,3.5,4,spur', expected"),
        (HEADER.encode() + b"1,2,3,4,spur,yes\n", "line 2"),
        (HEADER.encode() + b"3,2,3,4,spur\n", "line 2: box 3,2,3,4 is empty, expected x1 < x2 and y1 < y2"),
        (HEADER.encode() + b"1,2,3,4,\n", "line 2: type '' is"),
        (HEADER.encode() + b"1,2,3,4,unknown\n", "line 2: type 'unknown' is"),
        (b"\xff\xfe\x00\x81", "cannot be read"),
    ],
)
def test_a_broken_boxes_file_gives_one_line_with_file_and_reason(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "1.csv"
    path.write_bytes(content)
    with pytest.raises(CalibrationError) as excinfo:
        read_boxes(path)
    assert one_line(excinfo).startswith(str(path))
    assert complaint in str(excinfo.value)


def test_blanks_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "1.csv"
    path.write_text("\ufeffx1, y1, x2, y2, type\n\n1, 2, 3, 4, pin-hole\n", encoding="utf-8")
    (box,) = read_boxes(path)
    assert (box.box_xyxy, box.kind) == ((1, 2, 3, 4), "pin-hole")


@pytest.mark.parametrize("row", ["-1,2,3,4,spur", "1,-2,3,4,spur", "1,2,61,4,spur", "1,2,3,41,spur"])
def test_a_box_that_leaves_its_picture_is_named_with_its_line(tmp_path: Path, row: str) -> None:
    board(tmp_path, {"1": f"0,0,60,40,open\n{row}\n"})
    picture = find_region_dataset(tmp_path).pictures[0]
    with pytest.raises(CalibrationError, match=r"1\.csv, line 3: box .* leaves its picture of 60 x 40 px"):
        picture.check_inside((40, 60))
