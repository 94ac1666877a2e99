"""Which files of a folder are known already, in 17 bytes each: there may be hundreds of thousands."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

MAX_AWAY = 1_000_000
_CHUNK = 4096

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Version:
    """What a file was like when looked at. appeared_ns: the latest time that its inode tells, of a rename too."""

    size: int
    changed_ns: int
    appeared_ns: int


class KnownFiles:
    """Names, each with its version. Of one that is no longer listed nothing stays: its name may come again.

    After `all_away`, when the folder itself was gone, nothing is forgotten before it comes back, and what comes back
    is known if its version is the same.
    """

    def __init__(self) -> None:
        self._added_names, self._added_versions = array("Q"), array("Q")
        self._names: Hashes = np.empty(0, np.uint64)  # sorted
        self._versions: Hashes = np.empty(0, np.uint64)
        self._away: Flags = np.empty(0, np.bool_)

    def __len__(self) -> int:
        self._merge()
        return int(self._names.size)

    def add(self, name: str, version: Version) -> None:
        """From now on this version of the file is known."""
        self._added_names.append(_hash(name))
        self._added_versions.append(_hash((version.size, version.changed_ns)))

    def all_away(self) -> None:
        """The folder was gone, or another one is in its place."""
        self._merge()
        if self._away.size > MAX_AWAY:
            self._keep(~self._away)  # what has not come back since the last time
        self._away[:] = True

    def fresh(self, names: Iterable[str], version_of: Callable[[str], Version | None]) -> Iterator[str]:
        """Those of all `names` of a folder that are not known; after the last, what was not among them is forgotten."""
        self._merge()
        present = np.zeros(self._names.size, np.bool_)
        names = iter(names)
        while chunk := list(islice(names, _CHUNK)):
            place, is_known = self._find(np.fromiter(map(hash, chunk), np.int64, len(chunk)).view(np.uint64))
            for number in np.flatnonzero(is_known & self._away[place]) if self._names.size else ():
                is_known[number] = self._is_same(place[number], version_of(chunk[number]))
            present[place[is_known]] = True
            yield from (name for name, known in zip(chunk, is_known, strict=True) if not known)
        self._away &= ~present
        self._keep(present | self._away)

    def _find(self, hashes: Hashes) -> tuple[npt.NDArray[np.intp], Flags]:
        """Place of each among the names, and whether it is there."""
        if not self._names.size:
            return np.zeros(hashes.size, np.intp), np.zeros(hashes.size, np.bool_)
        place = np.minimum(np.searchsorted(self._names, hashes), self._names.size - 1)
        return place, self._names[place] == hashes

    def _is_same(self, place: int, version: Version | None) -> bool:
        return version is not None and int(self._versions[place]) == _hash((version.size, version.changed_ns))

    def _merge(self) -> None:
        """Take what was added into the sorted arrays; a newer version replaces the older."""
        count = len(self._added_names)
        if not count:
            return
        added = np.array(self._added_names, np.uint64)[::-1]  # the newest first, because the first of each stays
        versions = np.array(self._added_versions, np.uint64)[::-1]
        names, first = np.unique(np.concatenate([added, self._names]), return_index=True)
        self._versions = np.concatenate([versions, self._versions])[first]
        self._away = np.concatenate([np.zeros(count, np.bool_), self._away])[first]
        self._names = names
        del self._added_names[:], self._added_versions[:]

    def _keep(self, these: Flags) -> None:
        self._names, self._versions, self._away = self._names[these], self._versions[these], self._away[these]


def _hash(value: object) -> int:
    """64 bits: among a million names the chance that two are taken for one is 1 to 37 million."""
    return hash(value) & 0xFFFF_FFFF_FFFF_FFFF
