"""A bundle on its way to another machine: the same bytes for the same bundle, checked, and fetched again if damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import run_oddkind

from edge import bundle_parcel
from edge.batch import Batch
from edge.errors import BundleError, WorkerError
from edge.file_store import FileStore
from edge.listing import LocalFolder, iter_entries
from edge.results_folder import digest_of
from edge.setting import InspectorSetting
from edge.shard_task import ShardTask, score_shard
from edge.shards import cut


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """Where results go; workers have a cache of their own."""
    monkeypatch.setenv("ODDKIND_CACHE", str(tmp_path / "cache"))
    return FileStore(str(tmp_path / "out"))


@pytest.fixture
def enrolled(bundle_dir: Path, good_dir: Path, tmp_path: Path) -> InspectorSetting:
    """A bundle whose classes lie elsewhere."""
    bundle, classes = shutil.copytree(bundle_dir, tmp_path / "bundle"), tmp_path / "line-3.npz"
    picture = str(sorted(good_dir.iterdir())[0])
    done = run_oddkind(
        "enrol", str(bundle), "dent", picture, "--box", "40,40,60,60", "--force", "--classes", str(classes)
    )
    assert done.exit_code == 0, done.output
    return InspectorSetting(Path(bundle), classes_path=classes)


def sent(store: FileStore, setting: InspectorSetting) -> str:
    return bundle_parcel.send(store, setting, digest_of(setting.enrolled))


def task_of(store: FileStore, setting: InspectorSetting, pictures: Path, parcel: str) -> ShardTask:
    folder = LocalFolder(pictures)
    (shard,) = cut(list(iter_entries(folder))[:2], "0" * 64, 16)
    elsewhere = replace(setting, bundle=Path("/not/on/this/machine"))
    return ShardTask(shard, Batch(elsewhere, folder), store, parcel)


def test_the_bundle_arrives_with_its_classes_and_goes_out_once(
    store: FileStore, enrolled: InspectorSetting, bundle_dir: Path
) -> None:
    name = sent(store, enrolled)
    content = store.read_bytes(name)
    store.put(name, b"mark")
    assert sent(store, enrolled) == name and store.read_bytes(name) == b"mark"  # it was there already
    store.remove(name)
    assert sent(store, enrolled) == name and store.read_bytes(name) == content  # and the same bytes again
    folder = bundle_parcel.fetch(store, name)
    arrived = InspectorSetting(folder)
    assert arrived.manifest() == enrolled.manifest()
    assert arrived.load().classes_path.read_bytes() == enrolled.enrolled.read_bytes()
    assert sent(store, InspectorSetting(bundle_dir)) != name  # other classes are another parcel


def test_a_worker_uses_it_and_a_damaged_copy_in_its_cache_is_fetched_again(
    store: FileStore, bundle_dir: Path, good_dir: Path
) -> None:
    setting = InspectorSetting(bundle_dir)
    parcel = sent(store, setting)
    folder = bundle_parcel.fetch(store, parcel)
    (folder / "memory_bank.npz").write_bytes(b"damaged")
    assert score_shard(task_of(store, setting, good_dir, parcel)).pictures == 2
    assert (folder / "memory_bank.npz").read_bytes() == (bundle_dir / "memory_bank.npz").read_bytes()


def test_a_parcel_that_cannot_be_used_is_one_clear_error(store: FileStore, bundle_dir: Path, good_dir: Path) -> None:
    task = task_of(store, InspectorSetting(bundle_dir), good_dir, "bundles/gone.zip")
    with pytest.raises(BundleError, match=r"cannot be seen from .*; give an --out that every worker reaches"):
        score_shard(task)
    store.put("bundles/gone.zip", b"no zip")
    with pytest.raises(BundleError, match=r"is damaged .*; remove it and start again"):
        score_shard(task)
    assert store.names("shards") == set()


def test_a_worker_with_another_version_refuses(store: FileStore, bundle_dir: Path, good_dir: Path) -> None:
    task = task_of(store, InspectorSetting(bundle_dir), good_dir, "bundles/gone.zip")
    with pytest.raises(WorkerError, match=r"has oddkind .*, the run was started with 0\.0; install the same version"):
        score_shard(replace(task, version="0.0"))
