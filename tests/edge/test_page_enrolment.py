"""Rejects become a class from the page: looked at first, confirmed, taken over by the loop, undone."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from mosquitto import free_port
from page_client import Answer, ask

from edge.class_store import ClassStore, read_class_store, update_class_store
from edge.enrol import enrol
from edge.inspector import Inspector
from edge.outputs.http_output import HttpOutput, HttpSink
from edge.pictures import FrameBgr, read_picture
from edge.result import Inspection, Provenance, utc_now
from edge.setting import InspectorSetting
from edge.station.control import Control


@dataclass
class Line:
    """A station without its loop: whoever tests inspects."""

    sink: HttpSink
    port: int
    inspector: Inspector
    kinds: dict[str, list[Path]]
    frames: int = 0

    def inspect(self, kind: str, index: int) -> tuple[Inspection, FrameBgr]:
        """One part through inspector and page, classes taken over as the loop does."""
        self.inspector.reload_classes()
        frame_bgr = read_picture(self.kinds[kind][index])
        self.frames += 1
        inspection = self.inspector.inspect(frame_bgr, Provenance("camera", self.frames, utc_now()))
        self.sink.write(inspection, frame_bgr)
        return inspection, frame_bgr

    def preview(self, name: str, *inspections: Inspection) -> Answer:
        """What the page would be told."""
        body = {"name": name, "result_ids": [i.result_id for i in inspections]}
        return ask(self.port, "/api/enrolment/preview", body)

    def enrol(self, name: str, *inspections: Inspection) -> Answer:
        """Previewed and confirmed."""
        return ask(self.port, "/api/enrolment/confirm", {"draft_id": self.preview(name, *inspections).json["draft_id"]})


def stored(inspector: Inspector) -> ClassStore:
    """What is enrolled."""
    return read_class_store(inspector.classes_path, inspector.manifest.bundle_id, len(inspector.centre))


@pytest.fixture
def line(bundle_dir: Path, defects_dir: Path, tmp_path: Path) -> Iterator[Line]:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_dir, bundle)
    inspector = Inspector.load(bundle)
    settings = HttpOutput(port=free_port())
    kinds = {folder.name: sorted(folder.iterdir()) for folder in sorted(defects_dir.iterdir())}
    with HttpSink(settings, ["camera"], Control(InspectorSetting.of(inspector))) as sink:
        assert isinstance(sink, HttpSink)
        yield Line(sink, settings.port, inspector, kinds)


@pytest.fixture
def two_kinds(line: Line) -> list[str]:
    """Kinds of defects of which this bundle rejects every part."""
    sure = [
        kind
        for kind, paths in line.kinds.items()
        if all(line.inspector.detect(read_picture(p)).anomaly_score > line.inspector.image_threshold for p in paths)
    ]
    assert len(sure) >= 2
    return sure[:2]


def test_enrolment_from_the_page_is_that_of_the_command_and_names_the_next_part(
    line: Line, two_kinds: list[str], tmp_path: Path
) -> None:
    first, second = ([line.inspect(kind, n)[0] for n in (0, 1)] for kind in two_kinds)
    assert first[0].defect_class is None
    said = line.preview("chipped", *first).json
    assert [s["own_score"] is not None for s in said["supports"]] == [True, True]
    assert not line.inspector.classes_path.exists()  # it does not count yet
    assert line.inspect(two_kinds[0], 2)[0].defect_class is None
    confirmed = ask(line.port, "/api/enrolment/confirm", {"draft_id": said["draft_id"]}).json
    assert (confirmed["classes"], confirmed["undo"]) == ({"chipped": 2}, "chipped")
    assert line.enrol("other one", *second).json["classes"] == {"chipped": 2, "other one": 2}
    named = line.inspect(two_kinds[0], 2)[0]
    assert named.regions[0].ranking[0].defect_class == "chipped"

    alone = Inspector.load(line.inspector.bundle.folder, classes_path=tmp_path / "command.npz")
    enrol(alone, "chipped", line.kinds[two_kinds[0]][:2])
    enrol(alone, "other one", line.kinds[two_kinds[1]][:2])
    ours, theirs = stored(line.inspector), stored(alone)
    assert (ours.descriptors == theirs.descriptors).all()
    assert [(s.picture_sha256, s.box_xyxy) for s in ours.supports] == [
        (s.picture_sha256, s.box_xyxy) for s in theirs.supports
    ]


def test_undo_restores_the_classes_as_they_were(line: Line, two_kinds: list[str]) -> None:
    first, second = ([line.inspect(kind, n)[0] for n in (0, 1)] for kind in two_kinds)
    line.enrol("a", *first)
    before = line.inspector.classes_path.read_bytes()
    line.enrol("b", *second)
    assert line.inspector.classes_path.read_bytes() != before
    undone = ask(line.port, "/api/enrolment/undo", {}).json
    assert (undone["undone"], undone["classes"], undone["undo"]) == ("b", {"a": 2}, "a")
    assert line.inspector.classes_path.read_bytes() == before
    assert ask(line.port, "/api/enrolment/undo", {}).json["classes"] == {}
    assert line.inspect(two_kinds[0], 2)[0].defect_class is None
    refused = ask(line.port, "/api/enrolment/undo", {})
    assert refused.status == 409 and "nothing was enrolled from this page" in refused.json["error"]


def test_undo_refuses_when_somebody_else_has_changed_the_classes(line: Line, two_kinds: list[str]) -> None:
    inspections = [line.inspect(two_kinds[0], n)[0] for n in (0, 1)]
    line.enrol("chipped", *inspections)
    m = line.inspector.manifest
    path, dim = line.inspector.classes_path, len(line.inspector.centre)
    update_class_store(path, m.bundle_id, dim, lambda store: store.renamed("chipped", "dented"))
    theirs = path.read_bytes()
    refused = ask(line.port, "/api/enrolment/undo", {})
    assert refused.status == 409 and "changed since by somebody else; nothing was undone" in refused.json["error"]
    assert path.read_bytes() == theirs


def test_a_draft_counts_once_on_top_of_what_others_have_enrolled(line: Line, two_kinds: list[str]) -> None:
    first, second = ([line.inspect(kind, n)[0] for n in (0, 1)] for kind in two_kinds)
    draft = line.preview("chipped", *first).json["draft_id"]
    other = Inspector.load(line.inspector.bundle.folder)
    enrol(other, "theirs", line.kinds[two_kinds[1]][2:])
    confirmed = ask(line.port, "/api/enrolment/confirm", {"draft_id": draft})
    assert confirmed.json["classes"] == {"theirs": 1, "chipped": 2}
    again = ask(line.port, "/api/enrolment/confirm", {"draft_id": draft})
    assert again.status == 409 and "look at it again" in again.json["error"]
    twice = line.preview("again", first[0])
    assert twice.status == 409 and "already a support of 'chipped'" in twice.json["error"]
    stale = line.preview("x", *second).json["draft_id"]
    line.preview("y", *second)
    assert ask(line.port, "/api/enrolment/confirm", {"draft_id": stale}).status == 409


@pytest.mark.parametrize("name", ["unknown", "UNKNOWN", "good", "a/b", "", " x", "ä", "x" * 65])
def test_a_bad_name_is_refused_with_what_is_expected(line: Line, two_kinds: list[str], name: str) -> None:
    refused = line.preview(name, line.inspect(two_kinds[0], 0)[0])
    assert refused.status == 409 and "expected up to 64 letters" in refused.json["error"]
    assert not line.inspector.classes_path.exists()


def test_rejects_that_are_not_kept_cannot_be_enrolled(line: Line) -> None:
    body = {"name": "x", "result_ids": ["nothing"]}
    assert ask(line.port, "/api/enrolment/preview", body).status == 404
    assert ask(line.port, "/api/enrolment/preview", {"name": "x", "result_ids": []}).status == 400


def test_a_region_that_is_no_longer_found_is_enrolled_by_the_box_of_its_record(
    line: Line, two_kinds: list[str]
) -> None:
    from dataclasses import replace

    from edge.page.enrolment import _described
    from edge.page.rejects import Reject

    inspection, frame_bgr = line.inspect(two_kinds[0], 0)
    moved = replace(inspection, regions=(replace(inspection.regions[0], box_xyxy=(40, 50, 90, 110)),))
    described = _described(line.inspector, "x", Reject(moved, frame_bgr, None))
    assert described.support.box_xyxy == (40, 50, 90, 110)


def test_the_server_answers_while_an_enrolment_is_worked_on(line: Line, two_kinds: list[str]) -> None:
    inspections = [line.inspect(two_kinds[0], n)[0] for n in (0, 1, 2)]
    answers: list[Answer] = []
    work = threading.Thread(target=lambda: answers.append(line.preview("chipped", *inspections)))
    work.start()
    slowest_s = 0.0
    while work.is_alive():
        started_s = monotonic()
        assert ask(line.port, "/api/state").status == 200
        slowest_s = max(slowest_s, monotonic() - started_s)
    assert answers[0].status == 200
    assert slowest_s < 1.0


def test_a_station_that_knows_no_bundle_says_so() -> None:
    settings = HttpOutput(port=free_port())
    with HttpSink(settings, ["camera"], Control()):
        assert ask(settings.port, "/api/state").json["can_enrol"] is False
        assert ask(settings.port, "/api/enrolment").status == 404
        assert ask(settings.port, "/api/enrolment/undo", {}).status == 404


def test_a_store_that_cannot_be_read_is_one_clear_line(line: Line, two_kinds: list[str]) -> None:
    inspection = line.inspect(two_kinds[0], 0)[0]
    line.inspector.classes_path.write_bytes(b"no store")
    answer = line.preview("x", inspection)
    assert answer.status == 500 and "not a readable class store" in answer.json["error"]
    assert line.inspector.classes_path.read_bytes() == b"no store"
