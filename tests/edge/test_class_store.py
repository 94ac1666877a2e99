"""The class store: round trips, two writers at once, and a process killed while it writes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.class_store import (
    ClassStore,
    Support,
    check_class_name,
    read_class_store,
    supports_of,
    update_class_store,
)
from edge.errors import BundleError, EnrolmentError

BUNDLE_ID = "0123456789abcdef"
DIM = 3
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() not in ("unknown", "good")
)
# Enrols one support after another, and says so after each.
WRITER = f"""
import sys
from pathlib import Path
import numpy as np
from edge.class_store import Support, update_class_store

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(count):
    support = Support(name, f"{{n}}.png", f"{{name}}-{{n}}", (0, 0, n + 1, 1), 9.0, "2026-01-01T00:00:00.000Z")
    row = np.full((1, {DIM}), n, np.float32)
    update_class_store(path, "{BUNDLE_ID}", {DIM}, lambda store: store.with_supports([support], row))
    print(n + 1, flush=True)
"""


def support(name: str, number: int) -> Support:
    return Support(name, f"{number}.png", f"{number:064x}", (0, 0, number + 1, 2), 1.5, "2026-01-01T00:00:00.000Z")


def store_of(*names: str) -> ClassStore:
    """One support for each name, its descriptor filled with its number."""
    rows = np.arange(len(names), dtype=np.float32)[:, np.newaxis].repeat(DIM, axis=1)
    return ClassStore.empty(BUNDLE_ID, DIM).with_supports([support(n, i) for i, n in enumerate(names)], rows)


def through_bytes(store: ClassStore) -> ClassStore:
    return ClassStore.from_bytes(store.to_bytes(), Path("classes.npz"))


def read(path: Path) -> ClassStore:
    return read_class_store(path, BUNDLE_ID, DIM)


def assert_same(one: ClassStore, other: ClassStore) -> None:
    assert (one.bundle_id, one.supports) == (other.bundle_id, other.supports)
    np.testing.assert_array_equal(one.descriptors, other.descriptors)


@given(st.lists(NAMES, max_size=8))
def test_a_store_survives_the_way_through_bytes(names: list[str]) -> None:
    store = store_of(*names)

    assert_same(through_bytes(store), store)
    assert store.names == list(dict.fromkeys(names))
    assert [store.names[label] for label in store.labels] == names


@given(st.lists(NAMES, min_size=1, max_size=8), NAMES, st.data())
def test_renaming_there_and_back_is_the_same_store(names: list[str], new: str, data: st.DataObject) -> None:
    store, old = store_of(*names), data.draw(st.sampled_from(names))
    if new in names:
        with pytest.raises(EnrolmentError, match="exists already"):
            store.renamed(old, new)
        return

    renamed = through_bytes(store.renamed(old, new))

    assert old not in renamed.names
    assert len(list(supports_of(renamed, new))) == names.count(old)
    assert_same(renamed.renamed(new, old), store)


@given(st.lists(NAMES, min_size=1, max_size=8), st.data())
def test_removing_a_class_takes_its_rows_and_no_others(names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(names))

    left = through_bytes(store_of(*names).without(gone))

    kept = [number for number, name in enumerate(names) if name != gone]
    assert left.descriptors[:, 0].tolist() == kept
    assert [s.source for s in left.supports] == [f"{number}.png" for number in kept]


@given(st.data())
def test_cut_or_scribbled_bytes_are_never_a_store_of_the_wrong_content(data: st.DataObject) -> None:
    store = store_of("scratch", "dent")
    content = bytearray(store.to_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    try:
        read_back = ClassStore.from_bytes(bytes(content), Path("classes.npz"))
    except BundleError as exc:
        assert "restore it or remove it" in str(exc)
    else:  # a flip in a zip's dates or flags changes nothing that counts
        assert_same(read_back, store)


def test_every_single_flipped_bit_is_told_of_or_changes_nothing() -> None:
    store = store_of("scratch", "dent")
    whole = store.to_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        try:
            read_back = ClassStore.from_bytes(bytes(content), Path("classes.npz"))
        except BundleError:
            continue
        assert_same(read_back, store)


def test_a_missing_store_is_an_empty_one(tmp_path: Path) -> None:
    store = read(tmp_path / "classes.npz")

    assert (store.names, store.descriptors.shape) == ([], (0, DIM))


@pytest.mark.parametrize(("bundle_id", "dim"), [("f" * 16, DIM), (BUNDLE_ID, DIM + 1)])
def test_a_store_of_another_bundle_is_refused_and_kept(tmp_path: Path, bundle_id: str, dim: int) -> None:
    path = tmp_path / "classes.npz"
    path.write_bytes(store_of("scratch").to_bytes())
    before = path.read_bytes()

    with pytest.raises(BundleError, match="move the file away and enrol again"):
        read_class_store(path, bundle_id, dim)
    with pytest.raises(BundleError):
        update_class_store(path, bundle_id, dim, lambda store: store)

    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_the_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        read(tmp_path)


def test_the_same_picture_with_the_same_box_counts_once() -> None:
    store = store_of("scratch")

    with pytest.raises(EnrolmentError, match="already a support of 'scratch'"):
        store.with_supports([support("dent", 0)], np.zeros((1, DIM), np.float32))
    with pytest.raises(EnrolmentError, match="already a support of 'dent'"):
        store.with_supports([support("dent", 7), support("dent", 7)], np.zeros((2, DIM), np.float32))


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "classes.npz"
    update_class_store(path, BUNDLE_ID, DIM, lambda _: store_of("scratch"))
    before = path.read_bytes()

    with pytest.raises(EnrolmentError, match="no class 'dent' is enrolled; enrolled: scratch"):
        update_class_store(path, BUNDLE_ID, DIM, lambda store: store.without("dent"))

    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EnrolmentError, match="its folder does not exist"):
        update_class_store(tmp_path / "file" / "c.npz", BUNDLE_ID, DIM, lambda store: store)
    with pytest.raises(EnrolmentError, match="its folder does not exist"):
        update_class_store(tmp_path / "mistyped" / "c.npz", BUNDLE_ID, DIM, lambda store: store)
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize("name", ["", "good", "Unknown", "../x", "a/b", "-x", " x", "a\nb", "ä", "x" * 65, "a,b"])
def test_names_that_would_confuse_a_file_or_a_table_are_refused(name: str) -> None:
    with pytest.raises(EnrolmentError, match="expected up to 64 letters"):
        check_class_name(name)


def test_two_processes_that_enrol_at_once_are_both_counted(tmp_path: Path) -> None:
    path = tmp_path / "classes.npz"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "25"]) for name in ("a", "b")]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]

    store = read(path)
    for name in ("a", "b"):
        assert [s.source for s in supports_of(store, name)] == [f"{n}.png" for n in range(25)]


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_leaves_the_old_store_or_the_new_one(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "classes.npz"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "a", "100000"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "1\n"  # it is in its loop
    time.sleep(random.Random(seed).uniform(0, 0.15))

    writer.send_signal(signal.SIGKILL)
    told = 1 + len(writer.stdout.read().splitlines())
    writer.wait(timeout=10)

    store = read(path)
    assert len(store.supports) in (told, told + 1)  # all it told of, and perhaps the one it was killed at
    assert store.descriptors[:, 0].tolist() == list(range(len(store.supports)))
    update_class_store(path, BUNDLE_ID, DIM, lambda before: before.without("a"))  # the lock died with the process
    assert read(path).names == []
