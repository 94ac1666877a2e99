"""A station file is read strictly: everything wrong at once, each with its line, and no password on the way."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pydantic
import pytest
import yaml
from tls_files import make_certificate

from edge.errors import StationError, UsageError
from edge.manifest import read_manifest
from edge.outputs.outbox import ReceiverOutput
from edge.outputs.sinks import Output
from edge.outputs.station_outputs import Outputs
from edge.station.check import check_station, load_station
from edge.station.combinations import ONLY_LIVE, PLACES
from edge.station.example import example_text, write_example
from edge.station.file import CameraEntry, Station
from edge.station.run import refuse_feedback, refuse_twins
from edge.station.summary import summary
from edge.station.words import expected

LEAST = "bundle: bundle\ncameras: [{source: pictures}]\noutputs: {records: {file: '-'}}\n"


@pytest.fixture
def folder(tmp_path: Path, bundle_dir: Path, good_dir: Path) -> Path:
    """Everything a station may name."""
    shutil.copytree(bundle_dir, tmp_path / "bundle", copy_function=lambda a, b: Path(b).hardlink_to(a))
    for name in ("pictures", "right"):
        (tmp_path / name).mkdir()
        shutil.copy(min(good_dir.iterdir()), tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    return tmp_path


def found(folder: Path, content: str, look_around: bool = True) -> list[str]:
    """`LINE: key: text` of every problem."""
    path = folder / "station.yaml"
    path.write_text(content)
    return [str(problem) for problem in check_station(path, look_around).problems]


def with_camera(keys: str) -> str:
    """The least station, with a camera of these keys in line 2."""
    return LEAST.replace("{source: pictures}", "{" + keys + "}")


# --- everything at once

BAD = """\
name: 5
bundel: bundle
bundle: nowhere
classes: gone/away.npz
runtime:
  backend: tensorrt
  precision: 8
  threads: -1
cameras:
  - source: pictures
    name: left
    lost_after_s: soon
  - source: ./pictures
    name: left
    wait_for_camera: true
    faults:
      dark_below: 300
      frozen_after_s: 3
  - source: rtsp://admin:hunter2@camera/1
    lost_after_s: .nan
    faults: {dark_below: 250}
  - source: ftp://admin:hunter2@camera/1
    name: on
  - source: rtsp://admin:${PASSWORD}@camera/${NOT_THERE}
    faults: {size_px: [1280]}
  - src: 0
  - source: true
  - 7
always_type: "yes"
max_frames: 0
max_frames: 1.5
outputs:
  records:
    file: empty
    keep: 3
  annotated: {folder: pictures/seen, keep: many}
  mqqt: {host: x}
