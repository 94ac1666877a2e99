"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.staging import refuse_taken, staged_folder, write_bytes_atomically

MARKER = "manifest.json"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(out: Path, text: str, overwrite: bool = False) -> None:
    with staged_folder(out, MARKER, overwrite) as folder:
        (folder / MARKER).write_text(text)


def test_a_folder_appears_with_everything_in_it(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bundle"
    with staged_folder(out, MARKER) as folder:
        (folder / MARKER).write_text("1")
        assert not out.exists()

    assert (out / MARKER).read_text() == "1"
    assert out.stat().st_mode & 0o777 == 0o755
    assert names_in(tmp_path / "new") == ["bundle"]


def test_a_folder_that_failed_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), staged_folder(tmp_path / "bundle", MARKER) as folder:
        (folder / MARKER).write_text("1")
        raise RuntimeError("half way")

    assert names_in(tmp_path) == []


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write_folder(out, "old")

    with pytest.raises(RuntimeError), staged_folder(out, MARKER, overwrite=True) as folder:
        (folder / MARKER).write_text("new")
        raise RuntimeError

    assert (out / MARKER).read_text() == "old"
    assert names_in(tmp_path) == ["bundle"]


def test_overwrite_replaces_what_it_made_itself(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write_folder(out, "old")
    (out / "left over").touch()

    write_folder(out, "new", overwrite=True)

    assert (out / MARKER).read_text() == "new"
    assert names_in(out) == [MARKER]
    assert names_in(tmp_path) == ["bundle"]


def test_an_earlier_result_is_refused_with_a_hint_to_overwrite(tmp_path: Path) -> None:
    write_folder(tmp_path / "bundle", "old")

    with pytest.raises(UsageError, match="add --overwrite"):
        write_folder(tmp_path / "bundle", "new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebodys_pictures_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_text("dear")

    with pytest.raises(UsageError, match="choose another --out") as caught:
        write_folder(tmp_path / "holiday", "new", overwrite)

    assert "--overwrite" not in str(caught.value)
    assert names_in(tmp_path / "holiday") == ["beach.jpg"]


def test_a_file_at_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("a file")

    with pytest.raises(UsageError, match="a folder is needed"):
        refuse_taken(tmp_path / "bundle", MARKER, overwrite=True)


def test_an_empty_folder_and_no_folder_may_be_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    refuse_taken(tmp_path / "empty", MARKER, overwrite=False)
    write_folder(tmp_path / "empty", "1")

    assert names_in(tmp_path / "empty") == [MARKER]


def test_bytes_replace_bytes_and_leave_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "classes.npz"
    write_bytes_atomically(path, b"old")
    write_bytes_atomically(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert names_in(tmp_path) == ["classes.npz"]


def test_bytes_that_cannot_be_put_in_place_leave_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "classes.npz").mkdir()

    with pytest.raises(OSError):
        write_bytes_atomically(tmp_path / "classes.npz", b"new")

    assert names_in(tmp_path) == ["classes.npz"]


def test_a_process_killed_before_it_renames_leaves_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "classes.npz"
    path.write_bytes(b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; import edge.staging as staging;"
        "staging.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL);"
        "staging.write_bytes_atomically(Path(sys.argv[1]), b'new' * 1000)"
    )

    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False, env={**os.environ})

    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
