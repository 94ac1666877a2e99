"""Region of interest, mask and tiles, as a device meets them: boxes in the frame's pixels, and nothing seen outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import PictureError
from edge.inspector import Inspector
from edge.manifest import MANIFEST_NAME
from edge.pictures import FrameBgr, read_picture, write_picture
from edge.result import Provenance
from tests.conftest import run_oddkind

RED = (30, 30, 200)
FAST = ("--bank-rows", "300")


def marked(frame_bgr: FrameBgr, x: int, y: int) -> FrameBgr:
    """The frame with a dark mark of some pixels around (x, y)."""
    marked_bgr = frame_bgr.copy()
    cv2.ellipse(marked_bgr, (x, y), (14, 9), 30, 0, 360, RED, cv2.FILLED, cv2.LINE_AA)
    return marked_bgr


@pytest.fixture(scope="module")
def board(boards_dir: Path) -> FrameBgr:
    return read_picture(sorted(boards_dir.iterdir())[0])


@pytest.fixture(scope="module")
def framed_dir(tmp_path_factory: pytest.TempPathFactory, good_dir: Path) -> Path:
    """Good parts somewhere in a larger frame of noise: the part at x 100, y 60."""
    folder = tmp_path_factory.mktemp("framed")
    for number, path in enumerate(sorted(good_dir.iterdir())):
        write_picture(folder / path.name, framed(read_picture(path), number))
    return folder


def framed(part_bgr: FrameBgr, seed: int) -> FrameBgr:
    H, W = part_bgr.shape[:2]
    frame_bgr = np.random.default_rng(seed).integers(0, 255, (H + 100, W + 180, 3), dtype=np.uint8)
    frame_bgr[60 : 60 + H, 100 : 100 + W] = part_bgr
    return frame_bgr


@pytest.fixture(scope="module")
def roi_bundle_dir(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path, framed_dir: Path, good_dir: Path) -> Path:
    """Calibrated with the part as region of interest, its upper left quarter masked."""
    folder = tmp_path_factory.mktemp("roi")
    H, W = read_picture(sorted(good_dir.iterdir())[0]).shape[:2]
    mask = np.full((H + 100, W + 180, 3), 255, np.uint8)
    mask[: 60 + H // 2, : 100 + W // 2] = 0
    write_picture(folder / "mask.png", mask)
    result = run_oddkind(
        *("calibrate", str(framed_dir), "--pack", str(pack_dir), "--out", str(folder / "bundle"), *FAST),
        *("--roi", f"100,60,{W},{H}", "--mask", str(folder / "mask.png")),
    )
    assert result.exit_code == 0, result.output
    return folder / "bundle"


def test_what_is_found_in_a_region_of_interest_is_told_in_pixels_of_the_frame(
    roi_bundle_dir: Path, good_dir: Path
) -> None:
    inspector = Inspector.load(roi_bundle_dir)
    part_bgr = read_picture(sorted(good_dir.iterdir())[0])
    H, W = part_bgr.shape[:2]
    x, y = int(W * 0.7), int(H * 0.6)
    frame_bgr = framed(marked(part_bgr, x, y), 99)
    inspection, seen = inspector.examine(frame_bgr, Provenance("t", 0, ""))
    assert inspection.verdict == "defect"
    x0, y0, x1, y1 = inspection.regions[0].box_xyxy
    assert x0 <= 100 + x < x1 and y0 <= 60 + y < y1
    aspect = seen.anomaly_map.shape[1] / seen.anomaly_map.shape[0]
    assert aspect == pytest.approx((W + 180) / (H + 100) * H / W, rel=0.05)


def test_noise_outside_and_marks_under_the_mask_are_not_seen(roi_bundle_dir: Path, good_dir: Path) -> None:
    inspector = Inspector.load(roi_bundle_dir)
    part_bgr = read_picture(sorted(good_dir.iterdir())[0])
    H, W = part_bgr.shape[:2]
    seen = inspector.detect(framed(marked(part_bgr, W // 5, H // 5), 99))
    h = len(seen.anomaly_map)
    assert (seen.anomaly_map[: 50 * h // (H + 100)] == 0).all()
    assert inspector.inspect(framed(marked(part_bgr, W // 5, H // 5), 99), Provenance("t", 0, "")).verdict == "good"


def test_a_frame_of_another_size_gets_no_verdict_and_says_why(
    roi_bundle_dir: Path, board: FrameBgr, tmp_path: Path
) -> None:
    with pytest.raises(PictureError, match="640 x 640 px, region of interest and mask were drawn on"):
        Inspector.load(roi_bundle_dir).detect(board)
    write_picture(tmp_path / "in" / "a.png", board)
    result = run_oddkind("score", str(roi_bundle_dir), str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    row = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert row["verdict"] == "no_verdict" and "drawn on" in row["error"]


def test_a_defect_of_some_pixels_on_a_large_picture_is_found_where_it_is_and_named(
    tiled_bundle_dir: Path, board: FrameBgr, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiled_bundle_dir, bundle)
    write_picture(tmp_path / "one.png", marked(board, 300, 310))
    write_picture(tmp_path / "two.png", marked(board, 520, 130))
    result = run_oddkind("enrol", str(bundle), "dot", str(tmp_path / "one.png"), str(tmp_path / "two.png"))
    assert result.exit_code == 0, result.output
    inspection = Inspector.load(bundle).inspect(marked(board, 255, 256), Provenance("t", 0, ""))
    assert inspection.verdict == "defect" and inspection.defect_class == "dot"
    x0, y0, x1, y1 = inspection.regions[0].box_xyxy
    assert x0 <= 255 < x1 and y0 <= 256 < y1
    assert max(x1 - x0, y1 - y0) < 150


def test_a_good_large_picture_is_good(tiled_bundle_dir: Path, board: FrameBgr) -> None:
    assert Inspector.load(tiled_bundle_dir).inspect(board, Provenance("t", 0, "")).verdict == "good"


def test_a_closeup_does_not_hang_on_where_the_tiles_lie(tiled_bundle_dir: Path, board: FrameBgr) -> None:
    inspector = Inspector.load(tiled_bundle_dir)
    frame_bgr = marked(board, 256, 310)
    seen = inspector.detect(frame_bgr)
    close = inspector.closeup(frame_bgr, seen, inspector.find_regions(seen)[0])
    assert close.picture_bgr.shape == (256, 256, 3)
    assert close.region.mask.shape == close.anomaly.anomaly_map.shape
    x0, y0, x1, y1 = close.region.box_xyxy((256, 256))
    assert x0 < 128 < x1 and y0 < 128 < y1


def test_a_mask_that_does_not_fit_its_manifest_is_refused(roi_bundle_dir: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(roi_bundle_dir, bundle)
    document = json.loads((bundle / MANIFEST_NAME).read_text())
    document["view"]["frame_hw"] = [100, 100]
    (bundle / MANIFEST_NAME).write_text(json.dumps(document))
    result = run_oddkind("score", str(bundle), str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code != 0 and "inspection_mask.png" in result.stderr


def test_more_good_large_pictures_can_be_added(tiled_bundle_dir: Path, boards_dir: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiled_bundle_dir, bundle)
    new = cv2.convertScaleAbs(read_picture(sorted(boards_dir.iterdir())[1]), alpha=1, beta=6)
    write_picture(tmp_path / "new.png", np.asarray(new, dtype=np.uint8))
    result = run_oddkind("calibrate", str(tmp_path / "new.png"), "--add", "--out", str(bundle), "--even-far")
    assert result.exit_code == 0, result.output
    sources = json.loads((bundle / "provenance.json").read_text())["sources"]
    assert "new.png#0,0,256,256" in sources


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--overlap", "10"], "--overlap goes with --tile"),
        (["--tile", "256", "--overlap", "200"], "at most half of --tile, 128"),
        (["--tile", "2000"], "640 x 640 px, tiles of 2000 px"),
        (["--roi", "600,0,100,100"], "expected x,y,w,h inside"),
        (["--roi", "1,2,3"], "expected four whole numbers"),
        (["--roi", "0,0,100,100", "--tile", "256"], "100 x 100 px, tiles of 256 px"),
        (["--tile", "256", "--tune"], "leave --tile, --aligned, --roi and --mask out"),
        (["--mask", "absent.png"], "absent.png"),
        (["--aligned"], "--aligned goes with --tile"),
        (["--tile", "256", "--aligned", "--search", "hnsw"], "--search hnsw: with --aligned"),
        (["--tile", "256", "--aligned", "--bank-rows", "500000"], "for each of 9 places are more than 1000000"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(
    options: list[str], complaint: str, pack_dir: Path, boards_dir: Path, tmp_path: Path
) -> None:
    result = run_oddkind(
        "calibrate", str(boards_dir), "--pack", str(pack_dir), "--out", str(tmp_path / "out"), *options
    )
    assert result.exit_code != 0
    assert complaint in result.stderr and len(result.stderr.strip().splitlines()) <= 1
    assert not (tmp_path / "out").exists()


def test_a_black_or_wrongly_sized_mask_is_refused(pack_dir: Path, boards_dir: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "black.png", np.zeros((640, 640, 3), np.uint8))
    write_picture(tmp_path / "small.png", np.full((64, 64, 3), 255, np.uint8))
    for name, complaint in (("black.png", "nothing white in it"), ("small.png", "64 x 64 px, the pictures are 640")):
        result = run_oddkind(
            *("calibrate", str(boards_dir), "--pack", str(pack_dir), "--out", str(tmp_path / "out")),
            *("--mask", str(tmp_path / name)),
        )
        assert result.exit_code != 0 and complaint in result.stderr
