"""Putting a relation head into a pack: whoever reads it meanwhile, or pulls the plug, finds the old one or the new."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from edge.bundle import graph_files
from edge.errors import BundleError
from edge.manifest import (
    MANIFEST_NAME,
    FileFacts,
    PackManifest,
    RelationHeadFacts,
    content_id,
    read_manifest,
    sha256_of,
)
from edge.staging import write_bytes_atomically

STEM = "relation_head"
LOCK_TIMEOUT_S = 60.0

WriteHead = Callable[[Path, str], RelationHeadFacts]


def check_writable(pack: Path) -> None:
    """BundleError before minutes of training, not after them."""
    if not os.access(pack, os.W_OK):
        raise BundleError(f"{pack}: no permission to write the relation head; copy the pack to a folder of your own")


def install_head(pack: Path, write_head: WriteHead) -> PackManifest:
    """Call `write_head(folder, stem)` to write the head's files into the pack, then switch the manifest over to them.

    The files get a stem the old manifest does not name, the manifest is replaced in one step, and the old head's
    files go last. On any error the pack is as it was.
    """
    try:
        with FileLock(pack.with_name(f".{pack.name}.lock"), timeout=LOCK_TIMEOUT_S):
            return _install(pack, write_head)
    except Timeout as exc:
        raise BundleError(f"{pack}: another pretrain has held it for {LOCK_TIMEOUT_S:g} s; try again") from exc
    except OSError as exc:
        raise BundleError(f"{pack}: cannot be written ({exc.strerror or exc}); it is as it was") from exc


def _install(pack: Path, write_head: WriteHead) -> PackManifest:
    manifest = read_manifest(pack, PackManifest)
    old = graph_files(manifest.relation_head.graphs) if manifest.relation_head else []
    stem = f"{STEM}-{_next_number(old)}"
    try:
        facts = write_head(pack, stem)
        new = graph_files(facts.graphs)
        manifest = _with_head(pack, manifest, facts, old, new)
        document = manifest.model_dump_json(indent=2) + "\n"
        write_bytes_atomically(pack / MANIFEST_NAME, document.encode())
    except BaseException:
        _remove_heads(pack, keep=old)
        raise
    _remove_heads(pack, keep=new)
    return manifest


def _with_head(
    pack: Path, manifest: PackManifest, facts: RelationHeadFacts, old: list[str], new: list[str]
) -> PackManifest:
    files = {name: file for name, file in manifest.files.items() if name not in old}
    for name in new:
        files[name] = FileFacts(sha256=sha256_of(pack / name), size_bytes=(pack / name).stat().st_size)
        _fsync(pack / name)
    manifest = manifest.model_copy(update={"relation_head": facts, "files": dict(sorted(files.items()))})
    return manifest.model_copy(update={"pack_id": content_id(manifest)})


def _next_number(old_files: list[str]) -> int:
    numbers = [int(found[1]) for name in old_files if (found := re.match(rf"{STEM}-(\d+)\.", name))]
    return max(numbers, default=0) + 1


def _remove_heads(pack: Path, keep: list[str]) -> None:
    """Files of other heads, also those a killed run left behind."""
    for path in pack.glob(f"{STEM}-*.*"):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
