"""The contract files: `manifest.json` of a model pack and of a bundle.

Whatever the other files cannot say about themselves stands here: colour order, scale, taps, search
space, `ef`, score formula, thresholds, and the sha256 of every file. The device checks these facts,
it never guesses them.

Axis legend of the whole project: B images, H W pixels, h w patch grid, N = h * w patches,
D features, M bank rows, K classes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from edge.errors import BundleError

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"

BackendName = Literal["onnxruntime", "openvino"]
BackendChoice = BackendName | Literal["auto"]
Precision = Literal["fp32", "int8"]
Target = Literal["x86-vnni", "x86-avx2", "arm64"]
Search = Literal["hnsw", "int8", "projected", "lists", "exact"]


class Facts(pydantic.BaseModel):
    """Base of every manifest part: frozen, and an unknown key is an error, not a guess."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class FileFacts(Facts):
    """Digest and size of one file beside the manifest."""

    sha256: str
    size_bytes: int


class Tap(Facts):
    """One stage of the backbone whose output is part of every patch embedding."""

    name: str
    stride: int
    channels: int


class Embedding(Facts):
    """What the backbone graph takes and what it gives.

    Input `images`: (1, 3, input_size, input_size) float32, `(pixel - mean) * scale` in `colour_order`.
    Output `patch_embeddings`: (1, N, D) float32, row-major over the patch grid; the columns are the taps
    in order, each averaged over `patch_pool` x `patch_pool` neighbours and brought to the grid.
    """

    backbone: str
    weights_sha256: str
    input_size: int
    colour_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    taps: tuple[Tap, ...]
    patch_pool: int
    grid_hw: tuple[int, int]

    @property
    def dim(self) -> int:
        """D, the number of features of one patch."""
        return sum(tap.channels for tap in self.taps)

    def tap_slice(self, name: str) -> slice:
        """Columns of the tap called `name` in a patch embedding."""
        start = 0
        for tap in self.taps:
            if tap.name == name:
                return slice(start, start + tap.channels)
            start += tap.channels
        raise BundleError(f"no tap {name!r} in this pack; it has {', '.join(t.name for t in self.taps)}")


class RelationHeadFacts(Facts):
    """The learned relation head: graphs `(queries, prototypes) -> relation_scores`, keyed like the backbone's.

    exponents: how much a difference in length counts, one a view.
    """

    exponents: tuple[float, ...]
    graphs: dict[str, str]
    descriptor_dim: int
    trained_on: tuple[str, ...]
    pseudo_classes: int
    episodes: int
    episode_accuracy: float
    cosine_accuracy: float
    parity: dict[str, float]


class SecondLookFacts(Facts):
    """The graph that looks at a window around an odd region: what it takes and gives, and its files."""

    embedding: Embedding
    graphs: dict[str, str]


class PackManifest(Facts):
    """A model pack: product-independent graphs, made on the workstation by `oddkind export`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["oddkind-pack"] = "oddkind-pack"
    pack_id: str = ""
    target: Target
    embedding: Embedding
    graphs: dict[str, str]
    second_look: SecondLookFacts
    relation_head: RelationHeadFacts | None = None
    parity: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileFacts] = {}


class SearchFacts(Facts):
    """How the nearest row of a memory bank is found: what was built for it, and the fastest when it was built.

    search: of those that found what exact search finds.
    """

    search: Search = "hnsw"
    index: IndexFacts | None = None
    lists: ListFacts | None = None
    projection: ProjectionFacts | None = None


class MemoryBankFacts(SearchFacts):
    """The memory bank and its HNSW index (which stores neither space nor dimension itself).

    rows_a_place: where each place has a bank of its own, of each part of the picture as large as a tile; rows: of all.
    tap_weights: the taps that are searched, and what their features are multiplied by before the distance.
    """

    rows: int
    rows_a_place: int | None = None
    tap_weights: dict[str, float]
    space: Literal["l2"] = "l2"
    search_dim: int
    coreset_radius: float


class ProjectionFacts(Facts):
    """A search in fewer columns: how many, and how much farther than the nearest row the ones found were, of its
    distance, on good patches or pseudo-defects, whichever was more.
    """

    dims: int = pydantic.Field(ge=1)
    excess: float


class ListFacts(Facts):
    """Inverted lists over a large bank: how many, and how many of them a patch is looked up in.

    odd_probes: for the patches that look oddest. excess: how much farther than the nearest row the ones found were, of
    its distance, on good patches or pseudo-defects, whichever was more.
    """

    lists: int = pydantic.Field(ge=1)
    probes: int = pydantic.Field(ge=1)
    odd_probes: int = pydantic.Field(ge=1)
    excess: float


class IndexFacts(Facts):
    """How the HNSW index was built, and the recall@1 that its `ef` was chosen by."""

    M: int
    ef_construction: int
    ef: int
    seed: int
    recall_good: float
    recall_pseudo: float


class ScoreFacts(Facts):
    """How patch distances become one anomaly score and a map."""

    formula: Literal["mean_of_top_fraction_of_place_normalised_l2"] = "mean_of_top_fraction_of_place_normalised_l2"
    top_fraction: float
    map_sigma_patches: float


class DiscriminatorFacts(Facts):
    """The network whose place-normalised map is added to the distance's, and what it was taught on.

    precision: of its product with the patches, in which its map and the thresholds were measured.
    """

    hidden_units: int
    precision: Precision = "fp32"
    map_sigma_patches: float
    good_pictures: int
    pseudo_pictures: int


class ThresholdFacts(Facts):
    """Decision thresholds and what they are worth. A part is good only if `score <= image_threshold`."""

    image_threshold: float
    pixel_threshold: float
    false_reject_rate: float
    promised_false_reject_rate: float
    method: str
    held_out_pictures: int


class TypingFacts(Facts):
    """How odd regions are compared with supports.

    unknown_threshold: familiarity under which a region is of no class, with two supports or more a class;
    unknown_threshold_one_shot: where a class has only one.
    """

    descriptor: str
    descriptor_dim: int
    unknown_threshold: float
    unknown_threshold_one_shot: float


class TilingFacts(Facts):
    """How a picture is cut into squares that are each inspected as one. Source pixels.

    tile_px: side of a square. overlap_px: what neighbours share at least. margin_px: of aligned parts; a tile is
    compared only with bank rows that were seen in it or so near to it, None: with all of them.
    """

    tile_px: int = pydantic.Field(ge=32)
    overlap_px: int = pydantic.Field(ge=0)
    margin_px: int | None = pydantic.Field(default=None, ge=0)

    @pydantic.model_validator(mode="after")
    def _advances(self) -> TilingFacts:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(f"an overlap of {self.overlap_px} px is more than half a tile of {self.tile_px} px")
        return self


class ViewFacts(Facts):
    """What of a frame is inspected: a rectangle, and in it what the mask (a file of the bundle) leaves white.

    frame_hw: of the frames that both were drawn on, or that aligned parts lay in. roi_xyxy: right and bottom exclusive.
    """

    frame_hw: tuple[int, int]
    roi_xyxy: tuple[int, int, int, int]
    mask: str | None = None


class BundleManifest(Facts):
    """A bundle: everything a device needs to inspect one product."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["oddkind-bundle"] = "oddkind-bundle"
    bundle_id: str = ""
    pack_id: str
    product: str
    target: Target
    embedding: Embedding
    graphs: dict[str, str]
    second_look: SecondLookFacts
    relation_head: RelationHeadFacts | None = None
    calibrated_backend: BackendName
    calibrated_precision: Precision
    good_pictures: int
    memory_bank: MemoryBankFacts
    score: ScoreFacts
    discriminator: DiscriminatorFacts | None = None
    thresholds: ThresholdFacts
    typing: TypingFacts
    tiling: TilingFacts | None = None
    view: ViewFacts | None = None
    versions: dict[str, str]
    files: dict[str, FileFacts] = {}


