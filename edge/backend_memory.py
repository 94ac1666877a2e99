"""Where `--backend auto` keeps what it found: a small file for each bundle and machine, in the user's cache folder.

It is a cache: a file that is missing, unreadable or somebody else's means measuring again, and one that cannot be
written means measuring next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product, starmap
from pathlib import Path
from typing import get_args

from edge.machine import cpu_name, usable_cores
from edge.manifest import BackendName, Precision

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class ProbeKey:
    """All that the choice depends on: when any of it changes, it is made anew."""

    bundle_id: str
    runtimes: dict[str, str]
    cpu: str
    cores: int
    threads: int
    precision: str | None
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, bundle_id: str, backends: Sequence[BackendName], precision: Precision | None, threads: int) -> ProbeKey:
        """The key on this machine, with the versions that are installed now."""
        runtimes = {str(name): version(name) for name in backends}
        return cls(bundle_id, runtimes, cpu_name(), usable_cores(), threads, precision)

    @property
    def path(self) -> Path | None:
        """The file for this key; None when there is no cache folder."""
        root = cache_root()
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
        return root / "oddkind" / f"backend-{digest}.json" if root else None


def cache_root() -> Path | None:
    """$XDG_CACHE_HOME, else ~/.cache; None for an account without a home. A relative one is to be ignored."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


@dataclass(frozen=True)
class Choice:
    """What to inspect with. products: runtime of search and head, another than the usual where that does not run."""

    backend: BackendName
    precision: Precision
    products: BackendName = "onnxruntime"

    @property
    def runtime(self) -> tuple[BackendName, Precision]:
        """Of the graphs."""
        return self.backend, self.precision


def recall(key: ProbeKey) -> Choice | None:
    """What was chosen before under this key; None when nothing, or nothing that can be trusted, is there."""
    try:
        document = json.loads(key.path.read_text(encoding="utf-8")) if key.path else None
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("key") != asdict(key):
        return None
    known = starmap(Choice, product(get_args(BackendName), get_args(Precision), get_args(BackendName)))
    return next((choice for choice in known if document == {"key": asdict(key), **asdict(choice)}), None)


def remember(key: ProbeKey, chosen: Choice) -> None:
    """Write the choice, whole or not at all."""
    document = {"key": asdict(key), **asdict(chosen)}
    if key.path is None:
        return
    with suppress(OSError):
        key.path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=key.path.parent, prefix=".backend-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(document, stream)
            Path(aside).replace(key.path)
        except OSError:
            Path(aside).unlink(missing_ok=True)
            raise
