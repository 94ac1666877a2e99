"""The whole inspection on rendered parts: verdicts, names, records."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge.backend import Arrays, Backend, installed_backends
from edge.enrol import enrol
from edge.errors import BundleError
from edge.inspector import Inspector, StageClock
from edge.manifest import BackendName
from edge.pictures import read_picture
from edge.result import UNKNOWN, Inspection, Provenance, record_schema

STAGES = ["preprocess", "backbone", "memory_bank", "map", "regions", "typing"]


@pytest.fixture
def inspector(bundle_dir: Path, tmp_path: Path) -> Inspector:
    """The shared bundle, with a class store of its own."""
    return Inspector.load(bundle_dir, classes_path=tmp_path / "classes.npz")


def inspect(inspector: Inspector, path: Path, always_type: bool = False) -> Inspection:
    provenance = Provenance("test", 0, "2026-01-01T00:00:00.000Z", path.name)
    return inspector.inspect(read_picture(path), provenance, always_type)


def checked_record(inspection: Inspection) -> dict[str, object]:
    """The record as a reader of the JSON gets it, valid by the schema that ships."""
    record: dict[str, object] = json.loads(inspection.to_json())
    jsonschema.validate(record, record_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    return record


def odd_pictures(inspector: Inspector, folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.png")) if inspect(inspector, p).verdict == "defect"]


def test_most_good_parts_are_good_and_most_defects_are_not(
    inspector: Inspector, good_dir: Path, defects_dir: Path
) -> None:
    good = [inspect(inspector, p) for p in sorted(good_dir.glob("*.png"))[:8]]
    odd = [inspect(inspector, p) for p in sorted(defects_dir.rglob("*.png"))]

    assert sum(i.verdict == "good" for i in good) >= 7
    assert sum(i.verdict == "defect" for i in odd) >= 0.6 * len(odd)
    assert np.median([i.anomaly_score for i in odd]) > max(i.anomaly_score or 0 for i in good)


def test_every_verdict_follows_from_its_score(inspector: Inspector, good_dir: Path, defects_dir: Path) -> None:
    for path in [*sorted(good_dir.glob("*.png"))[:4], *sorted(defects_dir.rglob("*.png"))[::3]]:
        inspection = inspect(inspector, path)
        assert inspection.anomaly_score is not None
        assert (inspection.verdict == "good") == (inspection.anomaly_score <= inspection.image_threshold)
        assert bool(inspection.regions) == (inspection.verdict == "defect")
        assert list(inspection.latency_ms) == STAGES
        checked_record(inspection)


def test_regions_are_strongest_first_and_inside_the_picture(inspector: Inspector, defects_dir: Path) -> None:
    for path in odd_pictures(inspector, defects_dir)[::2]:
        regions = inspect(inspector, path).regions
        peaks = [region.peak_score for region in regions]
        assert peaks == sorted(peaks, reverse=True)
        for region in regions:
            x0, y0, x1, y1 = region.box_xyxy
            assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 320
            assert 1 <= region.area_px <= (x1 - x0) * (y1 - y0)
            assert (region.defect_class, region.relation_score, region.ranking) == (None, None, ())


def test_the_same_frame_gives_the_same_record(inspector: Inspector, defects_dir: Path) -> None:
    path = sorted(defects_dir.rglob("*.png"))[0]
    first, second = (checked_record(inspect(inspector, path)) for _ in range(2))

    del first["latency_ms"], second["latency_ms"]
    assert first == second


@pytest.mark.parametrize("backend", installed_backends())
def test_a_part_scores_nearly_the_same_on_every_runtime(
    inspector: Inspector, bundle_dir: Path, defects_dir: Path, backend: BackendName
) -> None:
    path = sorted(defects_dir.rglob("*.png"))[0]
    reference = inspect(inspector, path).anomaly_score

    score = inspect(Inspector.load(bundle_dir, backend=backend), path).anomaly_score

    assert score == pytest.approx(reference, rel=0.1)


def test_a_new_class_is_used_after_reload_and_not_before(inspector: Inspector, defects_dir: Path) -> None:
    path, other = odd_pictures(inspector, defects_dir)[:2]
    assert not inspector.reload_classes()

    enrol(Inspector.load(inspector.bundle.folder, classes_path=inspector.classes_path), "scratch", [path, other])

    assert inspect(inspector, path).defect_class is None
    assert inspector.reload_classes()
    inspection = inspect(inspector, path)
    assert inspection.defect_class == "scratch"
    assert [c.defect_class for c in inspection.regions[0].ranking] == ["scratch"]
    assert 0 <= (inspection.regions[0].relation_score or -1) <= 1
    checked_record(inspection)
    inspector.classes_path.unlink()
    assert inspector.reload_classes()
    assert inspect(inspector, path).defect_class is None


def test_what_fits_no_enrolled_class_is_unknown_with_its_ranking(inspector: Inspector, defects_dir: Path) -> None:
    pictures = odd_pictures(inspector, defects_dir)
    enrol(inspector, "scratch", pictures[:2])
    inspector.reload_classes()
    inspector.classifier.unknown_threshold = 1.1  # nothing fits that well

    inspection = inspect(inspector, pictures[-1])

    assert inspection.defect_class == UNKNOWN
    assert inspection.regions[0].ranking[0].defect_class == "scratch"
    checked_record(inspection)


def test_a_good_part_is_typed_only_on_request(inspector: Inspector, good_dir: Path, defects_dir: Path) -> None:
    enrol(inspector, "scratch", odd_pictures(inspector, defects_dir)[:2])
    inspector.reload_classes()
    good = next(p for p in sorted(good_dir.glob("*.png")) if inspect(inspector, p).verdict == "good")

    plain, typed = inspect(inspector, good), inspect(inspector, good, always_type=True)

    assert (plain.verdict, plain.regions, plain.defect_class) == ("good", (), None)
    assert typed.verdict == "good"
    assert typed.regions[0].ranking[0].defect_class == "scratch"
    checked_record(typed)


def test_a_broken_store_is_refused_while_the_old_classes_go_on(inspector: Inspector, defects_dir: Path) -> None:
    pictures = odd_pictures(inspector, defects_dir)[:2]
    enrol(inspector, "scratch", pictures)
    inspector.reload_classes()
    inspector.classes_path.write_bytes(b"half a store")

    with pytest.raises(BundleError, match="not a readable class store"):
        inspector.reload_classes()

    assert inspect(inspector, pictures[0]).defect_class == "scratch"


class BrokenBackbone(Backend):
    """A graph whose arithmetic went wrong in one value of one patch."""

    def __init__(self, whole: Backend, value: float) -> None:
        self.whole, self.value = whole, value

    def run(self, inputs: Arrays) -> np.ndarray:
        embeddings = self.whole.run(inputs)
        embeddings[0, 100, 0] = self.value
        return embeddings


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_no_verdict_and_never_good(
    inspector: Inspector, good_dir: Path, value: float
) -> None:
    inspector.backbone = BrokenBackbone(inspector.backbone, value)

    with np.errstate(invalid="ignore"):
        inspection = inspect(inspector, sorted(good_dir.glob("*.png"))[0])

    assert inspection.verdict == "no_verdict"
    assert "anomaly score is" in (inspection.error or "")
    checked_record(inspection)


@pytest.mark.parametrize("frame_hw", [(8, 8), (8, 900), (1000, 30)])
def test_a_frame_of_any_size_has_regions_inside_it(inspector: Inspector, frame_hw: tuple[int, int]) -> None:
    frame_bgr = np.random.default_rng(0).integers(0, 256, (*frame_hw, 3), dtype=np.uint8)

    inspection = inspector.inspect(frame_bgr, Provenance("test", 3, "2026-01-01T00:00:00.000Z"))

    assert inspection.verdict == "defect"
    for region in inspection.regions:
        x0, y0, x1, y1 = region.box_xyxy
        assert 0 <= x0 < x1 <= frame_hw[1] and 0 <= y0 < y1 <= frame_hw[0]
    checked_record(inspection)


def test_a_clock_keeps_one_figure_a_stage() -> None:
    clock = StageClock()
    with clock.stage("a"), clock.stage("b"):
        pass

    assert sorted(clock.latency_ms) == ["a", "b"]
    assert 0 <= clock.latency_ms["b"] <= clock.latency_ms["a"]
