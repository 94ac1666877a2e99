"""deploy/install.sh in a fresh prefix, with real environments: installed, brought up to date, taken back, removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from station_installation import own_environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "install.sh"


@dataclass(frozen=True)
class Place:
    """Where a test installs to: nothing outside `folder`."""

    folder: Path

    def install(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """install.sh with the options of a trial and these."""
        folders = [f"--{name}={self.folder / name}".split("=") for name in ("prefix", "state", "config", "bin")]
        command = ["bash", SCRIPT, "--no-service", *chain.from_iterable(folders), *arguments]
        everything = own_environment(**environment)
        return subprocess.run(command, cwd=self.folder, env=everything, capture_output=True, text=True, check=False)

    @property
    def current(self) -> str:
        """Number of the installation that is in use."""
        return (self.folder / "prefix" / "current").readlink().name

    @property
    def kept(self) -> list[str]:
        """Numbers of all that are there."""
        return sorted(path.name for path in (self.folder / "prefix" / "releases").iterdir())

    def oddkind(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command that was installed, by the link to it."""
        command = [self.folder / "bin" / "oddkind", *arguments]
        environment = own_environment()
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Place]:
    """Installed once from a checkout by its index, without extras; tests below go on with it in their order."""
    here = Place(tmp_path_factory.mktemp("installed"))
    done = here.install("--extras", "", checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    yield here
    shutil.rmtree(here.folder)


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian: apt install shellcheck)")
    scripts = [*ROOT.glob("deploy/**/*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 4
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- what is wrong is one line, and nothing is changed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prefix"], "--prefix needs a value"),
        (["--prefix", "relative"], "expected an absolute path, got 'relative'"),
        (["--prefix", "/"], "expected a folder of its own"),
        (["--state", "/var/../etc"], "expected a folder of its own"),
        (["--config", "/a|b"], "letters, digits"),
        (["--extras", "station; rm"], "expected names with commas"),
        (["--nothing"], "unknown option --nothing"),
        (["one", "two"], "one SOURCE expected"),
        (["/nowhere"], "no such wheel or checkout: /nowhere"),
        (["--wheels", "/nowhere"], "no such folder: /nowhere"),
        (["--wheels", "/usr"], "no oddkind-*.whl in /usr"),
        (["/usr"], "is no checkout of oddkind"),
        (["--constraints", "/nowhere"], "no such file: /nowhere"),
        (["--python", "/bin/false"], "Python 3.11 or newer needed"),
        (["--python", "no-python"], "Python 3.11 or newer needed"),
        (["--rollback"], "nothing is installed in"),
        (["--uninstall"], "nothing is installed in"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(place: Place, arguments: list[str], words: str) -> None:
    done = place.install(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert words in done.stderr
    assert list(place.folder.iterdir()) == []


def test_a_missing_compiler_is_said_before_anything_is_made(place: Place) -> None:
    tools = place.folder / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "realpath", "id", "basename", "readlink", "sed"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    done = place.install("--python", os.path.realpath("/proc/self/exe"), PATH=str(tools), CXX="no-compiler")
    assert done.returncode == 1
    assert "no C++ compiler, hnswlib is built from source; on Debian: apt install g++" in done.stderr
    assert list(place.folder.iterdir()) == [tools]


def test_a_folder_that_is_somebody_elses_is_left_alone(place: Place) -> None:
    (place.folder / "prefix" / "bin").mkdir(parents=True)
    for arguments in ([], ["--uninstall"]):
        done = place.install(*arguments)
        assert done.returncode == 1 and "by this script" in done.stderr
    assert (place.folder / "prefix" / "bin").is_dir()


def test_a_dry_run_says_everything_and_does_nothing(place: Place, checkout: Path) -> None:
    done = place.install("--dry-run", checkout)
    assert done.returncode == 0, done.stderr
    for word in ("-m venv", "pip", "releases/1", "station.yaml", f"{place.folder}/bin/oddkind"):
        assert word in done.stdout
    assert list(place.folder.iterdir()) == []


# --- one installation from its beginning to its end


def test_a_station_runs_where_nothing_was_before(used: Place, bundle_dir: Path, good_dir: Path) -> None:
    assert (used.current, used.kept) == ("1", ["1"])
    file = used.folder / "config" / "station.yaml"
    checked = used.oddkind("station", "check", file)
    assert checked.returncode == 1 and "no such folder" in checked.stdout  # no bundle yet, and nothing else
    assert checked.stdout.count("\n") == 1
    shutil.copytree(bundle_dir, used.folder / "state" / "bundle")
    text = file.read_text().replace('source: "0"', f"source: {good_dir}").replace("    wait_for_camera: true\n", "")
    file.write_text(text)
    ran = used.oddkind("run", "--station", file)
    assert ran.returncode == 0, ran.stderr
    lines = (used.folder / "state" / "results.jsonl").read_text().splitlines()
    assert len([json.loads(line)["verdict"] for line in lines]) == len(list(good_dir.iterdir()))


def test_torch_and_what_was_not_asked_for_is_not_there(used: Place) -> None:
    names = {path.name for path in (used.folder / "prefix").glob("releases/1/lib/python3*/site-packages/*")}
    assert "edge" in names
    assert not names & {"torch", "openvino", "paho", "starlette"}


def test_the_checkout_is_left_as_it_was(used: Place, checkout: Path) -> None:
    assert not [path for path in checkout.iterdir() if path.name in ("build", "dist") or "egg-info" in path.name]


def test_an_update_that_fails_changes_nothing(used: Place, tmp_path: Path, wheels: Path) -> None:
    shutil.copytree(wheels, tmp_path / "wheels")
    next((tmp_path / "wheels").glob("numpy-*.whl")).unlink()
    done = used.install("--wheels", tmp_path / "wheels")
    assert done.returncode == 1
    assert "pip failed; nothing was changed" in done.stderr
    assert (used.current, used.kept) == ("1", ["1"])


def test_an_update_without_a_network_keeps_the_station_file(used: Place, wheels: Path) -> None:
    before = (used.folder / "config" / "station.yaml").read_text()
    done = used.install("--wheels", wheels, HTTPS_PROXY="http://127.0.0.1:9", PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert (used.current, used.kept) == ("2", ["1", "2"])
    assert (used.folder / "config" / "station.yaml").read_text() == before
    assert "stays as it is" in done.stdout
    assert used.oddkind("--version").returncode == 0


def test_back_and_forth(used: Place) -> None:
    for number in ("1", "2", "1"):
        done = used.install("--rollback")
        assert done.returncode == 0, done.stderr
        assert used.current == number
        assert used.oddkind("--version").returncode == 0


def test_an_update_keeps_what_ran_until_then_and_forgets_the_rest(used: Place, wheels: Path) -> None:
    assert used.install("--wheels", wheels).returncode == 0
    assert (used.current, used.kept) == ("3", ["1", "3"])  # 1 was in use


def test_what_is_removed_leaves_records_and_station_file(used: Place) -> None:
    (used.folder / "prefix" / "mine.txt").write_text("not of the installation")
    assert used.install("--uninstall", "--dry-run").returncode == 0
    assert used.kept == ["1", "3"]
    done = used.install("--uninstall")
    assert done.returncode == 0, done.stderr
    left = {str(path.relative_to(used.folder)) for path in used.folder.rglob("*") if not path.is_dir()}
    assert {path for path in left if not path.startswith("state/bundle/")} == {
        "prefix/mine.txt",
        "config/station.yaml",
        "state/results.jsonl",
        "state/.results.jsonl.lock",
    }
