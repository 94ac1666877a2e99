"""Opening a bundle: every digest and shape checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.anomaly import PlaceStatistics
from edge.backend import Backend, load_backend
from edge.class_store import CLASSES_FILE
from edge.descriptor import DESCRIPTOR_NAME, Whitening, descriptor_dim
from edge.discriminator import DISCRIMINATOR_FILE, Discriminator, DiscriminatorArrays
from edge.errors import BundleError
from edge.int8_search import Int8Search
from edge.list_search import ListSearch, load_centres
from edge.manifest import BackendName, BundleManifest, Embedding, MemoryBankFacts, Precision, read_manifest
from edge.memory_bank import (
    BANK_FILE,
    INDEX_FILE,
    HnswIndex,
    MemoryBank,
    MemoryBankArrays,
    RowSearch,
    SearchColumns,
)
from edge.placed_bank import PlacedBank
from edge.projected_search import ProjectedSearch, load_axes
from edge.second_look import SecondLook
from edge.view import View

CENTRE_FILE = "descriptor_centre.npy"
PLACES_FILE = "place_statistics.npz"
WHITENING_FILE = "whitening.npz"
PROVENANCE_FILE = "provenance.json"
TUNING_FILE = "tuning.json"


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest and files have been checked."""

    folder: Path
    manifest: BundleManifest

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Check the manifest and every digest; BundleError says what is wrong and what to do."""
        manifest = read_manifest(folder, BundleManifest)
        typing, expected = (
            manifest.typing,
            (
                DESCRIPTOR_NAME,
                descriptor_dim(manifest.embedding, manifest.second_look.embedding),
            ),
        )
        if (typing.descriptor, typing.descriptor_dim) != expected:
            raise BundleError(
                f"{folder}: descriptors are {typing.descriptor} of {typing.descriptor_dim}, this oddkind makes "
                f"{expected[0]} of {expected[1]}; calibrate again"
            )
        return cls(folder, manifest)

    @property
    def classes_path(self) -> Path:
        """Where enrolled classes are kept unless the user says otherwise."""
        return self.folder / CLASSES_FILE

    def load_backbone(
        self, backend: BackendName | None = None, precision: Precision | None = None, threads: int = 1
    ) -> Backend:
        """The backbone graph; by default the very one the thresholds were measured with."""
        m = self.manifest
        return load_backend(
            self.folder,
            m.graphs,
            backend or m.calibrated_backend,
            precision or m.calibrated_precision,
            threads,
        )

    def load_second_look(
        self, backend: BackendName | None = None, precision: Precision | None = None, threads: int = 1
    ) -> SecondLook:
        """The graph of the second look, in the runtime and precision of the backbone."""
        m = self.manifest
        chosen = backend or m.calibrated_backend, precision or m.calibrated_precision
        return SecondLook(load_backend(self.folder, m.second_look.graphs, *chosen, threads), m.second_look.embedding)

    def load_whitening(self) -> Whitening:
        """What regions look like on good parts of the product."""
        m = self.manifest
        return Whitening.load(self.folder / WHITENING_FILE, 2 * m.embedding.dim, m.second_look.embedding.dim)

    def load_relation_head(self, backend: BackendName | None = None) -> Backend | None:
        """The learned relation head, or None when the pack was never pre-trained."""
        head = self.manifest.relation_head
        return load_backend(self.folder, head.graphs, backend or "onnxruntime", "int8") if head else None

    def load_memory_bank(self, threads: int = 1, backend: BackendName = "onnxruntime") -> MemoryBank:
        """The bank, searched as the manifest says. backend: for products in integers."""
        facts = self.manifest.memory_bank
        arrays = MemoryBankArrays.load(self.folder / BANK_FILE)
        search = search_columns(self.manifest.embedding, facts.tap_weights)
        if arrays.vectors.shape != (facts.rows, self.manifest.embedding.dim) or len(search.columns) != facts.search_dim:
            raise BundleError(
                f"{self.folder}: memory bank is {arrays.vectors.shape}, the manifest says {facts.rows} rows of "
                f"{self.manifest.embedding.dim}; calibrate again"
            )
        bank, m = MemoryBank(arrays, search), self.manifest
        plan = View(m.embedding, m.score, m.view, m.tiling).aligned_plan
        if plan and m.tiling:
            return PlacedBank.of(bank, plan, m.tiling, facts.search == "int8", threads, backend)
        return searched_as(bank, facts, self.folder, threads, backend)

    def load_place_statistics(self) -> PlaceStatistics:
        """What good parts show at each place of the patch grid."""
        return PlaceStatistics.load(self.folder / PLACES_FILE, self.manifest.embedding.grid_hw)

    def load_discriminator(
        self, bank: MemoryBank, threads: int = 1, backend: BackendName = "onnxruntime"
    ) -> Discriminator | None:
        """The network beside `bank`, or None when there were too few good pictures to teach one."""
        facts, embedding = self.manifest.discriminator, self.manifest.embedding
        if facts is None:
            return None
        arrays = DiscriminatorArrays.load(self.folder / DISCRIMINATOR_FILE, embedding.dim, embedding.grid_hw)
        vectors, sigma_patches = bank.arrays.vectors, facts.map_sigma_patches
        return Discriminator(arrays, vectors, sigma_patches, facts.precision, threads, backend)

    def load_descriptor_centre(self) -> npt.NDArray[np.float32]:
        """(F,) mean descriptor of the product's pseudo-defects."""
        try:
            centre = np.load(self.folder / CENTRE_FILE, allow_pickle=False)
        except (OSError, EOFError, ValueError) as exc:
            raise BundleError(f"{self.folder}: {CENTRE_FILE} cannot be read ({exc}); calibrate again") from exc
        if centre.shape != (self.manifest.typing.descriptor_dim,):
            raise BundleError(f"{self.folder}: {CENTRE_FILE} has shape {centre.shape}; calibrate again")
        return np.asarray(centre, dtype=np.float32)


