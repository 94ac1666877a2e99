"""Folders that a URL names: `s3://bucket/lot`, `memory://lot`, `file:///lot`. The only file that imports fsspec."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge.cameras.address import redacted, url_scheme
from edge.errors import OddkindError, OutputError, PictureError, UsageError
from edge.listing import Child, Entry, LocalFolder, PictureFolder, changed_at
from edge.pictures import FrameBgr, decode_picture, refuse_huge
from edge.results_folder import RUN_FILE, parse_run
from edge.staging import atomic_writer

# One put replaces an object there, whole or not at all; a rename would be a copy, and copies of large objects are slow.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2"})
# Seen by one process only: neither other processes nor other machines can work on it.
ONE_PROCESS_SCHEMES = frozenset({"memory"})
# With more than one, s3fs asks for the size of each picture before it asks for the picture: two trips instead of one.
_S3_OPTIONS = {"max_concurrency": 1}
_TIME_KEYS = ("mtime", "LastModified", "last_modified", "updated", "created")


def is_local(location: str) -> bool:
    """Whether `location` is a path, or a `file://` URL, of this machine."""
    return url_scheme(location) in (None, "file", "local")


def local_path(location: str) -> Path:
    """The path of a local `location`."""
    return Path(location.partition("://")[2] if url_scheme(location) else location)


def picture_folder(location: str) -> PictureFolder:
    """The folder of pictures at `location`; UsageError when there is none."""
    if is_local(location):
        path = local_path(location)
        if not path.is_dir():
            raise UsageError(f"{location}: no such folder; give a folder of pictures")
        return LocalFolder(path.resolve())
    store = FileStore(location)
    if not store.exists(""):
        raise UsageError(f"{store.source}: no such folder; give a folder of pictures")
    return store


@dataclass(frozen=True)
class FileStore:
    """A folder somewhere. Small and picklable: every process opens the file system for itself."""

    location: str

    @property
    def source(self) -> str:
        """Its name in records and errors, without a password."""
        return redacted(self.location.rstrip("/"))

    @property
    def is_for_one_process(self) -> bool:
        """Whether other processes cannot see it."""
        return url_scheme(self.location) in ONE_PROCESS_SCHEMES

    def children(self, below: str) -> Iterator[Child]:
        """Files and folders directly in `below`."""
        fs, path = self._at(below)
        with self._border("cannot be listed", passes=FileNotFoundError):
            found = fs.ls(path, detail=True)
        for info in found:
            name = info["name"].rstrip("/").rpartition("/")[2]
            if info["name"].strip("/") == path.strip("/"):  # an object that stands for the folder itself
                continue
            if info["type"] == "directory":
                yield Child(name, None)
            elif info["type"] == "file":
                entry_path = f"{below}/{name}" if below else name
                yield Child(name, Entry(entry_path, int(info["size"] or 0), _changed_at(info)))

    def holds_results(self, below: str) -> bool:
        """Whether its `run.json` is ours."""
        content = self.read_bytes(f"{below}/{RUN_FILE}" if below else RUN_FILE)
        return content is not None and parse_run(content) is not None

    def read(self, entry: Entry) -> FrameBgr:
        """The picture. A network that fails is not the picture's fault: that is an OutputError, and no row."""
        refuse_huge(entry.size_bytes, "")
        content = self.read_bytes(entry.path)
        if content is None:
            raise PictureError("cannot be read (No such file or directory)")
        try:
            return decode_picture(np.frombuffer(content, dtype=np.uint8), "")
        except PictureError as exc:
            raise PictureError(str(exc).removeprefix(": ")) from exc

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder called `name`, "" for this folder."""
        fs, path = self._at(name)
        with self._border("cannot be reached"):
            return bool(fs.exists(path))

    def is_empty(self) -> bool:
        """Whether there is nothing in it but hidden files, or no such folder."""
        return not any(not child.name.startswith(".") for child in self._children_if_any(""))

    def names(self, below: str) -> set[str]:
        """Names of the files directly in `below`, none when there is no such folder."""
        return {child.name for child in self._children_if_any(below) if child.entry is not None}

    def read_bytes(self, name: str) -> bytes | None:
        """Content of a file, None when there is none."""
        fs, path = self._at(name)
        try:
            with self._border("cannot be read", passes=FileNotFoundError):
                content: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Write a file that appears, or is replaced, whole or not at all."""
        with self.writer(name) as stream:
            stream.write(content)

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A stream whose content becomes the file `name` when the body ends, and is dropped when it raises."""
        if is_local(self.location):
            with self._local_writer(name) as stream:
                yield stream
            return
        with tempfile.TemporaryDirectory(prefix="oddkind-") as folder:
            aside = Path(folder) / "content"
            with aside.open("wb") as stream:
                yield stream
            self._upload(aside, name)

    def remove(self, below: str) -> None:
        """Remove a file or folder, if it is there."""
        fs, path = self._at(below)
        with self._border("cannot be removed"):
            if fs.exists(path):
                fs.rm(path, recursive=True)

    @contextmanager
    def _local_writer(self, name: str) -> Iterator[BinaryIO]:
        path = local_path(self.location) / name
        try:  # no `_border`: what the body raises is not about the disk
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_writer(path) as stream:
                yield stream
        except OSError as exc:
            raise OutputError(f"{exc.filename or path}: cannot be written ({exc.strerror or exc})") from exc

    def _upload(self, content: Path, name: str) -> None:
        fs, path = self._at(name)
        with self._border("cannot be written"):
            if url_scheme(self.location) in OBJECT_STORES:
                fs.put_file(os.fspath(content), path)
                return
            aside = f"{path.rpartition('/')[0]}/.{name.rpartition('/')[2]}.partial-{uuid.uuid4().hex}"
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.put_file(os.fspath(content), aside)
            fs.mv(aside, path)

    def _children_if_any(self, below: str) -> list[Child]:
        try:
            return list(self.children(below))
        except FileNotFoundError:
            return []

    def _at(self, name: str) -> tuple[Any, str]:
        """File system and full path of `name`."""
        fs, root = _open(self.location)
        root = root.rstrip("/")
        return fs, f"{root}/{name}" if name else root

    @contextmanager
    def _border(self, what: str, passes: type[Exception] = OddkindError) -> Iterator[None]:
        """Errors of the file system, whatever library they come from, become ours; `passes` stays as it is."""
        try:
            yield
        except (OddkindError, passes):
            raise
        except Exception as exc:
            text = f"{type(exc).__name__}: {exc}" if not isinstance(exc, OSError) else exc.strerror or exc
            raise OutputError(f"{self.source}: {what} ({text}); check address, rights and network") from exc


def _open(location: str) -> tuple[Any, str]:
    """fsspec's file system and root for `location`; UsageError says what is missing or mistyped."""
    try:
        import fsspec
    except ImportError as exc:
        raise UsageError("URLs need fsspec, which is not installed; pip install 'oddkind[cluster]'") from exc
    options = _S3_OPTIONS if url_scheme(location) in ("s3", "s3a") else {}
    try:
        fs, root = fsspec.core.url_to_fs(location, use_listings_cache=False, **options)
    except ImportError as exc:
        scheme = url_scheme(location)
        hint = "pip install 'oddkind[s3]'" if scheme in ("s3", "s3a") else str(exc)
        raise UsageError(f"{redacted(location)}: {scheme}:// needs a package that is not installed; {hint}") from exc
    except ValueError as exc:
        raise UsageError(
            f"{redacted(location)}: expected a path, or a URL such as s3://bucket/folder or file:///folder ({exc})"
        ) from exc
    return fs, str(root)


def _changed_at(info: dict[str, Any]) -> str:
    """Time of the last change, 1970 where the file system does not know it."""
    value = next((info[key] for key in _TIME_KEYS if info.get(key) is not None), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return changed_at(float(value))