station:
"""
SAYS = """\
1: name: expected 1 to 60 letters, digits
2: bundel: unknown key; did you mean bundle? allowed here: name, bundle, classes, runtime, cameras
3: bundle: no such folder: nowhere
4: classes: no such file, nor its folder: gone/away.npz; make the folder, or leave it out
6: runtime.backend: expected one of onnxruntime, openvino, auto; got 'tensorrt'
7: runtime.precision: expected one of fp32, int8; got 8
8: runtime.threads: expected a whole number, 0 to 1024; got -1
12: cameras[0].lost_after_s: expected a number, 0.1 to 86400; got 'soon'
13: cameras[1].source: the same as cameras[0].source in line 10
14: cameras[1].name: the same as cameras[0].name in line 11
15: cameras[1].wait_for_camera: is for live cameras
17: cameras[1].faults.dark_below: expected a number, 0 to 255; got 300
18: cameras[1].faults.frozen_after_s: is for live cameras
20: cameras[2].lost_after_s: expected a number, 0.1 to 86400; got .nan
21: cameras[2].faults: dark_below 250 is not less than bright_above 240
22: cameras[3].source: ftp:// is not supported; expected a camera number, /dev/videoN, rtsp://
23: cameras[3].name: expected 1 to 60 letters
24: cameras[4].source: the environment has no variable NOT_THERE
25: cameras[4].faults.size_px: expected a list of 2, each item: a whole number, 8 to 65535; got a list of 1
26: cameras[5].source: is missing; expected a camera number, /dev/videoN
26: cameras[5].src: unknown key; did you mean source? allowed here: source, name, lost_after_s
27: cameras[6].source: expected a camera number, /dev/videoN
28: cameras[7]: expected keys: source, name, lost_after_s, wait_for_camera, watch, watch_existing, device, faults
29: always_type: expected true or false; got 'yes'
30: max_frames: expected a whole number, 1 or more; got 0
31: max_frames: is given twice, first in line 30
33: outputs.records: keep without max_mb or daily
34: outputs.records.file: empty is a folder; name a file
36: outputs.annotated.keep: expected a whole number, 1 to 10000000; got 'many'
36: outputs.annotated.folder: lies in the folder of cameras[0].source in line 10: it would be inspected
37: outputs.mqqt: unknown key; did you mean mqtt? allowed here: records, annotated, database
38: station: has no value; give it one, or leave the key out for its default
"""


def test_everything_wrong_is_said_at_once_and_no_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "letmein")
    lines = found(folder, BAD)
    for line, start in zip(sorted(lines), sorted(SAYS.splitlines()), strict=True):
        assert line.startswith(start)
    assert [int(line.split(":")[0]) for line in lines] == sorted(int(line.split(":")[0]) for line in lines)
    assert "hunter2" not in "".join(lines)
    assert "letmein" not in "".join(lines)


def test_a_run_is_refused_in_one_line_that_counts_the_rest(folder: Path) -> None:
    path = folder / "station.yaml"
    path.write_text(LEAST + "max_frames: x\nthreads: 2\n")
    with pytest.raises(StationError) as refused:
        load_station(path)
    says = f"{path}:4: max_frames: expected a whole number, 1 or more; got 'x'; and 1 more, see 'oddkind station check"
    assert str(refused.value).startswith(says)


ALONE = {
    "no keys": ("hello", "1: expected keys: name, bundle"),
    "a list": ("- bundle: x", "1: expected keys: name, bundle"),
    "no cameras": (LEAST.replace("[{source: pictures}]", "[]"), "2: cameras: expected a list of 1 or more"),
    "cameras as keys": (LEAST.replace("[{source: pictures}]", "{source: a}"), "2: cameras: expected a list of 1 or"),
    "no outputs": (LEAST.replace("{records: {file: '-'}}", "{}"), "3: outputs: nothing would be written; expected at"),
    "home": (LEAST.replace("bundle: bundle", "bundle: ~/bundle"), "1: bundle: expected a path without '~'"),
    "zero in a path": (LEAST.replace("bundle: bundle", 'bundle: "a\\0b"'), "1: bundle: expected a path"),
    "a number as path": (LEAST.replace("bundle: bundle", "bundle: 7"), "1: bundle: expected a path; got 7"),
    "rotated stdout": (LEAST.replace("'-'", "'-', daily: true"), "3: outputs.records: max_mb, daily and keep are for"),
    "no address": (with_camera("source: rtsp://"), "2: cameras[0].source: rtsp:// and then nothing"),
    "a port that is none": (
        with_camera("source: 'rtsp://me:hunter2@camera:port/x'"),
        "2: cameras[0].source: expected an address such as rtsp://camera:8554/1, with a port of 1 to 65535 if any; "
        "got rtsp://me:***@camera:port/x",
    ),
    "a port too high": (with_camera("source: 'rtsp://camera:70000/x'"), "2: cameras[0].source: expected an address"),
    "half an IPv6 address": (
        with_camera("source: 'http://u:pw@[::1/x'"),
        "2: cameras[0].source: expected an address such as http://camera:8554/1",
    ),
    "empty source": (with_camera("source: ''"), "2: cameras[0].source: expected a camera number, /dev"),
    "name with a slash": (with_camera("source: 0, name: a/b"), "2: cameras[0].name: expected 1 to 60 letters"),
    "lost file": (with_camera("source: pictures, lost_after_s: 3"), "2: cameras[0].lost_after_s: is for live cameras"),
    "a watched camera": (with_camera("source: 0, watch: true"), "2: cameras[0].watch: is for a folder"),
    "nothing to watch": (with_camera("source: a, watch_existing: true"), "2: cameras[0].watch_existing: means nothing"),
    "exposure of a stream": (
        with_camera("source: 'rtsp://c/1', device: {exposure_us: 500}"),
        "2: cameras[0].device.exposure_us: this source has no such setting, only genicam and basler and V4L2 cameras",
    ),
    "exposure of a file": (
        with_camera("source: pictures, device: {exposure_us: 500}"),
        "2: cameras[0].device.exposure_us: this source has no such setting",
    ),
    "gain without a unit": (
        with_camera("source: /dev/video0, device: {gain_db: 3}"),
        "2: cameras[0].device.gain_db: a V4L2 camera has no such setting, only genicam and basler cameras",
    ),
    "producer of Basler": (
        with_camera("source: 'basler:', device: {producer: a.cti}"),
        "2: cameras[0].device.producer: a basler camera has no such setting, only genicam cameras",
    ),
    "format of V4L2": (
        with_camera("source: 0, device: {pixel_format: BayerRG8}"),
        "2: cameras[0].device.pixel_format: of V4L2 cameras has four characters",
    ),
    "region of V4L2": (
        with_camera("source: 0, device: {roi_xywh: [8, 0, 640, 480]}"),
        "2: cameras[0].device.roi_xywh: of V4L2 cameras is a picture size",
    ),
    "no region": (
        with_camera("source: 'genicam:1', device: {roi_xywh: [0, 0, 0, 480]}"),
        "2: cameras[0].device.roi_xywh: the region is 0 x 480 px",
    ),
    "format with spaces": (
        with_camera("source: 'genicam:1', device: {pixel_format: 'Mono 8'}"),
        "2: cameras[0].device.pixel_format: expected a name such as Mono8 or BayerRG8; got 'Mono 8'",
    ),
    "genicam as address": (with_camera("source: 'genicam://1'"), "2: cameras[0].source: genicam:// is not supported"),
    "named as another": (
        LEAST.replace("[{", "[{source: right, name: 'rtsp:a'}, {name: 'rtsp:a', "),
        "2: cameras[1].name: the same as cameras[0].name in line 2",
    ),
    "one camera, two passwords": (
        LEAST.replace("[{source: pictures}]", "[{source: 'rtsp://a:b@c/1'}, {source: 'rtsp://a:d@c/1'}]"),
        "2: cameras[1].source: the same as cameras[0].source in line 2, passwords aside",
    ),
    "modbus to everybody": (
        LEAST.replace("'-'}", "'-'}, modbus: {host: 0.0.0.0}"),
        "3: outputs.modbus: Modbus asks nobody for a password: with the host 0.0.0.0 say which clients may connect",
    ),
    "modbus class": (
        LEAST.replace("'-'}", "'-'}, modbus: {class_codes: {dent: 1, hole: 70000}}"),
        "3: outputs.modbus.class_codes.hole: expected a whole number, 1 to 65533; got 70000",
    ),
    "modbus classes": (
        LEAST.replace("'-'}", "'-'}, modbus: {class_codes: [dent]}"),
        "3: outputs.modbus.class_codes: expected a name for each of: a whole number, 1 to 65533; got a list of 1",
    ),
    "modbus camera": (
        LEAST.replace("'-'}", "'-'}, modbus: {camera: left}").replace("{source: pictures}", "{source: 0, name: lfet}"),
        "3: outputs.modbus.camera: no camera is called 'left'; there are: lfet",
    ),
    "modbus before the camera": (
        LEAST.replace("'-'}", "'-'}, modbus: {}").replace("pictures}", "pictures, trigger: {deadline_s: 12}}"),
        "2: cameras[0].trigger.deadline_s: is more than outputs.modbus.answer_within_s, 10; raise that too",
    ),
    "one place for two": (
        LEAST.replace("{file: '-'}", "{file: out}, annotated: {folder: ./out}"),
        "3: outputs.annotated.folder: the same as outputs.records.file in line 3",
    ),
    "evidence that is inspected": (
        LEAST.replace("{file: '-'}", "{file: '-'}, evidence: {folder: pictures/kept}"),
        "3: outputs.evidence.folder: lies in the folder of cameras[0].source in line 2: it would be inspected",
    ),
    "evidence of nothing": (
        LEAST.replace(
            "{file: '-'}", "{file: '-'}, evidence: {folder: e, frames: false, heatmaps: false, crops: false}"
        ),
        "3: outputs.evidence: nothing would be kept; expected at least one of frames, heatmaps, crops",
    ),
    "a table for stdout": (
        LEAST.replace("{file: '-'}", "{file: '-'}, csv: {file: '-'}"),
        "3: outputs.csv.file: expected a path; only outputs.records can go to standard output",
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_each_of_these_is_refused_without_looking_around(case: str, folder: Path) -> None:
    content, start = ALONE[case]
    (line,) = found(folder, content, look_around=False)
    assert line.startswith(start)


ALONE |= {
    "OPC UA for everybody": (
        LEAST.replace("{file: '-'}", "{file: '-'}, opcua: {host: 0.0.0.0}"),
        "3: outputs.opcua: 0.0.0.0 can be reached from elsewhere: give `cert_file` and `key_file`,",
    ),
    "a GPIO line of nobody": (
        LEAST.replace("{file: '-'}", "{file: '-'}, reject: {lines: [{line: 1, camera: left}]}"),
        "3: outputs.reject.lines[0].camera: no camera is called 'left'; there are: /",
    ),
    "half a GPIO line": (
        LEAST.replace("{file: '-'}", "{file: '-'}, reject: {lines: [{line: 1.5}]}"),
        "3: outputs.reject.lines[0].line: expected the number of a GPIO line, or its name; got 1.5",
    ),
    "a verdict that there is not": (
        LEAST.replace("{file: '-'}", "{file: '-'}, reject: {lines: [{line: 1, verdicts: [bad]}]}"),
        "3: outputs.reject.lines[0].verdicts[0]: expected one of good, defect, no_verdict; got 'bad'",
    ),
}
AROUND = {
    "no key": (
        LEAST.replace(
            "{file: '-'}", "{file: '-'}, mqtt: {host: a, password_file: gone.pem, username: b}, database: {file: d.db}"
        ),
        "3: outputs.mqtt.password_file: no such file: gone.pem",
        "",
    ),
    "no bundle": (LEAST.replace("bundle: bundle", "bundle: empty"), "1: bundle: ", "is not a bundle"),
    "no graph": (LEAST + "runtime: {backend: onnxruntime, precision: fp32}", "", ""),
    "classes of nobody": (LEAST + "classes: text.txt", "4: classes: ", "class store"),
    "no pictures": (with_camera("source: empty"), "2: cameras[0].source: no pictures in this folder: empty", ""),
    "no file": (with_camera("source: gone.mp4"), "2: cameras[0].source: no such file or folder: gone.mp4", ""),
    "no device": (with_camera("source: /dev/video97"), "2: cameras[0].source: no such device: /dev/video97", ""),
    "waited for": (with_camera("source: /dev/video97, wait_for_camera: true"), "", ""),
    "watched and empty": (with_camera("source: empty, watch: true, lost_after_s: 3"), "", ""),
    "watched and gone": (with_camera("source: gone, watch: true"), "2: cameras[0].source: no such folder: gone", ""),
    "watched later": (with_camera("source: gone, watch: true, wait_for_camera: true"), "", ""),
    "watched file": (with_camera("source: text.txt, watch: true"), "2: cameras[0].source: text.txt is a file", ""),
    "no producer": (with_camera("source: 'genicam:1'"), "2: cameras[0].source: GenTL producers in GENICAM_GENTL64", ""),
    "producer gone": (
        with_camera("source: 'genicam:1', device: {producer: a.cti}"),
        "2: cameras[0].device.producer: ",
        "no such file; expected the .cti file",
    ),
    "far too long": (with_camera(f"source: {'x' * 5000}"), "2: cameras[0].source: no such file or folder: xxx", ""),
    "annotated file": (
        LEAST.replace("{file: '-'}", "{file: '-'}, annotated: {folder: text.txt}"),
        "3: outputs.annotated.folder: text.txt is a file; name a folder",
        "",
    ),
    "table folder": (
        LEAST.replace("{file: '-'}", "{file: '-'}, csv: {file: empty}"),
        "3: outputs.csv.file: empty is a folder; name a file",
        "",
    ),
}


@pytest.mark.parametrize("case", AROUND)
def test_what_is_named_must_be_there(case: str, folder: Path) -> None:
    content, start, part = AROUND[case]
    lines = found(folder, content)
    assert len(lines) == bool(start)
    assert "".join(lines).startswith(start)
    assert part in "".join(lines)
    assert found(folder, content, look_around=False) == []


@pytest.mark.parametrize("address", ["rtsp://[::1]:554/x", "rtsp://a:p/w@c:9/1", "http://c?pwd=1:2", "rtsp://a:[b@c/1"])
def test_addresses_of_every_kind_are_taken(folder: Path, address: str) -> None:
    assert found(folder, with_camera(f"source: '{address}'"), look_around=False) == []


def test_classes_may_be_enrolled_later(folder: Path) -> None:
    assert found(folder, LEAST + "classes: later.npz") == []
    station = check_station(folder / "station.yaml").station
    assert station
    assert f"none enrolled yet ({folder / 'later.npz'})" in summary(station)


OF_NO_USE = {
    "empty token": ("http: {token_file: empty.txt}", "http.token_file", "expected a secret in its first line"),
    "short token": ("http: {token_file: text.txt}", "http.token_file", "16 characters at least"),
    "folder for a secret": ("webhook: {url: 'http://a', secret_file: empty}", "webhook.secret_file", "no such file"),
    "empty secret": ("webhook: {url: 'http://a', secret_file: empty.txt}", "webhook.secret_file", "got nothing"),
    "empty password": (
        "mqtt: {host: a, username: b, password_file: empty.txt}",
        "mqtt.password_file",
        "got nothing",
    ),
    "no authority": ("webhook: {url: 'https://a', ca_file: text.txt}", "webhook.ca_file", "certificates in PEM cannot"),
    "no authority of a broker": ("mqtt: {host: a, tls: true, ca_file: text.txt}", "mqtt.ca_file", "certificates in"),
    "a key of another": (
        "mqtt: {host: a, tls: true, cert_file: server.pem, key_file: text.txt}",
        "mqtt.cert_file",
        "server.pem and ",
    ),
    "no certificate": ("opcua: {cert_file: text.txt, key_file: server.key}", "opcua.cert_file", "not a certificate"),
    "no key": ("opcua: {cert_file: server.pem, key_file: text.txt}", "opcua.key_file", "not a private key"),
    "no folder of clients": (
        "opcua: {cert_file: server.pem, key_file: server.key, clients_folder: x}",
        "opcua.clients_folder",
        "no such folder: x",
    ),
    "no client": (
        "opcua: {cert_file: server.pem, key_file: server.key, clients_folder: right}",
        "opcua.clients_folder",
        "not a certificate",
    ),
    "all are fine": (
        "http: {token_file: token}, opcua: {cert_file: server.pem, key_file: server.key, username: a, "
        "password_file: text.txt}, mqtt: {host: a, username: b, password_file: text.txt, tls: true, "
        "ca_file: server.pem, cert_file: server.pem, key_file: server.key}",
        "",
        "",
    ),
}


@pytest.mark.parametrize("case", OF_NO_USE)
def test_secrets_and_certificates_are_read_as_the_outputs_read_them(case: str, folder: Path) -> None:
    outputs, key, says = OF_NO_USE[case]
    if "server" in outputs:
        make_certificate(folder)
    (folder / "empty.txt").touch()
    (folder / "token").write_text("0123456789abcdef\n")
    content = LEAST.replace("{file: '-'}", "{file: '-'}, database: {file: results.db}, " + outputs)
    lines = found(folder, content)
    assert len(lines) == bool(key), lines
    assert "".join(lines).startswith(f"3: outputs.{key}: " if key else "")
    assert says in "".join(lines)
    assert "hello" not in "".join(lines)
    assert found(folder, content, look_around=False) == []


MASTERS = """bundle: bundle
cameras: [{source: pictures, name: left}, {source: 0, name: right}]
outputs: {records: {file: "-"}}
master_parts:
  parts:
    - {name: a, expect: good}
    - {name: b, expect: good, camera: top}
    - {name: c, expect: good, camera: right}
    - {name: d, expect: good, defect_class: dent, camera: left}
