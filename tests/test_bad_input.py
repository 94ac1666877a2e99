"""Forty and more kinds of bad input: one clear line, a non-zero exit code, no traceback, nothing lost or left."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import run_oddkind

ENROLLED = "stain"
Damage = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A command with {places} filled in, its exit code and a part of its line. damage: done to the folder first."""

    arguments: str
    exit_code: int
    says: str
    damage: Damage | None = None


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, bundle_dir: Path, pack_dir: Path, good_dir: Path) -> Path:
    """A bundle with one class, a pack, good pictures and every kind of bad file."""
    root = tmp_path_factory.mktemp("bad")
    shutil.copytree(bundle_dir, root / "bundle")
    shutil.copytree(pack_dir, root / "pack")
    (root / "good").mkdir()
    for path in sorted(good_dir.iterdir())[:8]:
        shutil.copy(path, root / "good")
    for name in ("empty", "taken", "few", "broken"):
        (root / name).mkdir()
    (root / "taken" / "holiday.txt").write_text("mine")
    shutil.copy(root / "good" / "000.png", root / "few")
    (root / "broken" / "a.png").write_text("no picture")
    (root / "text.png").write_text("no picture")
    (root / "zero.png").touch()
    (root / "cut.png").write_bytes((root / "good" / "000.png").read_bytes()[:90])
    (root / "text.mp4").write_text("no video")
    (root / "file").write_text("a file")
    enrolled = run_oddkind("enrol", f"{root}/bundle", ENROLLED, f"{root}/good/000.png", "--force")
    assert enrolled.exit_code == 0, enrolled.output
    return root


