"""One result_id, one inspection: receivers throw away what comes twice under the same one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from edge.result import Inspection, Provenance

MOMENT = "2026-11-23T20:00:00.000Z"
CAMERA = Provenance("rtsp://camera/1", 0, MOMENT)
FILE = Provenance("/pictures", 0, MOMENT, "a.png")
IN_A_NEW_PROCESS = """
from edge.result import Inspection, Provenance
print(Inspection(Provenance({source!r}, 0, {moment!r}, {path!r}), "0" * 16, "good", 0.5, 1.0).result_id)
"""


def id_of(provenance: Provenance) -> str:
    return Inspection(provenance, "0" * 16, "good", 0.5, 1.0).result_id


def id_after_a_restart(provenance: Provenance) -> str:
    script = IN_A_NEW_PROCESS.format(source=provenance.source, moment=provenance.captured_at, path=provenance.path)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_a_camera_that_starts_again_at_frame_0_in_the_same_millisecond_has_another_id() -> None:
    assert id_of(CAMERA) == id_of(CAMERA)
    assert id_after_a_restart(CAMERA) != id_of(CAMERA)


def test_a_file_keeps_its_id_over_restarts_until_it_changes() -> None:
    assert id_after_a_restart(FILE) == id_of(FILE)
    assert id_of(replace(FILE, captured_at="2026-11-23T20:00:00.001Z")) != id_of(FILE)


def test_source_path_and_frame_each_make_another_id() -> None:
    others = [replace(FILE, source="/other"), replace(FILE, path="b.png"), replace(FILE, frame_id=1), CAMERA]
    assert len({id_of(provenance) for provenance in (FILE, *others)}) == 5


def test_the_run_is_no_field_of_the_record() -> None:
    record = Inspection(CAMERA, "0" * 16, "good", 0.5, 1.0).to_record()
    assert "run_id" not in record
    assert CAMERA.run_id not in map(str, record.values())
