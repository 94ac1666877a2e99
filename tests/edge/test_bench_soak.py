"""Memory over many frames, and what a second camera costs: small runs with real pictures, no figure judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_oddkind

from edge import bench_cameras
from edge.bench_cameras import compare_cameras
from edge.bench_pictures import MAX_PICTURES, few_pictures
from edge.bench_soak import Trend, soak
from edge.bench_worker import generate_frame
from edge.errors import PictureError, UsageError
from edge.inspector import Inspector
from edge.machine import rss_kib
from edge.pictures import read_picture, write_picture

FRAME_WH = (96, 64)


@pytest.fixture
def inspector(bundle_dir: Path, tmp_path: Path) -> Inspector:
    return Inspector.load(bundle_dir, classes_path=tmp_path / "none.npz")


# --- memory


def test_a_trend_is_the_line_and_how_sure_it_is() -> None:
    frames = np.arange(0, 10_000, 100)
    assert Trend.of(frames, 5000 + 0.25 * frames) == Trend(250.0, 0.0)
    rng = np.random.default_rng(0)
    noisy = Trend.of(frames, 5000 + rng.normal(0, 30, len(frames)))
    assert abs(noisy.slope_kib_per_1000_frames) < 3 * noisy.standard_error
    # The textbook's formula: sigma / (n^0.5 * standard deviation of x).
    assert noisy.standard_error == pytest.approx(30 / (10 * np.std(frames / 1000)), rel=0.2)


def test_resident_memory_is_what_the_process_holds_now() -> None:
    before = rss_kib()
    ballast = np.ones(20_000_000)
    during = rss_kib()
    assert during - before > 0.9 * ballast.nbytes / 1024
    del ballast
    assert rss_kib() < during - 100_000


def test_a_soak_treats_every_other_frame_as_rejected_and_types_it(inspector: Inspector) -> None:
    report = soak(inspector, few_pictures(None, FRAME_WH), 120)
    assert (report.frames, report.good, report.rejected, report.pictures) == (120, 60, 60, 4)
    assert report.warm_up_frames == 12
    assert [frame for frame, _ in report.samples_kib] == list(range(12, 121))
    assert report.start_mb <= report.most_mb and report.end_mb <= report.most_mb
    assert inspector.classifier.names  # typing had classes to compare with
    document = json.loads(json.dumps(report.to_document(), allow_nan=False))
    assert set(document["trend"]) == {"slope_kib_per_1000_frames", "standard_error"}
    text = report.to_text()
    assert "KiB per 1,000 frames" in text and "60 treated as good, 60 as rejected" in text


def test_a_soak_that_cannot_show_a_slope_is_refused(inspector: Inspector) -> None:
    with pytest.raises(UsageError, match="at least 100 frames"):
        soak(inspector, few_pictures(None, FRAME_WH), 99)


# --- cameras


def test_several_cameras_get_the_same_number_of_frames(
    inspector: Inspector, good_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_cameras, "ROUNDS", 1)
    report = compare_cameras(inspector, few_pictures(good_dir, FRAME_WH), 3, 30, notify=pytest.fail)
    assert sum(report.frames_per_camera) == 30
    assert report.fairness == min(report.frames_per_camera) / max(report.frames_per_camera) >= 0.5
    assert report.ratio == pytest.approx(report.frames_per_s / report.one_camera_frames_per_s, rel=0.01)
    assert json.loads(json.dumps(report.to_document()))["cameras"] == 3
    assert "3 cameras: " in report.to_text() and "fewest / most" in report.to_text()


@pytest.mark.parametrize(("cameras", "frames"), [(1, 100), (65, 1000), (2, 19)])
def test_a_comparison_that_cannot_be_made_is_refused(inspector: Inspector, cameras: int, frames: int) -> None:
    with pytest.raises(UsageError, match="expected 2 to 64 cameras and at least ten"):
        compare_cameras(inspector, few_pictures(None, FRAME_WH), cameras, frames)


# --- pictures


def test_a_generated_frame_and_a_picture_come_with_their_reflections(tmp_path: Path) -> None:
    generated = few_pictures(None, FRAME_WH)
    write_picture(tmp_path / "part.png", generate_frame(FRAME_WH))
    given = few_pictures(tmp_path / "part.png", (1, 1))
    assert len(generated) == len(given) == 4
    for one, other in zip(generated, given, strict=True):
        assert np.array_equal(one, other)
        assert one.flags["C_CONTIGUOUS"]
    assert len({frame.tobytes() for frame in given}) == 4


def test_of_a_folder_a_few_are_taken_from_first_to_last(good_dir: Path) -> None:
    paths = sorted(good_dir.iterdir())
    pictures = few_pictures(good_dir, FRAME_WH)
    assert len(pictures) == MAX_PICTURES < len(paths)
    assert np.array_equal(pictures[0], read_picture(paths[0]))
    assert np.array_equal(pictures[-1], read_picture(paths[-1]))


def test_a_folder_without_pictures_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures in this folder"):
        few_pictures(tmp_path, FRAME_WH)
    with pytest.raises(PictureError, match="cannot be read"):
        few_pictures(tmp_path / "nothing.png", FRAME_WH)


# --- the command


def test_the_command_soaks_and_prints_json(bundle_dir: Path) -> None:
    result = run_oddkind("bench", str(bundle_dir), "--frame-size", "96x64", "--soak", "100", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["frames"] == 100
    assert len(document["samples_kib"]) > 10


def test_the_command_compares_cameras(bundle_dir: Path, good_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cameras, "ROUNDS", 1)
    arguments = ("--picture", str(good_dir), "--cameras", "2", "--frames", "20", "--precision", "fp32")
    result = run_oddkind("bench", str(bundle_dir), *arguments)
    assert result.exit_code == 0, result.stderr
    assert "fp32" in result.stdout and "of one camera's" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--soak", "200", "--cameras", "2"), "give one of them"),
        (("--soak", "5"), "at least 100 frames"),
        (("--cameras", "1"), "expected 2 to 64 cameras"),
        (("--backend", "openvino"), "go with --soak or --cameras"),
        (("--threads", "2"), "go with --soak or --cameras"),
        (("--soak", "many"), "--soak"),
    ],
)
def test_wrong_usage_is_one_clear_line(bundle_dir: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run_oddkind("bench", str(bundle_dir), "--frame-size", "96x64", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
