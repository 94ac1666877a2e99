"""A bundle on its way to machines without a shared disk: one zip beside the output, one folder in a local cache."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

from filelock import FileLock

from edge.class_store import CLASSES_FILE
from edge.errors import BundleError
from edge.file_store import FileStore
from edge.manifest import MANIFEST_NAME
from edge.setting import InspectorSetting
from edge.staging import staged_folder

PARCELS = "bundles"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: the same bundle gives the same bytes


def send(store: FileStore, setting: InspectorSetting, classes_sha256: str | None) -> str:
    """Put the bundle and its classes beside the results, unless they are there; its name for `fetch`."""
    manifest = setting.manifest()
    name = f"{PARCELS}/{manifest.bundle_id}-{(classes_sha256 or 'no-classes')[:16]}.zip"
    if name.rpartition("/")[2] not in store.names(PARCELS):
        store.put(name, zipped(setting, [MANIFEST_NAME, *manifest.files]))
    return name


def zipped(setting: InspectorSetting, names: list[str]) -> bytes:
    """A zip of these files of the bundle and the enrolled classes; equal content gives equal bytes."""
    files = {name: setting.bundle / name for name in sorted(names)}
    if setting.enrolled.exists():
        files[CLASSES_FILE] = setting.enrolled
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as parcel:
        for name, path in files.items():
            parcel.writestr(zipfile.ZipInfo(name, _LONG_AGO), path.read_bytes())
    return content.getvalue()


def fetch(store: FileStore, name: str) -> Path:
    """The bundle as a folder of this machine; fetched once, whoever asks. The caller checks it by opening it."""
    folder = cache_folder() / Path(name).stem
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _unpack(store, name, folder)
    return folder


def forget(folder: Path) -> None:
    """Drop a folder of the cache that turned out to be damaged, so that it is fetched again."""
    with FileLock(folder.with_suffix(".lock")):
        shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """$ODDKIND_CACHE, else `oddkind` in the user's cache folder."""
    own, general = os.environ.get("ODDKIND_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(general) if general else Path.home() / ".cache") / "oddkind"


def _unpack(store: FileStore, name: str, folder: Path) -> None:
    content = store.read_bytes(name)
    if content is None:
        raise BundleError(
            f"{store.source}/{name} cannot be seen from {os.uname().nodename}; give an --out that every worker reaches"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parcel, staged_folder(folder, MANIFEST_NAME) as staging:
            for member in parcel.namelist():
                (staging / Path(member).name).write_bytes(parcel.read(member))  # plain names only, whatever it says
    except zipfile.BadZipFile as exc:
        raise BundleError(f"{store.source}/{name} is damaged ({exc}); remove it and start again") from exc
