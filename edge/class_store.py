"""Enrolled defect classes: one file, replaced whole, so a kill leaves the old store or the new one."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from edge.defect_bank import TaughtPatches
from edge.errors import UNREADABLE_NPZ, BundleError, EnrolmentError
from edge.regions import BoxXyxy
from edge.result import UNKNOWN
from edge.staging import write_bytes_atomically

Floats = npt.NDArray[np.float32]

CLASSES_FILE = "classes.npz"
STORE_VERSION = 2  # 1 had no taught patches; it is still read
READABLE_VERSIONS = (1, STORE_VERSION)
LOCK_TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


@dataclass(frozen=True)
class Support:
    """One enrolled example. box_xyxy: its region in source pixels. picture_sha256: of its decoded pixels."""

    defect_class: str
    source: str
    picture_sha256: str
    box_xyxy: BoxXyxy
    anomaly_score: float
    enrolled_at: str


@dataclass(frozen=True)
class ClassStore:
    """Supports and their descriptors (S, F), row for row; valid for one bundle only, since residuals are its own.

    taught: patches of those supports that the bundle would have passed as good.
    """

    bundle_id: str
    supports: tuple[Support, ...]
    descriptors: Floats
    taught: TaughtPatches = field(default_factory=TaughtPatches.none)

    @classmethod
    def empty(cls, bundle_id: str, descriptor_dim: int) -> ClassStore:
        """A store without classes."""
        return cls(bundle_id, (), np.zeros((0, descriptor_dim), dtype=np.float32))

    @property
    def names(self) -> list[str]:
        """Class names in order of first enrolment."""
        return list(dict.fromkeys(support.defect_class for support in self.supports))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(S,) index into `names`."""
        number = {name: i for i, name in enumerate(self.names)}
        return np.array([number[s.defect_class] for s in self.supports], dtype=np.int64)

    def with_supports(
        self, supports: Sequence[Support], descriptors: Floats, taught: Sequence[TaughtPatches | None] = ()
    ) -> ClassStore:
        """More supports; EnrolmentError when one of these pictures is already enrolled with the same box.

        taught: for each support its patches, or None; empty when there are none at all.
        """
        known = {(s.picture_sha256, s.box_xyxy): s.defect_class for s in self.supports}
        for support in supports:
            owner = known.get((support.picture_sha256, support.box_xyxy))
            if owner is not None:
                raise EnrolmentError(f"{support.source} is already a support of {owner!r}; nothing was enrolled")
            known[support.picture_sha256, support.box_xyxy] = support.defect_class
        rows = np.concatenate([self.descriptors, descriptors.astype(np.float32)])
        patches = self.taught
        for row, more in enumerate(taught, len(self.supports)):
            patches += more.of_support(row) if more else TaughtPatches.none()
        return replace(self, supports=self.supports + tuple(supports), descriptors=rows, taught=patches)

    def keeping(self, rows: list[int]) -> ClassStore:
        """Only the supports at `rows`, with what belongs to them."""
        supports = tuple(self.supports[row] for row in rows)
        return replace(self, supports=supports, descriptors=self.descriptors[rows], taught=self.taught.keeping(rows))

    def renamed(self, old: str, new: str) -> ClassStore:
        """Class `old` called `new`; EnrolmentError when `old` is not there or `new` already is."""
        self.require(old)
        if check_class_name(new) in self.names:
            raise EnrolmentError(f"class {new!r} exists already; remove it first or choose another name")
        supports = (replace(s, defect_class=new) if s.defect_class == old else s for s in self.supports)
        return replace(self, supports=tuple(supports))

    def without(self, name: str, source: str | None = None) -> ClassStore:
        """Class `name` gone with its supports, or only those of them that came from the picture `source`.

        EnrolmentError when there is no such class or picture.
        """
        self.require(name)
        gone = [s.defect_class == name and source in (None, s.source) for s in self.supports]
        if not any(gone):
            sources = ", ".join(s.source for s in supports_of(self, name))
            raise EnrolmentError(f"no support of {name!r} came from {source}; its pictures: {sources}")
        return self.keeping([row for row, leaves in enumerate(gone) if not leaves])

    def require(self, name: str) -> None:
        """EnrolmentError unless a class is called `name`."""
        if name not in self.names:
            enrolled = ", ".join(self.names) or "none"
            raise EnrolmentError(f"no class {name!r} is enrolled; enrolled: {enrolled}")

    def to_bytes(self) -> bytes:
        """An npz without pickle: descriptors, taught patches and a JSON text."""
        facts = {
            "store_version": STORE_VERSION,
            "bundle_id": self.bundle_id,
            "supports": [asdict(support) for support in self.supports],
        }
        stream = io.BytesIO()
        text = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8)
        taught = {f"taught_{name}": array for name, array in self.taught.__dict__.items()}
        np.savez(stream, descriptors=self.descriptors, facts=text, **taught)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, where: Path) -> ClassStore:
        """The reverse of `to_bytes`; BundleError when the content is broken."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                descriptors, facts = stored["descriptors"], json.loads(stored["facts"].tobytes())
                supports = tuple(_support_from(row) for row in facts["supports"])
                if facts["store_version"] not in READABLE_VERSIONS or descriptors.shape[0] != len(supports):
                    raise ValueError(f"store version {facts['store_version']}, {len(supports)} supports")
                taught = _taught_from(stored) if facts["store_version"] > 1 else TaughtPatches.none()
            taught.check(len(supports))
            store = cls(facts["bundle_id"], supports, descriptors, taught)
        except (*UNREADABLE_NPZ, TypeError) as exc:
            raise BundleError(
                f"{where}: not a readable class store ({exc}); restore it or remove it and enrol again"
            ) from exc
        return store


def read_class_store(path: Path, bundle_id: str, descriptor_dim: int) -> ClassStore:
    """The store at `path`, or an empty one when there is none; BundleError when it belongs to another bundle."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ClassStore.empty(bundle_id, descriptor_dim)
    except OSError as exc:
        raise BundleError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    store = ClassStore.from_bytes(content, path)
    if store.bundle_id != bundle_id or store.descriptors.shape[1] != descriptor_dim:
        raise BundleError(
            f"{path}: classes were enrolled with bundle {store.bundle_id}, this bundle is {bundle_id}; "
            "move the file away and enrol again"
        )
    return store


