"""Evidence on the disk: a folder a day, a few files a result, found again by listing; there is no state beside them.

`20261128/20261128T001028123Z_00000042_defect_scratch_RESULT-ID.frame.jpg`, `.heatmap.jpg`, `.crop.jpg` and `.json`:
when and as which one it was kept, verdict, class, result_id. Nothing with another name is ever removed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from edge.outputs.evidence_budget import Budget, Kept, Stock, surplus
from edge.result import Inspection, Verdict, iso_utc

BLOCK_BYTES = 4096  # a disk gives whole blocks
MAX_LABEL_BYTES = 100  # a file name has 255
RECORD = "json"
_DAY = re.compile(r"\d{8}")
_STEM = re.compile(
    r"(?P<moment>\d{8}T\d{9}Z)_(?P<number>\d{8,18})_(?P<verdict>good|defect|no_verdict)(?:_(?P<label>.+))?"
    r"_(?P<result_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)
_NAME = re.compile(rf"(?P<stem>{_STEM.pattern})\.(?P<part>(?:frame|heatmap|crop)\.(?:jpg|png)|json)")
_ASIDE = re.compile(rf"\.{_NAME.pattern}\.partial")


@dataclass(frozen=True)
class EvidenceFiles:
    """Where the evidence of one result lies; None: there is no such picture."""

    record: Path | None = None
    frame: Path | None = None
    heatmap: Path | None = None
    crop: Path | None = None


class EvidenceStore:
    """Keeps pictures and records under a budget. All but `find` for one thread; the disk's failures are OSErrors.

    min_free_bytes: with less than that free nothing is kept.
    """

    def __init__(
        self,
        folder: Path,
        budget: Budget,
        min_free_bytes: int = 0,
        now: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        self._folder, self._budget, self._min_free_bytes, self._now = folder, budget, min_free_bytes, now
        self._stock: Stock | None = None  # None until listed
        self._next_number = 1

    def find(self, result_id: str) -> EvidenceFiles | None:
        """The files of a result, None when there are none, or not yet; from any thread, without looking at the disk."""
        kept = None if self._stock is None else self._stock.find(result_id)
        if kept is None:
            return None
        paths = {part.partition(".")[0]: self._path(kept.stem, part) for part in kept.parts}
        return EvidenceFiles(paths.get(RECORD), paths.get("frame"), paths.get("heatmap"), paths.get("crop"))

    def list_again(self) -> None:
        """Find what is there, remove what a kill left half written, and what is over the budget."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, dict[str, int]] = {}
        for entry in _files_of_days(self._folder):
            match = _NAME.fullmatch(entry.name)
            size_bytes = entry.stat(follow_symlinks=False).st_size if match else 0
            if match and size_bytes:
                found.setdefault(match["stem"], {})[match["part"]] = size_bytes
            elif match or _ASIDE.fullmatch(entry.name):  # a power cut leaves names without content
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108
        self._stock = Stock(_kept(stem, sizes) for stem, sizes in found.items())
        self._next_number = 1 + max((int(stem.split("_", 2)[1]) for stem in found), default=0)
        self.tidy()

    def tidy(self) -> None:
        """Remove what is too old or too much."""
        if self._stock is not None:
            for kept in surplus(self._stock, self._budget, self._now()):
                self._remove(kept)

    def save(self, inspection: Inspection, pictures: Mapping[str, bytes]) -> None:
        """Keep files such as `frame.jpg` and the record, all or none; then remove what is too much."""
        if self._stock is None or not self._folder.is_dir():
            self.list_again()
        assert self._stock is not None
        files = {**pictures, RECORD: inspection.to_json().encode() + b"\n"}
        sizes = {part: len(content) for part, content in files.items()}
        kept = _kept(_stem(inspection, self._next_number, self._now()), sizes)
        self.tidy()  # where nothing can be removed nothing is added
        self._refuse_too_much(kept.size_bytes)
        self._write(kept.stem, files)
        self._next_number += 1
        self._stock.add(kept)
        self.tidy()

    def _refuse_too_much(self, more_bytes: int) -> None:
        if more_bytes > self._budget.max_bytes:
            raise OSError(errno.EFBIG, f"the pictures of one result take {more_bytes / 1e6:.1f} MB, more than max_mb")
        disk = os.statvfs(self._folder)
        if self._min_free_bytes and disk.f_bavail * disk.f_frsize - more_bytes < self._min_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._min_free_bytes / 1e6:g} MB free")

    def _write(self, stem: str, files: Mapping[str, bytes]) -> None:
        """The record last: who finds it finds the pictures too."""
        written: list[Path] = []
        try:
            for part, content in files.items():
                path = self._path(stem, part)
                aside = path.with_name(f".{path.name}.partial")
                written.append(aside)
                path.parent.mkdir(parents=True, exist_ok=True)
                aside.write_bytes(content)
                aside.replace(path)
                written[-1] = path
        except OSError:
            for path in written:
                with suppress(OSError):
                    path.unlink()
            raise

    def _remove(self, kept: Kept) -> None:
        for part in kept.parts:
            self._path(kept.stem, part).unlink(missing_ok=True)
        with suppress(OSError):  # there are others of that day
            self._path(kept.stem, RECORD).parent.rmdir()

    def _path(self, stem: str, part: str) -> Path:
        return self._folder / stem[:8] / f"{stem}.{part}"


def _stem(inspection: Inspection, number: int, moment_s: float) -> str:
    moment = re.sub(r"[^0-9TZ]", "", iso_utc(moment_s))
    name = re.sub(r"[^\w .-]", "_", inspection.defect_class or "").encode()[:MAX_LABEL_BYTES].decode(errors="ignore")
    label = f"_{name}" if name else ""
    return f"{moment}_{number:08d}_{inspection.verdict}{label}_{inspection.result_id}"


def _kept(stem: str, sizes: Mapping[str, int]) -> Kept:
    match = _STEM.fullmatch(stem)
    assert match
    moment_s = datetime.strptime(match["moment"], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC).timestamp()
    size_bytes = sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes.values())
    verdict, label = cast(Verdict, match["verdict"]), match["label"] or ""
    return Kept(int(match["number"]), moment_s, verdict, label, match["result_id"], size_bytes, stem, tuple(sizes))


def _files_of_days(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as days:
        names = [day.path for day in days if _DAY.fullmatch(day.name) and day.is_dir(follow_symlinks=False)]
    for name in names:
        with os.scandir(name) as entries:
            yield from entries
