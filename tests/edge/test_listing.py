"""Every file once, in the order of sorted paths, on every file system."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import fsspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.file_store import FileStore
from edge.listing import LocalFolder, iter_entries
from edge.pictures import iter_files
from edge.results_folder import ResultsFolder, RunFacts

FACTS = RunFacts("0" * 16, "/pictures", None, "onnxruntime", "int8", False)
NAMES = st.lists(st.text("ab .-Z0", min_size=1, max_size=4), min_size=1, max_size=3)


def paths(folder: Path) -> list[str]:
    return [entry.path for entry in iter_entries(LocalFolder(folder))]


@settings(max_examples=40, deadline=None)
@given(trees=st.lists(NAMES, max_size=12))
def test_order_and_choice_are_those_of_sorted_paths(tmp_path_factory: object, trees: list[list[str]]) -> None:
    folder: Path = tmp_path_factory.mktemp("tree")  # type: ignore[attr-defined]
    for parts in trees:
        path = folder.joinpath(*(part.strip(". ") or "x" for part in parts))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        except OSError:  # a file where another name needs a folder
            continue
    (folder / ".hidden").mkdir(exist_ok=True)
    (folder / ".hidden" / "a").write_text("x")

    listed = paths(folder)

    assert listed == [path.relative_to(folder).as_posix() for path in iter_files(folder)]
    assert listed == sorted(listed, key=lambda path: PurePosixPath(path).parts)


def test_an_entry_knows_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    os.utime(tmp_path / "a.png", (1_000_000_000.25, 1_000_000_000.25))
    (entry,) = iter_entries(LocalFolder(tmp_path))
    assert (entry.path, entry.size_bytes, entry.changed_at) == ("a.png", 5, "2001-09-09T01:46:40.250Z")


def test_links_to_files_count_and_links_to_folders_do_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_text("x")
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere")
    assert paths(tmp_path) == ["link.png", "real/a.png"]


def test_earlier_results_and_what_is_skipped_are_left_out_but_another_run_json_is_not(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    with ResultsFolder.opened(tmp_path / "b-results", FACTS) as results:
        results.records_path.write_text("")
    (tmp_path / "c" / "run.json").write_text("{}")
    entries = iter_entries(LocalFolder(tmp_path), skip=lambda below: below == "a")
    assert [entry.path for entry in entries] == ["b/2.png", "c/3.png", "c/run.json"]


def test_a_file_system_by_url_lists_the_same(tmp_path: Path) -> None:
    names = ["a good/0.png", "a.png", "b/c/d.png", "b/x.png", ".hidden/a.png"]
    memory = fsspec.filesystem("memory")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        memory.pipe_file(f"/listing/{name}", name.encode())
    by_url = list(iter_entries(FileStore("memory://listing")))
    assert [(e.path, e.size_bytes) for e in by_url] == [
        (e.path, e.size_bytes) for e in iter_entries(LocalFolder(tmp_path))
    ]