def update_class_store(
    path: Path, bundle_id: str, descriptor_dim: int, change: Callable[[ClassStore], ClassStore]
) -> ClassStore:
    """Read, change and replace the store under a lock, so that two enrolments at once both count."""
    if not path.parent.is_dir():
        raise EnrolmentError(f"{path}: its folder does not exist; make it first, or correct --classes")
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_TIMEOUT_S):
            store = change(read_class_store(path, bundle_id, descriptor_dim))
            write_bytes_atomically(path, store.to_bytes())
    except Timeout as exc:
        raise EnrolmentError(f"{path}: another enrolment has held it for {LOCK_TIMEOUT_S:g} s; try again") from exc
    except OSError as exc:
        raise EnrolmentError(f"{path}: cannot be written ({exc.strerror or exc}); nothing was changed") from exc
    return store


def check_class_name(name: str) -> str:
    """The name itself, if it can stand in a file name, a CSV cell and a PLC tag."""
    if name.lower() in (UNKNOWN, "good") or not _NAME.fullmatch(name):
        raise EnrolmentError(
            f"class name {name!r}: expected up to 64 letters, digits, spaces, dots, dashes or underscores, "
            f"not 'good' and not {UNKNOWN!r}"
        )
    return name


def supports_of(store: ClassStore, name: str) -> Iterable[Support]:
    """The supports of one class."""
    return (support for support in store.supports if support.defect_class == name)


def _support_from(row: dict[str, Any]) -> Support:
    x0, y0, x1, y1 = (int(v) for v in row["box_xyxy"])
    return Support(**{**row, "box_xyxy": (x0, y0, x1, y1)})


def _taught_from(stored: Mapping[str, Any]) -> TaughtPatches:
    return TaughtPatches(**{name: stored[f"taught_{name}"] for name in TaughtPatches.__dataclass_fields__})
