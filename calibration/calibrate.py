"""Good pictures + model pack -> bundle. No torch: it runs on the device too."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibration.build_bank import BuiltBank, default_tap_weights
from calibration.build_placed_bank import placed_search
from calibration.detection import Detection, calibrate_detection
from calibration.good_pictures import Embedder, GoodPictures, Track, load_second_look, no_track
from calibration.pieces import ViewOptions, frame_thresholds, write_mask
from calibration.place_statistics import alike_everywhere, place_statistics
from calibration.pseudo_samples import (
    PSEUDO_CLASSES,
    PseudoPainter,
    RegionReader,
    describe_samples,
    make_pseudo_samples,
    odd_patches,
)
from calibration.recipe import Recipe
from calibration.searched_bank import IndexBank, asked_for, bank_facts, build, searched
from calibration.sources import Sources
from calibration.train_discriminator import discriminator_facts
from calibration.typing_calibration import TypingCalibration, calibrate_typing
from edge.bundle import CENTRE_FILE, PLACES_FILE, PROVENANCE_FILE, TUNING_FILE, WHITENING_FILE, graph_files
from edge.descriptor import DESCRIPTOR_NAME, Whitening, view_slices
from edge.discriminator import DISCRIMINATOR_FILE
from edge.errors import UsageError
from edge.manifest import (
    MANIFEST_NAME,
    BackendName,
    BundleManifest,
    MemoryBankFacts,
    PackManifest,
    Precision,
    Search,
    SearchFacts,
    ThresholdFacts,
    TypingFacts,
    read_manifest,
    write_manifest,
)
from edge.memory_bank import BANK_FILE
from edge.second_look import SecondLook
from edge.staging import refuse_taken, staged_folder

RECALL_PICTURES = 16


@dataclass(frozen=True)
class Options:
    """What a user may ask of `calibrate`.

    detection_taps: None means every tap of stride 8 and coarser. search: None takes the fastest for this
    bank, measured. recipe: what `tune` chose; None is the default.
    tuning_document: JSON of what it tried, kept in the bundle. view: what of a frame is inspected, and in which pieces.
    """

    bank_rows: int = 2000
    false_reject_rate: float = 0.01
    backend: BackendName = "onnxruntime"
    precision: Precision = "int8"
    detection_taps: tuple[str, ...] | None = None
    seed: int = 0
    overwrite: bool = False
    search: Search | None = None
    recipe: Recipe | None = None
    tuning_document: str = ""
    view: ViewOptions = field(default_factory=ViewOptions)

    def check(self) -> None:
        """UsageError for a value that cannot mean anything."""
        if not 1 <= self.bank_rows <= 1_000_000:
            raise UsageError(f"--bank-rows {self.bank_rows}: expected 1 to 1000000")
        if not 0 < self.false_reject_rate < 1:
            raise UsageError(f"--false-reject-rate {self.false_reject_rate}: expected a share between 0 and 1")
        self.view.check()
        if self.view.aligned and self.search not in (None, "exact", "int8"):
            raise UsageError(f"--search {self.search}: with --aligned a place's rows are searched by exact or int8")


@dataclass(frozen=True)
class Calibration:
    """What was built: the manifest, pictures left out, and the most memory the process held."""

    manifest: BundleManifest
    unreadable: tuple[str, ...]
    coreset_pool_rows: int
    peak_rss_mb: float


@dataclass(frozen=True)
class Learned:
    """All that good pictures gave, before it is written down."""

    sources: Sources
    judged: int
    built: BuiltBank
    bank_facts: MemoryBankFacts
    detection: Detection
    typing: TypingCalibration
    whitening: Whitening


def calibrate(
    good_dir: Path,
    pack: Path,
    out: Path,
    index_bank: IndexBank,
    options: Options = Options(),
    track: Track[Any] = no_track,
    more_good: Sequence[Path] = (),
) -> Calibration:
    """Build a bundle at `out`, whole or not at all. more_good: further folders of good pictures."""
    options.check()
    refuse_taken(out, MANIFEST_NAME, options.overwrite)
    pack_manifest = read_manifest(pack, PackManifest)
    embedder = Embedder.load(pack, pack_manifest, options.backend, options.precision)
    pictures = GoodPictures.find(good_dir, options.seed, more_good)
    with staged_folder(out, MANIFEST_NAME, options.overwrite) as folder:
        second_look = load_second_look(pack, pack_manifest, options.backend, options.precision)
        learned = _learn(folder, embedder, second_look, pictures, index_bank, options, track)
        _copy_graphs(pack, pack_manifest, folder)
        _write_arrays(folder, learned)
        if options.tuning_document:
            (folder / TUNING_FILE).write_text(options.tuning_document, encoding="utf-8")
        manifest = _manifest(pack_manifest, product_name(pictures.folder), pictures, learned, embedder, options)
        manifest = write_manifest(folder, manifest)
    return Calibration(manifest, pictures.unreadable, learned.built.peak_pool_rows, _peak_rss_mb())


def _learn(
    folder: Path,
    embedder: Embedder,
    second_look: SecondLook,
    pictures: GoodPictures,
    index_bank: IndexBank,
    options: Options,
    track: Track[Any],
) -> Learned:
    """Bank, index (written into `folder`), thresholds and typing, each from what the one before gave."""
    recipe = options.recipe or Recipe(default_tap_weights(embedder.embedding, options.detection_taps))
    sources = Sources.of(pictures, options.view, embedder.embedding, recipe.score, options.seed)
    fit, held_out = sources.fit, sources.held_out
    unseen = held_out or fit  # a small set has no unseen pictures: its own stand in, and are cross-fitted
    built = build(embedder, sources, recipe, options.bank_rows, track)
    painter = PseudoPainter.of(unseen, PSEUDO_CLASSES, options.seed)
    samples = make_pseudo_samples(embedder, painter, track)
    good = np.concatenate([built.bank.standardise(e) for e in embedder.embed_good(unseen[:RECALL_PICTURES])])
    odd = odd_patches(samples, built.bank)
    if sources.view.aligned_plan:
        searches = SearchFacts(search=placed_search(options.bank_rows))
    else:
        searches = index_bank(folder, built.bank, good, odd, options.seed)
    if options.search:
        searches = asked_for(searches, options.search, built.bank.rows)
    facts = bank_facts(built, sources, recipe, options.bank_rows, searches)
    bank = searched(built.bank, facts, sources, folder)
    rate = options.false_reject_rate
    tiled = sources.view.tiling is not None
    keep = None if tiled else sources.view.keep(embedder.embedding.grid_hw)
    statistics = alike_everywhere if tiled else place_statistics
    detection = calibrate_detection(
        embedder, bank, recipe, fit, held_out, rate, options.seed, track, keep=keep, statistics=statistics
    )
    judged = len(unseen)
    if sources.frames:
        look = lambda picture, place_yx: detection.detect(embedder.embed(picture), place_yx)  # noqa: E731
        thresholds, judged = frame_thresholds(sources.view, look, sources.frames, rate, track)
        detection = replace(detection, thresholds=thresholds)
    reader = RegionReader(embedder, detection.detect, detection.thresholds.pixel.value, bank, second_look)
    whitening, described = describe_samples(samples, painter, reader, track)
    views = view_slices(embedder.embedding, second_look.embedding)
    typing = calibrate_typing(described.descriptors, described.supports, described.labels, views, options.seed)
    return Learned(sources, judged, built, facts, detection, typing, whitening)


def _write_arrays(folder: Path, learned: Learned) -> None:
    learned.built.bank.arrays.save(folder / BANK_FILE)
    learned.detection.places.save(folder / PLACES_FILE)
    if learned.detection.discriminator:
        learned.detection.discriminator.save(folder / DISCRIMINATOR_FILE)
    learned.whitening.save(folder / WHITENING_FILE)
    np.save(folder / CENTRE_FILE, learned.typing.centre)
    provenance = json.dumps({"sources": learned.sources.names}, indent=1)
    (folder / PROVENANCE_FILE).write_text(provenance + "\n", encoding="utf-8")
    write_mask(learned.sources.view, folder)


def _manifest(
    pack: PackManifest, product: str, pictures: GoodPictures, learned: Learned, embedder: Embedder, options: Options
) -> BundleManifest:
    image, pixel = learned.detection.thresholds.image, learned.detection.thresholds.pixel
    view = learned.sources.view
    return BundleManifest(
        pack_id=pack.pack_id,
        product=product,
        target=pack.target,
        embedding=pack.embedding,
        graphs=pack.graphs,
        second_look=pack.second_look,
        relation_head=pack.relation_head,
        calibrated_backend=options.backend,
        calibrated_precision=options.precision,
        good_pictures=len(pictures.paths),
        memory_bank=learned.bank_facts,
        score=learned.detection.recipe.score,
        discriminator=discriminator_facts(len(learned.sources.fit)) if learned.detection.discriminator else None,
        thresholds=ThresholdFacts(
            image_threshold=image.value,
            pixel_threshold=pixel.value,
            false_reject_rate=options.false_reject_rate,
            promised_false_reject_rate=round(image.promised_false_reject_rate, 5),
            method=image.method,
            held_out_pictures=learned.judged,
        ),
        typing=TypingFacts(
            descriptor=DESCRIPTOR_NAME,
            descriptor_dim=len(learned.typing.centre),
            unknown_threshold=round(learned.typing.unknown_threshold, 6),
            unknown_threshold_one_shot=round(learned.typing.unknown_threshold_one_shot, 6),
        ),
        tiling=view.tiling,
        view=view.facts,
        versions={"oddkind": version("oddkind"), embedder.backend.name: embedder.backend.version},
    )


def product_name(good_dir: Path) -> str:
    """The folder's name, or that of the first folder above it that is not the layout's own (`train/good`)."""
    names = [part for part in good_dir.resolve().parts if part not in ("good", "train")]
    return names[-1]


def _copy_graphs(pack: Path, manifest: PackManifest, folder: Path) -> None:
    names = graph_files(manifest.graphs) + graph_files(manifest.second_look.graphs)
    if manifest.relation_head:
        names += graph_files(manifest.relation_head.graphs)
    for name in names:
        shutil.copyfile(pack / name, folder / name)


def _peak_rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
