"""A folder named by a URL: the same answers from a local disk, from memory and from a real S3 server."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from s3_server import forget_connections, fresh

from edge.errors import OutputError, PictureError, UsageError
from edge.file_store import FileStore, is_local, local_path, picture_folder
from edge.listing import Entry, LocalFolder, iter_entries


@pytest.fixture(params=["path", "file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "s3":
        request.getfixturevalue("s3")
    memory = f"memory://{uuid.uuid4().hex}"
    places = {"path": str(tmp_path / "x y"), "file": f"file://{tmp_path}/x", "memory": memory, "s3": fresh()}
    return FileStore(places[request.param])


def test_what_was_put_is_there_and_what_was_not_is_none(store: FileStore) -> None:
    assert (store.is_empty(), store.names("shards"), store.read_bytes("shards/a")) == (True, set(), None)
    store.put("shards/a", b"one")
    store.put("shards/b", b"two")
    store.put("shards/a", b"three")
    assert store.names("shards") == {"a", "b"}
    assert (store.read_bytes("shards/a"), store.read_bytes("shards/c")) == (b"three", None)
    assert store.exists("shards/a") and not store.exists("shards/c") and not store.is_empty()


def test_removing_takes_a_file_or_a_folder_and_nothing_beside_it(store: FileStore) -> None:
    for name in ("shards/a", "shards/b", "shards-kept", "plan.json"):
        store.put(name, b"x")
    store.remove("shards")
    store.remove("plan.json")
    store.remove("never was")
    assert store.names("") == {"shards-kept"} and store.names("shards") == set()


def test_a_file_appears_whole_or_not_at_all(store: FileStore) -> None:
    with store.writer("a") as stream:
        stream.write(b"first")
        assert store.read_bytes("a") is None
    with pytest.raises(ZeroDivisionError), store.writer("a") as stream:
        stream.write(b"second")
        raise ZeroDivisionError
    assert store.read_bytes("a") == b"first"
    assert {child.name for child in store.children("")} == {"a"}  # and nothing was left aside


def test_entries_know_size_and_time(store: FileStore) -> None:
    store.put("lot/a.png", b"12345")
    store.put("lot/deep/b.png", b"1")
    entries = list(iter_entries(store))
    assert [(entry.path, entry.size_bytes) for entry in entries] == [("lot/a.png", 5), ("lot/deep/b.png", 1)]
    ages = [datetime.now(UTC) - datetime.fromisoformat(entry.changed_at) for entry in entries]
    assert all(timedelta(seconds=-2) < age < timedelta(minutes=2) for age in ages)


def test_a_picture_is_read_and_what_is_none_says_why(store: FileStore) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    store.put("a.png", cv2.imencode(".png", picture)[1].tobytes())
    store.put("b.png", b"no picture")
    assert np.array_equal(store.read(Entry("a.png", 1, "")), picture)
    with pytest.raises(PictureError) as broken:
        store.read(Entry("b.png", 1, ""))
    with pytest.raises(PictureError, match="No such file"):
        store.read(Entry("gone.png", 1, ""))
    with pytest.raises(PictureError, match="bytes"):
        store.read(Entry("a.png", 10**12, ""))
    (here := Path(os.environ.get("TMPDIR", "/tmp")) / f"{uuid.uuid4().hex}.png").write_bytes(b"no picture")
    with pytest.raises(PictureError) as local:
        LocalFolder(here.parent).read(Entry(here.name, 1, ""))
    here.unlink()
    assert str(broken.value) == str(local.value)  # or the same picture would have two rows


@pytest.mark.usefixtures("s3")
def test_a_picture_on_s3_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    store = FileStore(fresh())
    store.put("a.png", b"no picture")
    with caplog.at_level(logging.INFO, "werkzeug"):
        store.read_bytes("a.png")
    assert [message.split('"')[1].split()[0] for message in caplog.messages] == ["GET"]


def test_local_folders_are_known_by_path_and_url(tmp_path: Path) -> None:
    assert is_local(str(tmp_path)) and is_local(f"file://{tmp_path}") and not is_local("s3://a/b")
    assert local_path(f"file://{tmp_path}") == local_path(str(tmp_path)) == tmp_path
    assert picture_folder(f"file://{tmp_path}") == LocalFolder(tmp_path)
    for gone in (f"{tmp_path}/gone", f"file://{tmp_path}/gone", "memory://gone/for/good"):
        with pytest.raises(UsageError, match="no such folder"):
            picture_folder(gone)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_one_error_of_ours() -> None:
    with pytest.raises(UsageError, match="s3://gone/lot: no such folder"):
        picture_folder("s3://gone/lot")
    with pytest.raises(OutputError, match=r"s3://gone/out: cannot be written .*; check address, rights and network"):
        FileStore("s3://gone/out").put("run.json", b"{}")


def test_a_password_in_a_url_is_not_shown() -> None:
    assert "secret" not in FileStore("s3://user:secret@bucket/lot").source


def test_an_unknown_protocol_says_what_was_expected() -> None:
    with pytest.raises(UsageError, match=r"ftpx://host/x: expected a path, or a URL such as s3://"):
        FileStore("ftpx://host/x").is_empty()


@pytest.mark.parametrize(
    ("package", "location", "extra"),
    [("fsspec", "memory://lot", "cluster"), ("s3fs", "s3://bucket/lot", "s3"), ("adlfs", "abfs://box/lot", "adlfs")],
)
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, location: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in (package, "fsspec")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=extra) as error:
        FileStore(location).exists("")
    assert "\n" not in str(error.value)


def test_a_server_that_does_not_answer_is_our_error_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_connections()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    started_s = time.monotonic()
    with pytest.raises(OutputError, match=r"s3://nobody-else/out: cannot be read \(EndpointConnectionError"):
        FileStore("s3://nobody-else/out").read_bytes("run.json")
    forget_connections()
    assert time.monotonic() - started_s < 30