"""


def test_master_parts_are_seen_by_a_camera_of_the_station(folder: Path) -> None:
    assert found(folder, MASTERS, look_around=False) == [
        "6: master_parts.parts[0]: expected camera: one of left, right",
        "7: master_parts.parts[1].camera: no camera is called 'top'; there are: left, right",
        "9: master_parts.parts[3]: a good part has no defect_class; leave it out, or expect: defect",
    ]


@pytest.mark.parametrize("given", ["by: camera, line: Line1", "fire: true"])
def test_only_some_devices_wait_for_triggers(folder: Path, given: str) -> None:
    (line,) = found(folder, LEAST.replace("source: pictures", f"source: pictures, trigger: {{{given}}}"))
    assert re.match(r"2: cameras\[0\].trigger.(line|fire): only genicam: and basler: cameras wait for triggers", line)


def test_a_graph_that_the_bundle_does_not_have_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_openvino(*arguments: object) -> object:
        manifest = read_manifest(*arguments)  # type: ignore[arg-type, type-var]
        graphs = {key: file for key, file in manifest.graphs.items() if "openvino" not in key}  # type: ignore[attr-defined]
        return manifest.model_copy(update={"graphs": graphs})

    monkeypatch.setattr("edge.bundle.read_manifest", without_openvino)
    (line,) = found(folder, LEAST + "runtime: {backend: openvino}")
    assert line.startswith("4: runtime.backend: the bundle has no graph for openvino in int8; it has onnxruntime-fp32,")


def test_a_runtime_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.station.things.is_installed", lambda backend: False)
    (line,) = found(folder, LEAST + "runtime: {backend: openvino}")
    assert line == "4: runtime.backend: openvino is not installed here; pip install 'oddkind[openvino]'"
    (line,) = found(folder, LEAST)
    assert line.startswith("1: bundle: onnxruntime is not installed here")


def test_no_such_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(StationError, match="'oddkind station init' writes an example"):
        check_station(tmp_path / "gone.yaml")
    with pytest.raises(StationError, match="cannot be read"):
        check_station(tmp_path)


# --- a file that is right


def test_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep").mkdir()
    path = folder / "deep" / "station.yaml"
    path.write_text(
        "bundle: ../bundle\nclasses: c.npz\ncameras: [{source: ../pictures}, {source: 0}, {source: 'rtsp://c/1'}]\n"
        "outputs: {records: {file: out/a.jsonl}, annotated: {folder: /tmp/seen}}"
    )
    monkeypatch.chdir("/")
    station = load_station(path)
    assert (station.bundle, station.classes) == (folder / "deep" / "../bundle", folder / "deep" / "c.npz")
    assert [camera.source for camera in station.cameras] == [f"{folder}/deep/../pictures", "0", "rtsp://c/1"]
    assert station.outputs.records and station.outputs.records.file == folder / "deep" / "out" / "a.jsonl"
    assert station.outputs.annotated and station.outputs.annotated.folder == Path("/tmp/seen")


def test_the_summary_says_what_will_happen_and_no_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "letmein")
    path = folder / "station.yaml"
    path.write_text(
        "name: press 3\nbundle: bundle\nmax_frames: 9\nruntime: {threads: 2, precision: fp32}\ncameras:\n"
        "  - {source: 'rtsp://me:${PASSWORD}@c/1', name: left, faults: {frozen_after_s: 0, size_px: [64, 48]}}\n"
        "  - {source: pictures, trigger: {deadline_s: 2}}\noutputs: {records: {file: r.jsonl, daily: true}}\n"
        "master_parts: {parts: [{name: a, expect: defect, defect_class: dent, camera: left}]}"
    )
    station = check_station(path).station
    assert station
    lines = [" ".join(line.split()) for line in summary(station).splitlines()]
    assert lines[0] == "station press 3"
    assert lines[1].endswith("onnxruntime fp32, 2 threads")
    camera = "left: rtsp://me:***@c/1, lost after 5 s, dark below 16, overexposed above 240, 64 x 48 px"
    assert lines[3:5] == [f"camera {camera}", f"camera {folder}/pictures, one verdict a trigger within 2 s"]
    assert lines[5] == "master a must be defect: dent"
    assert lines[6] == f"output records to {folder}/r.jsonl; a new file every day, all finished ones stay"
    assert lines[7] == "stops after 9 records, or when told to"


def test_a_sensor_needs_gpiod(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.station.things.find_spec", lambda name: None if name == "gpiod" else find_spec(name))
    (line,) = found(folder, LEAST.replace("source: pictures", "source: pictures, trigger: {gpio: {line: 17}}"))
    assert line == "2: cameras[0].trigger.gpio: gpiod is not installed here; pip install 'oddkind[gpio]'"


# --- the example


def test_the_example_passes_once_bundle_and_pictures_exist(folder: Path) -> None:
    write_example(folder / "station.yaml")
    assert check_station(folder / "station.yaml").problems == []
    shutil.rmtree(folder / "bundle")
    shutil.rmtree(folder / "pictures")
    keys = [problem.where[-1] for problem in check_station(folder / "station.yaml").problems]
    assert keys == ["bundle", "source"]


def test_the_example_is_never_written_over_another_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        write_example(folder / "text.txt")
    assert (folder / "text.txt").read_text() == "hello"


def uncommented() -> str:
    """The example with every optional key in force, for a live camera."""
    text = re.sub(r"^( *)# ( *(?:- )?[a-z_]+:( |$))", r"\1\2", example_text(), flags=re.MULTILINE)
    return text.replace("- source: pictures ", "- source: rtsp://camera/1 ")


def test_the_example_shows_every_key_with_its_default() -> None:
    shown = yaml.safe_load(uncommented())
    either_or = copy.deepcopy(shown)
    del either_or["outputs"]["mqtt"]["password_file"], either_or["outputs"]["webhook"]["secret_file"]
    del either_or["outputs"]["http"]["token_file"]
    del either_or["outputs"]["opcua"]["password_file"]
    del either_or["cameras"][0]["trigger"]["line"]
    either_or["outputs"]["mqtt"]["tls"] = True  # certificates need it
    station = Station.model_validate(either_or)
    assert keys_of(shown) == {".".join(key) for key in keys_of_model(Station)}
    camera = CameraEntry(source="rtsp://camera/1").faults.for_source(True)
    given = station.cameras[0].faults
    assert given.model_copy(update={"size_px": None}) == camera
    assert station.cameras[0].lost_after_s == CameraEntry(source="0").lost_after_s
    for name in ("database", "mqtt", "webhook", "http", "modbus", "opcua", "reject"):
        output = getattr(station.outputs, name)
        defaults = {key: f.default for key, f in type(output).model_fields.items() if f.default and not f.is_required()}
        assert {key: getattr(output, key) for key in defaults} == defaults
    for name in ("always_type", "max_frames"):
        assert name in Station.model_fields
    assert station.always_type is Station.model_fields["always_type"].default


def keys_of(value: object, prefix: str = "") -> set[str]:
    """Dotted names of every key, list items taken together."""
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item, prefix)}
    if not isinstance(value, dict):
        return set()
    return {f"{prefix}{key}" for key in value} | {k for key, v in value.items() for k in keys_of(v, f"{prefix}{key}.")}


def keys_of_model(model: type[pydantic.BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (name,)
        for part in parts_in(field.annotation):
            yield from ((name, *key) for key in keys_of_model(part))


def parts_in(annotation: object) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from parts_in(part)


# --- what keeps later outputs and keys honest


def test_every_output_says_what_it_does_and_has_its_place_checked() -> None:
    for name, field in Outputs.model_fields.items():
        (model,) = parts_in(field.annotation)
        base = ReceiverOutput if issubclass(model, ReceiverOutput) else Output
        assert issubclass(model, base)
        assert model.open is not base.open
        assert model.in_words is not base.in_words
        paths = [key for key, part in model.model_fields.items() if part.annotation is Path]
        assert all(("outputs", name, key) in PLACES for key in paths), "two outputs must not share a place"


def test_only_keys_that_exist_are_for_live_cameras_alone() -> None:
    assert set(ONLY_LIVE) <= set(keys_of_model(CameraEntry))


def test_every_key_has_words_for_what_it_expects() -> None:
    def annotations(model: type[pydantic.BaseModel]) -> Iterator[object]:
        for field in model.model_fields.values():
            yield field.annotation
            for part in parts_in(field.annotation):
                yield from annotations(part)

    assert not [a for a in annotations(Station) if "another value" in expected(a)]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, ""),
        ({"ge": 1, "le": 60}, ", 1 to 60"),
        ({"ge": 1}, ", 1 or more"),
        ({"gt": 0, "le": 8760}, ", more than 0, 8760 at most"),
        ({"gt": 0}, ", more than 0"),
        ({"le": 60}, ", 60 at most"),
    ],
)
def test_every_kind_of_limit_has_its_words(limits: dict[str, float], says: str) -> None:
    assert expected(Annotated[float | None, pydantic.Field(**limits)]) == f"a number{says}"


@pytest.mark.parametrize("hours", ["0", "-1", "soon"])
def test_hours_that_are_none_are_a_line_like_any_other(folder: Path, hours: str) -> None:
    content = LEAST + f"master_parts:\n  parts: [{{name: a, expect: good}}]\n  every_h: {hours}\n"
    (line,) = found(folder, content, look_around=False)
    assert line.startswith("6: master_parts.every_h: expected a number, ")
    assert line.endswith(f"; got {hours if hours != 'soon' else repr(hours)}")


def test_a_station_made_in_code_is_refused_for_the_same_reasons(folder: Path) -> None:
    outputs = Outputs.model_validate({"annotated": {"folder": str(folder / "pictures" / "seen")}})
    cameras = [CameraEntry(source=str(folder / "pictures"), name="a"), CameraEntry(source="0", name="a")]
    station = Station(bundle=folder, cameras=cameras, outputs=outputs)
    with pytest.raises(UsageError, match="lies in the source folder"):
        refuse_feedback(station)
    with pytest.raises(UsageError, match="2 cameras are called a"):
        refuse_twins(station)
