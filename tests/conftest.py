"""Shared fixtures: tiny real things, made once a session and read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BANK_ROWS = "300"
GOOD_PARTS = 24
PER_KIND = 3
MANY = 240
BOARDS, BOARD_PX = 24, 640


@pytest.fixture(scope="session")
def real_pictures() -> Path:
    """Folder of the real inspection pictures; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real pictures are not at {DATA}")
    return DATA


@pytest.fixture(scope="session")
def pack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model pack of EfficientNet-Lite0 at 256 px, its INT8 calibrated on generated textures."""
    from export.pack import export_pack

    out = tmp_path_factory.mktemp("pack") / "pack"
    export_pack(out)
    return out


@pytest.fixture(scope="session")
def good_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GOOD_PARTS rendered good parts."""
    from calibration.demo_line import render_good
    from edge.pictures import write_picture

    folder = tmp_path_factory.mktemp("good")
    for index in range(GOOD_PARTS):
        write_picture(folder / f"{index:03d}.png", render_good(index))
    return folder


@pytest.fixture(scope="session")
def defects_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PER_KIND rendered parts of each kind of defect, one subfolder a kind."""
    from calibration.demo_line import KINDS, render_defect
    from edge.pictures import write_picture

    folder = tmp_path_factory.mktemp("defects")
    for kind in KINDS:
        for index in range(PER_KIND):
            write_picture(folder / kind / f"{index:03d}.png", render_defect(kind, index)[0])
    return folder


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path, good_dir: Path) -> Path:
    """A bundle calibrated on `good_dir`; copy it before enrolling into it."""
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    result = run_oddkind(
        "calibrate", str(good_dir), "--pack", str(pack_dir), "--out", str(out), "--bank-rows", BANK_ROWS
    )
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def boards_dir(tmp_path_factory: pytest.TempPathFactory, good_dir: Path) -> Path:
    """BOARDS large good pictures, BOARD_PX square: four parts each."""
    from edge.pictures import read_picture, write_picture

    folder = tmp_path_factory.mktemp("boards")
    parts = [cv2.resize(read_picture(path), (BOARD_PX // 2,) * 2) for path in sorted(good_dir.iterdir())]
    for board in range(BOARDS):
        a, b, c, d = (parts[(board + shift) % len(parts)] for shift in (0, 5, 11, 17))
        write_picture(folder / f"{board:02d}.png", np.vstack([np.hstack([a, b]), np.hstack([c, d])]))
    return folder


@pytest.fixture(scope="session")
def tiled_bundle_dir(tmp_path_factory: pytest.TempPathFactory, pack_dir: Path, boards_dir: Path) -> Path:
    """A bundle of BOARDS boards in tiles of 256 px; copy it before enrolling into it."""
    out = tmp_path_factory.mktemp("tiled") / "bundle"
    arguments = ("--pack", str(pack_dir), "--out", str(out), "--bank-rows", BANK_ROWS, "--tile", "256")
    result = run_oddkind("calibrate", str(boards_dir), *arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, good_dir: Path, defects_dir: Path) -> Path:
    """MANY pictures in three folders, and a broken one."""
    folder = tmp_path_factory.mktemp("many")
    sources = sorted(good_dir.rglob("*.png"))[:8] + sorted(defects_dir.rglob("*.png"))[:4]
    for number in range(MANY):
        target = folder / f"lot {number % 3}" / f"{number:03}.png"
        target.parent.mkdir(exist_ok=True)
        os.link(sources[number % len(sources)], target)
    (folder / "lot 1" / "broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def one_core(tmp_path_factory: pytest.TempPathFactory, many: Path, bundle_dir: Path) -> Path:
    """Results of `many`, made in one process: what every other way of working is compared with."""
    from edge.inspector import Inspector
    from edge.score import ScoreOptions, score_folder

    out = tmp_path_factory.mktemp("one") / "out"
    score_folder(Inspector.load(bundle_dir), many, out, ScoreOptions(report=True, parquet=True))
    return out


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Address of a running S3-compatible server; the environment names it too."""
    from s3_server import s3_server

    with s3_server() as address:
        yield address


def run_oddkind(*arguments: str) -> Result:
    """`oddkind ARGUMENTS` in this process; stdout and stderr apart, no exception swallowed but SystemExit."""
    from edge.cli import main

    result = CliRunner().invoke(main, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def start_child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts stations that write records to a database until they are killed, which they are at the end at the latest.

    start_child(path, mqtt_port=0, webhook_url="-", per_s=20.0); 0 and "-" leave that receiver out.
    """
    children: list[subprocess.Popen[bytes]] = []

    def start(path: Path, mqtt_port: int = 0, webhook_url: str = "-", per_s: float = 20.0) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("output_records.py")
        command = [sys.executable, program, path, str(mqtt_port), webhook_url, str(per_s)]
        with path.with_suffix(".log").open("ab") as log:
            children.append(subprocess.Popen(command, stdout=log, stderr=log, env=child_environment()))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def child_environment() -> dict[str, str]:
    """With which a child finds the code that is being tested."""
    root = Path(__file__).resolve().parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
