"""More good pictures for a bundle that exists: what they show and its memory bank does not cover is added to the bank.

The pictures it was made from are not needed. Thresholds, place statistics, whitening and discriminator stay as they
were measured; enrolled classes and taught defects go with the bundle.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from calibration.calibrate import RECALL_PICTURES
from calibration.good_pictures import Embedder, GoodSource, Track, no_track
from calibration.pseudo_samples import PseudoPainter, make_pseudo_samples, odd_patches
from calibration.searched_bank import IndexBank
from calibration.sources import source_name, sources_of
from edge.anomaly import PlaceStatistics
from edge.bundle import PROVENANCE_FILE
from edge.class_store import CLASSES_FILE, LOCK_TIMEOUT_S, read_class_store
from edge.errors import BundleError, CalibrationError, PictureError
from edge.inspector import Inspector
from edge.list_search import LISTS_FILE
from edge.manifest import MANIFEST_NAME, BundleManifest, write_manifest
from edge.memory_bank import BANK_FILE, INDEX_FILE, MemoryBank, MemoryBankArrays
from edge.pictures import iter_picture_paths, read_picture
from edge.projected_search import AXES_FILE
from edge.staging import staged_folder
from edge.view import View

# A patch is covered up to this many standard deviations over the distance that good parts show at its place.
COVERED_STD = 2.0
# One call adds at most this many times the rows there were; past that the product has changed, and so have its limits.
MAX_GROWTH = 1.0
# A picture over this many thresholds is more likely a defect than a good part that was rejected.
FAR = 1.5
INDEX_PSEUDO_CLASSES = 8  # painted on added pictures, to measure the recall of the new index with
SEED = 0


@dataclass(frozen=True)
class AddedPicture:
    """One good picture and its anomaly score before and after; score_after is None when it was left out."""

    source: str
    score_before: float
    score_after: float | None


@dataclass(frozen=True)
class Addition:
    """What adding did. far: pictures left out because they look like defects. known: added before, so left out.

    full: whether rows were left out because the bank would have grown beyond MAX_GROWTH.
    """

    manifest: BundleManifest
    added: tuple[AddedPicture, ...]
    far: tuple[AddedPicture, ...]
    known: int
    unreadable: tuple[str, ...]
    rows_before: int
    full: bool

    @property
    def rejected_before(self) -> int:
        """How many of the added pictures the bundle rejected."""
        return sum(not a.score_before <= self.manifest.thresholds.image_threshold for a in self.added)

    @property
    def rejected_after(self) -> int:
        """How many of them it rejects now."""
        limit = self.manifest.thresholds.image_threshold
        return sum(a.score_after is None or not a.score_after <= limit for a in self.added)


@dataclass(frozen=True)
class Picture:
    """A readable picture. name: as provenance names it. sha256: of its decoded pixels."""

    path: Path
    name: str
    sha256: str


def add_good(
    good: Sequence[Path],
    bundle: Path,
    index_bank: IndexBank,
    even_far: bool = False,
    track: Track[Any] = no_track,
) -> Addition:
    """Add good pictures, files or folders of them, to the bundle at `bundle`, whole or not at all.

    even_far: also those that score FAR times the threshold and more, which are left out otherwise. Pictures that were
    added before are left out; when nothing is left, the bundle stays as it is. CalibrationError and BundleError leave
    it as it was.
    """
    inspector = Inspector.load(bundle)
    if inspector.view.aligned_plan:
        raise CalibrationError(f"{bundle}: --add cannot go with --aligned; calibrate again with all good pictures")
    provenance = read_provenance(bundle)
    pictures, unreadable = find_pictures(good)
    seen = {entry["picture_sha256"] for entry in provenance.get("added", [])}
    new = [picture for picture in pictures if picture.sha256 not in seen]
    scored = [(p, _score(inspector, p)) for p in track(new, "scoring", len(new))]
    limit = FAR * inspector.image_threshold
    taken = [(p, s) for p, s in scored if even_far or s <= limit]
    far = tuple(AddedPicture(str(p.path), s, None) for p, s in scored if not (even_far or s <= limit))
    nothing = Addition(inspector.manifest, (), far, len(pictures) - len(new), unreadable, inspector.bank.rows, False)
    if not taken:
        return nothing
    pieces = [piece for p, _ in taken for piece in named_pieces(inspector.view, p)]
    arrays, full = grown(inspector, [piece for _, piece in pieces], len(provenance["sources"]), track)
    provenance = {
        "sources": [*provenance["sources"], *(name for name, _ in pieces)],
        "added": [*provenance.get("added", []), *({"source": p.name, "picture_sha256": p.sha256} for p, _ in taken)],
    }
    manifest = _write(inspector, arrays, [piece for _, piece in pieces], len(taken), provenance, index_bank)
    after = Inspector.load(bundle)
    scores = [_score(after, p) for p, _ in taken]
    added = tuple(AddedPicture(str(p.path), s, a) for (p, s), a in zip(taken, scores, strict=True))
    return replace(nothing, manifest=manifest, added=added, full=full)


def find_pictures(good: Sequence[Path]) -> tuple[list[Picture], tuple[str, ...]]:
    """Readable pictures, each content once, and what is wrong with the others; CalibrationError when none is left."""
    found: dict[str, Picture] = {}
    unreadable = []
    for path, name in _named_paths(good):
        try:
            digest = hashlib.sha256(read_picture(path).tobytes()).hexdigest()
        except PictureError as exc:
            unreadable.append(str(exc))
        else:
            found.setdefault(digest, Picture(path, name, digest))
    if not found:
        broken = f"; {unreadable[0]}" if unreadable else ""
        raise CalibrationError(f"{good[0]}: no readable picture to add{broken}; give good pictures or folders of them")
    return list(found.values()), tuple(unreadable)


def _named_paths(good: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for given in good:
        if given.is_dir():
            yield from ((path, path.relative_to(given).as_posix()) for path in iter_picture_paths(given))
        elif given.exists():
            yield given, given.name
        else:
            raise CalibrationError(f"{given}: no such picture or folder; give good pictures or folders of them")


def named_pieces(view: View, picture: Picture) -> list[tuple[str, GoodSource]]:
    """What the device will look at of a picture, each with its name in provenance."""
    parts = sources_of(view, picture.path)
    return [(picture.name + source_name(part, picture.path.parent)[len(picture.path.name) :], part) for part in parts]


def read_provenance(bundle: Path) -> dict[str, Any]:
    """`provenance.json`; BundleError when it does not name the sources."""
    try:
        document: dict[str, Any] = json.loads((bundle / PROVENANCE_FILE).read_text(encoding="utf-8"))
        document["sources"][:0], [entry["picture_sha256"] for entry in document.get("added", [])]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{bundle / PROVENANCE_FILE}: not a list of sources ({exc}); calibrate again") from exc
    return document


def grown(
    inspector: Inspector, pieces: Sequence[GoodSource], first_source: int, track: Track[Any]
) -> tuple[MemoryBankArrays, bool]:
    """The bank with what `pieces` show and it did not cover, and whether that was more than MAX_GROWTH.

    first_source: number of the first of them in the list of sources.
    """
    bank = inspector.bank.searched_exactly()  # an index knows nothing of new rows
    room = math.ceil(MAX_GROWTH * bank.rows)
    embedder = Embedder(inspector.backbone, inspector.manifest.embedding)
    embedded = enumerate(embedder.embed_good(pieces), first_source)
    for source, embeddings in track(embedded, "memory bank", len(pieces)):
        standardised = bank.standardise(embeddings)
        chosen, left = uncovered(bank, standardised, inspector.places, room)
        room -= len(chosen)
        bank = MemoryBank(_extended(bank.arrays, standardised, embedder.patch_origins(source), chosen), bank.search)
        if left:
            return bank.arrays, True
    return bank.arrays, False


def uncovered(
    bank: MemoryBank, standardised: np.ndarray, places: PlaceStatistics, room: int
) -> tuple[np.ndarray, bool]:
    """Which of (N, D) patches to add, `room` at most, so that each is covered; whether some still are not.

    Greedy: always the patch that is farthest beyond what good parts show at its place, then the distances anew.
    """
    allowed = (places.mean + COVERED_STD * places.std).ravel()
    keys = bank.search.keys(standardised)
    distances, _ = bank.nearest(standardised)
    chosen: list[int] = []
    while True:
        excess = distances / allowed
        pick = int(excess.argmax())
        if not excess[pick] > 1:
            return np.array(chosen, dtype=np.int64), False
        if len(chosen) == room:
            return np.array(chosen, dtype=np.int64), True
        chosen.append(pick)
        distances = np.minimum(distances, np.linalg.norm(keys - keys[pick], axis=1))


def _extended(
    old: MemoryBankArrays, standardised: np.ndarray, origins: np.ndarray, chosen: np.ndarray
) -> MemoryBankArrays:
    return replace(
        old,
        vectors=np.concatenate([old.vectors, standardised[chosen]]),
        source_index=np.concatenate([old.source_index, origins[chosen, 0]]),
        patch_yx=np.concatenate([old.patch_yx, origins[chosen, 1:]]),
    )


def _write(
    inspector: Inspector,
    arrays: MemoryBankArrays,
    pieces: Sequence[GoodSource],
    pictures: int,
    provenance: dict[str, Any],
    index_bank: IndexBank,
) -> BundleManifest:
    """The bundle anew in the place of the old one, enrolled classes included."""
    bundle, old = inspector.bundle.folder, inspector.manifest
    bank = MemoryBank(arrays, inspector.bank.search)
    with _enrolment_held(bundle), staged_folder(bundle, MANIFEST_NAME, overwrite=True) as folder:
        for name in old.files:
            shutil.copyfile(bundle / name, folder / name)
        arrays.save(folder / BANK_FILE)
        (folder / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        searches = _reindexed(inspector, bank, pieces, folder, index_bank)
        facts = old.memory_bank.model_copy(update={"rows": bank.rows, **searches})
        good_pictures = old.good_pictures + pictures
        manifest = old.model_copy(update={"memory_bank": facts, "good_pictures": good_pictures})
        manifest = write_manifest(folder, manifest)
        _carry_classes(inspector, manifest.bundle_id, folder)
    return manifest


def _reindexed(
    inspector: Inspector, bank: MemoryBank, pieces: Sequence[GoodSource], folder: Path, index_bank: IndexBank
) -> dict[str, Any]:
    """What the grown bank is searched by, measured on the added pictures; nothing where there was no index."""
    old = inspector.manifest.memory_bank
    if old.index is None:
        return {}
    for name in (INDEX_FILE, LISTS_FILE, AXES_FILE):
        (folder / name).unlink(missing_ok=True)
    embedder = Embedder(inspector.backbone, inspector.manifest.embedding)
    good = np.concatenate([bank.standardise(e) for e in embedder.embed_good(pieces[:RECALL_PICTURES])])
    samples = make_pseudo_samples(embedder, PseudoPainter.of(pieces, INDEX_PSEUDO_CLASSES, SEED), no_track)
    searches = index_bank(folder, bank, good, odd_patches(samples, bank), old.index.seed)
    is_gone = {"lists": searches.lists is None, "projected": searches.projection is None}.get(old.search, False)
    return {**dict(searches), "search": searches.search if is_gone else old.search}


def _carry_classes(inspector: Inspector, bundle_id: str, folder: Path) -> None:
    """Enrolled classes and taught defects, valid for the new bundle: every row they were described with is in it."""
    path, old = inspector.bundle.classes_path, inspector.manifest
    if path.exists():
        store = read_class_store(path, old.bundle_id, old.typing.descriptor_dim)
        (folder / CLASSES_FILE).write_bytes(replace(store, bundle_id=bundle_id).to_bytes())


@contextmanager
def _enrolment_held(bundle: Path) -> Iterator[None]:
    """Nobody enrols while the classes are carried over."""
    try:
        with FileLock(bundle / f".{CLASSES_FILE}.lock", timeout=LOCK_TIMEOUT_S):
            yield
    except Timeout as exc:
        raise CalibrationError(f"{bundle}: an enrolment has held it for {LOCK_TIMEOUT_S:g} s; try again") from exc


def _score(inspector: Inspector, picture: Picture) -> float:
    score = inspector.detect(read_picture(picture.path)).anomaly_score
    if not math.isfinite(score):
        raise CalibrationError(f"{picture.path}: its anomaly score is {score}; leave it out, or calibrate again")
    return score