def searched_as(
    bank: MemoryBank, facts: MemoryBankFacts, folder: Path, threads: int = 1, backend: BackendName = "onnxruntime"
) -> MemoryBank:
    """The bank with the search that a manifest names; what the search needs lies in `folder`."""
    if facts.search == "exact":
        return bank
    return MemoryBank(bank.arrays, bank.search, row_search(bank, facts, folder, threads, backend))


def row_search(
    bank: MemoryBank, facts: MemoryBankFacts, folder: Path, threads: int = 1, backend: BackendName = "onnxruntime"
) -> RowSearch:
    """The search that a manifest names, other than the exact one; BundleError when it has no facts of it."""
    dim = bank.keys.shape[1]
    if facts.search == "int8":
        return Int8Search(bank.keys, threads, backend)
    if facts.search == "projected" and facts.projection:
        return ProjectedSearch(bank.keys, load_axes(folder, dim, facts.projection.dims), threads, backend)
    if facts.search == "hnsw" and facts.index:
        return HnswIndex.load(folder / INDEX_FILE, dim, bank.rows, facts.index.ef)
    if facts.search == "lists" and facts.lists:
        return ListSearch(bank.keys, load_centres(folder, dim, facts.lists), facts.lists)
    raise BundleError(f"{folder}: searched by {facts.search}, of which the manifest has no facts; calibrate again")


def search_columns(embedding: Embedding, tap_weights: dict[str, float]) -> SearchColumns:
    """Columns of a patch embedding that the memory bank searches, and how much each counts."""
    slices = {tap: embedding.tap_slice(tap) for tap in tap_weights}
    columns = [np.arange(s.start, s.stop, dtype=np.int64) for s in slices.values()]
    weights = [np.full(s.stop - s.start, tap_weights[tap], dtype=np.float32) for tap, s in slices.items()]
    return SearchColumns(np.concatenate(columns), np.concatenate(weights))


def graph_files(graphs: dict[str, str]) -> list[str]:
    """Every file the graphs need: an OpenVINO `.xml` has its weights in the `.bin` beside it."""
    files = []
    for name in graphs.values():
        files += [name, name.removesuffix(".xml") + ".bin"] if name.endswith(".xml") else [name]
    return files
