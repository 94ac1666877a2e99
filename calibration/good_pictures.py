"""Good pictures: found, checked, split, and embedded through the very graph the device runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge.backend import Backend, load_backend
from edge.errors import CalibrationError, PictureError
from edge.manifest import BackendName, Embedding, PackManifest, Precision
from edge.memory_bank import PlaceYx
from edge.pictures import FrameBgr, iter_picture_paths, read_picture
from edge.preprocess import to_network_input
from edge.regions import BoxXyxy
from edge.second_look import SecondLook
from edge.view import WHOLE

Item = TypeVar("Item")
Track = Callable[[Iterable[Item], str, int], Iterable[Item]]

MIN_GOOD_PICTURES = 4


@dataclass(frozen=True)
class Piece:
    """A part of a good picture that goes through the backbone as one. box_xyxy: source pixels.

    place_yx: its first patch on the grid of the whole picture.
    """

    path: Path
    box_xyxy: BoxXyxy
    place_yx: PlaceYx = WHOLE

    def read(self) -> FrameBgr:
        """Its pixels, a copy. Pieces of one picture, asked for in a row, decode it once."""
        x0, y0, x1, y1 = self.box_xyxy
        return _decoded(self.path)[y0:y1, x0:x1].copy()


GoodSource = Path | Piece  # a picture, or a piece of one


def read_good(source: GoodSource) -> FrameBgr:
    """(H, W, 3) BGR of a picture or of a piece of one."""
    return source.read() if isinstance(source, Piece) else read_picture(source)


def place_of(source: GoodSource) -> PlaceYx:
    """Where in its picture a source lies."""
    return source.place_yx if isinstance(source, Piece) else WHOLE


@lru_cache(maxsize=1)
def _decoded(path: Path) -> FrameBgr:
    return read_picture(path)


@dataclass(frozen=True)
class GoodPictures:
    """Readable good pictures of one product in a seeded order, and the files that were left out.

    folder: the one given, or the one that all given folders have in common.
    """

    folder: Path
    paths: tuple[Path, ...]
    unreadable: tuple[str, ...]

    @classmethod
    def find(cls, folder: Path, seed: int, more: Sequence[Path] = ()) -> GoodPictures:
        """more: further folders, each picture counting once.

        CalibrationError when a folder is missing or they hold fewer than MIN_GOOD_PICTURES readable pictures.
        """
        folders = [given.absolute() for given in (folder, *more)] if more else [folder]
        for given in folders:
            if not given.is_dir():
                raise CalibrationError(f"{given}: no such folder; give the folder of good pictures")
        if more:
            folder = Path(os.path.commonpath(folders))
        readable, unreadable = [], []
        for path in dict.fromkeys(path for given in folders for path in iter_picture_paths(given)):
            try:
                read_picture(path)
                readable.append(path)
            except PictureError as exc:
                unreadable.append(str(exc))
        if len(readable) < MIN_GOOD_PICTURES:
            broken = f" and {len(unreadable)} that cannot be read" if unreadable else ""
            raise CalibrationError(
                f"{folder}: {len(readable)} readable pictures{broken}, at least {MIN_GOOD_PICTURES} good ones needed"
            )
        order = np.random.default_rng(seed).permutation(len(readable))
        return cls(folder, tuple(readable[i] for i in order), tuple(unreadable))

    def names(self) -> list[str]:
        """Paths relative to the folder, in order."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]


@dataclass(frozen=True)
class Embedder:
    """Frames -> patch embeddings, through one backend and graph."""

    backend: Backend
    embedding: Embedding

    @classmethod
    def load(cls, pack: Path, manifest: PackManifest, backend: BackendName, precision: Precision) -> Embedder:
        """Load the pack's graph."""
        return cls(load_backend(pack, manifest.graphs, backend, precision), manifest.embedding)

    def embed(self, frame_bgr: FrameBgr) -> np.ndarray:
        """(H, W, 3) -> (N, D), backbone units."""
        images = to_network_input(frame_bgr, self.embedding)
        return np.asarray(self.backend.run({"images": images})[0])

    def embed_good(self, sources: Iterable[GoodSource]) -> Iterator[np.ndarray]:
        """One picture in memory at a time."""
        for source in sources:
            yield self.embed(read_good(source))

    def patch_origins(self, source_index: int) -> np.ndarray:
        """(N, 3) int64: source number, patch row, patch column."""
        h, w = self.embedding.grid_hw
        row, column = np.divmod(np.arange(h * w), w)
        return np.stack([np.full(h * w, source_index), row, column], axis=1)


def embedded_at(embedder: Embedder, sources: Iterable[GoodSource]) -> Iterator[tuple[np.ndarray, PlaceYx]]:
    """(N, D) of each source and where it lies, one at a time."""
    return ((embedder.embed(read_good(source)), place_of(source)) for source in sources)


def load_second_look(pack: Path, manifest: PackManifest, backend: BackendName, precision: Precision) -> SecondLook:
    """The pack's graph of the second look."""
    facts = manifest.second_look
    return SecondLook(load_backend(pack, facts.graphs, backend, precision), facts.embedding)


def no_track(items: Iterable[Item], label: str, length: int) -> Iterable[Item]:
    """The silent progress reporter."""
    return items