def snapshot(root: Path) -> dict[str, str]:
    """Digest of every file, and every folder; lock files hold nothing."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if not path.name.endswith(".lock")
    }


def remove(name: str) -> Damage:
    """Delete a file."""
    return lambda root: (root / name).unlink()


def overwrite(name: str, content: bytes) -> Damage:
    """Put something else in its place."""
    return lambda root: (root / name).write_bytes(content) and None  # type: ignore[func-returns-value]


def flip(name: str) -> Damage:
    """One changed bit in the middle."""

    def damage(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 1
        (root / name).write_bytes(content)

    return damage


def change_manifest(name: str, **facts: object) -> Damage:
    """Other facts in a manifest."""

    def damage(root: Path) -> None:
        path = root / name / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))

    return damage


CASES = {
    # usage that click itself refuses
    "no such command": Case("inspect {root}", 2, "No such command 'inspect'"),
    "no such option": Case("score {bundle} {good} --out {new} --colour", 2, "No such option"),
    "export without out": Case("export", 2, "Missing option '--out'"),
    "export for an unknown CPU": Case("export --out {new} --target vax", 2, "'vax' is not one of"),
    "calibrate with rows in words": Case("calibrate {good} --pack {pack} --out {new} --bank-rows many", 2, "'many'"),
    "enrol without a picture": Case("enrol {bundle} dent", 2, "Missing argument 'IMAGES...'"),
    "run without a source": Case("run {bundle}", 2, "Missing option '--source'"),
    "run of zero frames": Case("run {bundle} --source {good} --max-frames 0", 2, "0 is not in the range"),
    "score with another backend": Case("score {bundle} {good} --out {new} --backend tpu", 2, "'tpu' is not one of"),
    "bench of zero frames": Case("bench {bundle} --frames 0", 2, "0 is not in the range"),
    "evaluate without draws": Case("evaluate {bundle} {root} --draws 0", 2, "0 is not in the range"),
    # export
    "export of an unknown backbone": Case("export --out {new} --backbone vgg", 1, "unknown backbone 'vgg'"),
    "export of an odd size": Case("export --out {new} --input-size 100", 1, "--input-size 100: expected a multiple"),
    "export of taps in words": Case("export --out {new} --taps deep", 2, "--taps 'deep': expected strides"),
    "export of a stride that is not there": Case("export --out {new} --taps 8,12", 1, "has no stride 12"),
    "export of weights that are not there": Case("export --out {new} --weights {gone}", 1, "no such file"),
    "export of weights that are text": Case("export --out {new} --weights {file}", 1, "not a file of plain weights"),
    "export over somebody's folder": Case("export --out {taken} --overwrite", 2, "exists and is not empty"),
    "export over a file": Case("export --out {file}", 2, "is a file, a folder is needed"),
    "export below a file": Case("export --out {file}/pack", 2, "is a file, a folder is needed"),
    "export with one good picture": Case("export --out {new} --good {few} --input-size 64", 1, "1 pictures, at least"),
    "export with no good folder": Case("export --out {new} --good {gone} --input-size 64", 1, "no such folder"),
    # pretrain
    "pretrain of no pack": Case("pretrain --pack {gone} --good {good}", 1, "is not a pack"),
    "pretrain of a bundle": Case("pretrain --pack {bundle} --good {good}", 1, "expected kind 'oddkind-pack'"),
    "pretrain on one picture": Case("pretrain --pack {pack} --good {few}", 1, "1 readable pictures"),
    "pretrain on few classes": Case("pretrain --pack {pack} --good {good} --classes 2", 2, "at least 16 needed"),
    "pretrain without episodes": Case("pretrain --pack {pack} --good {good} --episodes 0", 2, "at least 1 needed"),
    "pretrain on no textures": Case("pretrain --pack {pack} --good {good} --textures {empty}", 1, "no readable"),
    # calibrate
    "calibrate on no folder": Case("calibrate {gone} --pack {pack} --out {new}", 1, "no such folder"),
    "calibrate on an empty folder": Case("calibrate {empty} --pack {pack} --out {new}", 1, "0 readable pictures"),
    "calibrate on broken pictures": Case("calibrate {broken} --pack {pack} --out {new}", 1, "1 that cannot be read"),
    "calibrate on one picture": Case("calibrate {few} --pack {pack} --out {new}", 1, "1 readable pictures"),
    "calibrate with a bundle for a pack": Case("calibrate {good} --pack {bundle} --out {new}", 1, "give a pack folder"),
    "calibrate with half a pack": Case(
        "calibrate {good} --pack {pack} --out {new}", 1, "is missing", remove("pack/backbone.int8.onnx")
    ),
    "calibrate with a flipped bit": Case(
        "calibrate {good} --pack {pack} --out {new}", 1, "is not the file", flip("pack/backbone.int8.onnx")
    ),
    "calibrate without rows": Case("calibrate {good} --pack {pack} --out {new} --bank-rows 0", 2, "expected 1 to"),
    "calibrate to reject all": Case(
        "calibrate {good} --pack {pack} --out {new} --false-reject-rate 1", 2, "between 0 and 1"
    ),
    "calibrate on a tap that is not there": Case(
        "calibrate {good} --pack {pack} --out {new} --taps s4", 1, "no tap 's4' in this pack; it has s8, s16"
    ),
    "calibrate with a negative seed": Case("calibrate {good} --pack {pack} --out {new} --seed -1", 2, "seed"),
    "calibrate over a bundle unasked": Case("calibrate {good} --pack {pack} --out {bundle}", 2, "add --overwrite"),
    "calibrate below a file": Case("calibrate {good} --pack {pack} --out {file}/x", 2, "is a file, a folder is needed"),
    "calibrate where nobody may write": Case("calibrate {good} --pack {pack} --out /proc/x/y", 1, "/proc"),
    # enrol and classes
    "enrol of a good part": Case("enrol {bundle} dent {good}/001.png", 1, "nothing odd in it"),
    "enrol of no picture": Case("enrol {bundle} dent {gone}", 1, "cannot be read (No such file"),
    "enrol of a text": Case("enrol {bundle} dent {root}/text.png", 1, "not a picture OpenCV can decode"),
    "enrol of an empty file": Case("enrol {bundle} dent {root}/zero.png", 1, "the file is empty"),
    "enrol of a folder": Case("enrol {bundle} dent {good}", 1, "cannot be read (Is a directory)"),
    "enrol of one good and one broken": Case(
        "enrol {bundle} dent {good}/001.png {root}/cut.png --force", 1, "cut.png: "
    ),
    "enrol as good": Case("enrol {bundle} good {good}/001.png", 1, "not 'good'"),
    "enrol under a path": Case("enrol {bundle} ../x {good}/001.png", 1, "class name '../x': expected"),
    "enrol of a box in words": Case("enrol {bundle} dent {good}/001.png --box here", 2, "--box 'here': expected"),
    "enrol of a box outside": Case(
        "enrol {bundle} dent {good}/001.png --force --box 0,0,99999,5", 1, "inside the picture"
    ),
    "enrol into a broken store": Case(
        "enrol {bundle} dent {good}/001.png --force", 1, "not a readable class store", flip("bundle/classes.npz")
    ),
    "list of a text for a store": Case(
        "classes list {bundle}", 1, "not a readable class store", overwrite("bundle/classes.npz", b"text")
    ),
    "show of no class": Case("classes show {bundle} rust", 1, "rust"),
    "remove of no class": Case("classes remove {bundle} rust", 1, "rust"),
    "rename of no class": Case("classes rename {bundle} rust dent", 1, "rust"),
    "rename to unknown": Case(f"classes rename {{bundle}} {ENROLLED} unknown", 1, "not 'unknown'"),
    # score
    "score of no bundle": Case("score {gone} {good} --out {new}", 1, "is not a bundle"),
    "score of a file for a bundle": Case("score {file} {good} --out {new}", 1, "is not a bundle"),
    "score of no folder": Case("score {bundle} {gone} --out {new}", 2, "no such folder"),
    "score of an empty folder": Case("score {bundle} {empty} --out {new}", 2, "no files in it"),
    "score into somebody's folder": Case("score {bundle} {good} --out {taken}", 2, "holds no result of oddkind"),
    "score into a file": Case("score {bundle} {good} --out {file}", 2, "is a file, a folder is needed"),
    "score onto its own pictures": Case("score {bundle} {good} --out {good}", 2, "contains the folder of pictures"),
    "score below a file": Case("score {bundle} {good} --out {file}/x", 1, "Not a directory"),
    "score with a flipped bank": Case(
        "score {bundle} {good} --out {new}", 1, "memory_bank.npz is not the file", flip("bundle/memory_bank.npz")
    ),
    "score without an index": Case(
        "score {bundle} {good} --out {new}", 1, "memory_bank.hnsw is missing", remove("bundle/memory_bank.hnsw")
    ),
    "score with a manifest of another age": Case(
        "score {bundle} {good} --out {new}", 1, "schema_version 99", change_manifest("bundle", schema_version=99)
    ),
    "score with a manifest that asks for a file outside": Case(
        "score {bundle} {good} --out {new}",
        1,
        "a file outside the folder",
        change_manifest("bundle", files={"../file": {"sha256": "0", "size_bytes": 6}}),
    ),
    "score with half a manifest": Case(
        "score {bundle} {good} --out {new}", 1, "is not JSON", overwrite("bundle/manifest.json", b'{"kind": ')
    ),
    # run
    "run of no source": Case("run {bundle} --source {gone}", 1, "no such file or folder"),
    "run of an empty folder": Case("run {bundle} --source {empty}", 1, "no pictures in this folder"),
    "run of a text for a video": Case("run {bundle} --source {root}/text.mp4", 1, "not a video that OpenCV can decode"),
    "run of an unknown scheme": Case("run {bundle} --source gopher://x/y", 1, "gopher:// is not supported"),
    "run of no bundle": Case("run {gone} --source {good}", 1, "is not a bundle"),
    "run onto a folder": Case("run {bundle} --source {good} --out {empty}", 1, "cannot take records (Is a directory)"),
    "run of a station that is not there": Case("run --station {gone}", 1, "'oddkind station init' writes an example"),
    "run of a picture as station": Case("run --station {good}/000.png", 1, "000.png:1: not UTF-8 text"),
    "run of a folder as station": Case("run --station {good}", 1, "Is a directory"),
    "run of a station that is text": Case("run --station {file}", 1, "expected keys: name, bundle"),
    "run of a station and flags": Case("run {bundle} --station {file}", 2, "--station says it all: leave out BUNDLE"),
    # station
    "station check of no file": Case("station check {gone}", 1, "No such file or directory"),
    "station check of text": Case("station check {file}", 1, "file: 1 problem"),
    "station init over a file": Case("station init {file}", 2, "exists; give another name"),
    "station init over a folder": Case("station init {good}", 2, "exists; give another name"),
    "station init below a file": Case("station init {file}/station.yaml", 1, "cannot be written"),
    "station without a verb": Case("station explain {file}", 2, "No such command 'explain'"),
    "run that would film itself": Case(
        "run {bundle} --source {good} --annotated {good}/seen", 2, "lies in the source folder"
    ),
    # evaluate, bench, demo
    "evaluate on no folder": Case("evaluate {bundle} {gone}", 1, "no such folder"),
    "evaluate without good pictures": Case("evaluate {bundle} {empty}", 1, "no pictures in a folder 'good'"),
    "evaluate on shots in words": Case("evaluate {bundle} {root} --shots two", 2, "--shots 'two': expected"),
    "evaluate into somebody's folder": Case("evaluate {bundle} {root} --out {taken}", 2, "exists and is not empty"),
    "bench of no bundle": Case("bench {gone}", 1, "is not a bundle"),
    "bench of a frame in words": Case("bench {bundle} --frame-size big", 2, "--frame-size 'big': expected"),
    "bench of a frame too small": Case("bench {bundle} --frame-size 2x2", 2, "expected sides of at least"),
    "bench of a text": Case("bench {bundle} --picture {root}/text.png", 1, "not a picture OpenCV can decode"),
    "demo in somebody's folder": Case("demo --out {taken}", 2, "exists and is not empty"),
    "demo with defects alone": Case("demo --out {new} --defects {good}", 2, "belong together"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input_gets_one_clear_line_and_costs_nothing(case: Case, tmp_path: Path, template: Path) -> None:
    root = tmp_path
    shutil.copytree(template, root, dirs_exist_ok=True, copy_function=link_or_copy(case))
    if case.damage:
        case.damage(root)
    before = snapshot(root)
    places = {name: root / name for name in ("bundle", "pack", "good", "new", "gone", "file", "taken", "few")}
    places |= {"root": root, "empty": root / "empty", "broken": root / "broken"}
    result = run_oddkind(*(word.format(**places) for word in case.arguments.split()))
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == case.exit_code, result.output
    assert "Traceback" not in result.output
    assert case.says in result.stderr
    if lines[0].startswith("Usage: "):
        assert lines[-1].startswith("Error: ")
    else:
        assert len(lines) == 1
        assert lines[0].startswith("oddkind: ")
    assert snapshot(root) == before


def link_or_copy(case: Case) -> Callable[[str, str], str]:
    """Files nobody is to change are links, so that ninety copies cost nothing; those a case damages are copies."""

    def place(source: str, target: str) -> str:
        Path(target).write_bytes(Path(source).read_bytes()) if case.damage else Path(target).hardlink_to(source)
        return target

    return place


def test_the_table_is_as_long_as_promised_and_covers_every_command() -> None:
    from edge.registry import COMMANDS

    assert len(CASES) >= 40
    assert set(COMMANDS) <= {case.arguments.split()[0] for case in CASES.values()}