SearchFacts.model_rebuild()
MemoryBankFacts.model_rebuild()

AnyManifest = TypeVar("AnyManifest", PackManifest, BundleManifest)


def graph_key(backend: BackendName, precision: Precision) -> str:
    """Key of a graph in `graphs`, such as `onnxruntime-int8`."""
    return f"{backend}-{precision}"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_id(manifest: PackManifest | BundleManifest) -> str:
    """16 hex digits that change whenever any fact or file of the pack or bundle changes."""
    facts = manifest.model_dump(mode="json", exclude={"pack_id"} if manifest.kind == "oddkind-pack" else {"bundle_id"})
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def write_manifest(folder: Path, manifest: AnyManifest) -> AnyManifest:
    """Fill in digests and id for the files now in `folder` and write `manifest.json` last."""
    files = {
        path.name: FileFacts(sha256=sha256_of(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME
    }
    manifest = manifest.model_copy(update={"files": files})
    id_field = "pack_id" if isinstance(manifest, PackManifest) else "bundle_id"
    manifest = manifest.model_copy(update={id_field: content_id(manifest)})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path, model: type[AnyManifest]) -> AnyManifest:
    """Read and check `folder/manifest.json`, then every digest in it; BundleError says what is wrong."""
    kind = "pack" if model is PackManifest else "bundle"
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(f"{folder} is not a {kind}: it has no {MANIFEST_NAME}; make one with {_maker(kind)}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise BundleError(f"{path} is not JSON ({exc}); copy the {kind} again") from exc
    _check_kind(path, document, kind)
    try:
        manifest = model.model_validate(document)
    except pydantic.ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {where}: {first['msg']}; make the {kind} again with {_maker(kind)}") from exc
    check_files(folder, manifest.files)
    return manifest


def check_files(folder: Path, files: dict[str, FileFacts]) -> None:
    """Raise BundleError for the first file that is missing, outside `folder`, or not the one described."""
    for name, facts in files.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(f"{folder}: manifest names a file outside the folder: {name!r}; refuse it")
        if not path.is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the folder again")
        if path.stat().st_size != facts.size_bytes or sha256_of(path) != facts.sha256:
            raise BundleError(f"{folder}: {name} is not the file the manifest describes; copy the folder again")


def _check_kind(path: Path, document: object, kind: str) -> None:
    if not isinstance(document, dict) or document.get("kind") != f"oddkind-{kind}":
        got = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise BundleError(f"{path}: expected kind 'oddkind-{kind}', got {got!r}; give a {kind} folder")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version {document.get('schema_version')!r}, this oddkind reads {SCHEMA_VERSION}; "
            f"make the {kind} again or update oddkind"
        )


def _maker(kind: str) -> str:
    return "'oddkind export --out PACK'" if kind == "pack" else "'oddkind calibrate GOOD_DIR --pack PACK --out BUNDLE'"
