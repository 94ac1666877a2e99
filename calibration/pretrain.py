"""Good pictures of one or more products, or rendered ones -> a relation head in the pack, without one real defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from calibration.episodes import EpisodePool, split_classes
from calibration.good_pictures import Embedder, GoodPictures, Track, load_second_look, no_track
from calibration.pack_head import check_writable, install_head
from calibration.pseudo_defects import draw_pseudo_classes
from calibration.pseudo_regions import (
    Product,
    ProductRegions,
    describe_defects,
    describe_pseudo_defects,
    load_product,
)
from calibration.rendered_products import DAMAGES, PLATE, render_damages, write_rendered_products
from edge.descriptor import descriptor_dim, view_slices
from edge.errors import CalibrationError, PictureError, UsageError
from edge.manifest import PackManifest, RelationHeadFacts, read_manifest
from edge.pictures import FrameBgr, iter_picture_paths, read_picture

if TYPE_CHECKING:
    from calibration.relation_module import RelationModule
    from calibration.train_relation import Accuracy

MIN_GOOD_PICTURES = 6
MIN_CLASSES = 16
PER_CLASS = 6  # up to five supports and a query
PICTURES_PER_PRODUCT = 200
BANK_ROWS = 2000
HELD_OUT_SHARE = 0.25
HELD_OUT_DAMAGES = 1 / 3  # of the pictures of each kind: there are too few kinds to hold out whole ones
MAX_TEXTURES, TEXTURE_PX = 200, 256
EXPORT_EXAMPLES = 32

ExportHead = Callable[..., tuple[dict[str, str], dict[str, float]]]


@dataclass(frozen=True)
class Options:
    """What a user may ask of `pretrain`.

    classes: pseudo-defect classes a product, a quarter of them held out to measure on.
    """

    classes: int = 96
    episodes: int = 1600
    textures: Path | None = None
    seed: int = 0

    def check(self) -> None:
        """UsageError for a value that cannot mean anything."""
        if self.classes < MIN_CLASSES:
            raise UsageError(f"--classes {self.classes}: at least {MIN_CLASSES} needed, a quarter of them is held out")
        if self.episodes < 1:
            raise UsageError(f"--episodes {self.episodes}: at least 1 needed")


@dataclass(frozen=True)
class Pretraining:
    """What came of it. written: False when the head names what was held out no better than the cosine does.

    regions, missed: pseudo-defects found and not found on the anomaly map. manifest: of the pack as it is now.
    """

    manifest: PackManifest
    accuracy: Accuracy
    written: bool
    products: tuple[str, ...]
    pictures: int
    unreadable: tuple[str, ...]
    regions: int
    missed: int


def pretrain(
    pack: Path,
    good_dirs: Sequence[Path],
    export_head: ExportHead,
    options: Options = Options(),
    track: Track[Any] = no_track,
) -> Pretraining:
    """Paint pseudo-defects on good pictures, train the head on episodes of them, write it into `pack`.

    good_dirs: a folder for each product; none means rendered products. export_head: the stage of that name. A head
    that does not beat the cosine on what was held out is not written: painted classes, and pictures of damages.
    """
    from calibration.train_relation import measure_accuracy, train_relation_module

    options.check()
    manifest = read_manifest(pack, PackManifest)
    check_writable(pack)
    classes = draw_pseudo_classes(options.classes, options.seed, read_textures(options.textures, options.seed))
    embedder = Embedder.load(pack, manifest, "onnxruntime", "int8")
    look = load_second_look(pack, manifest, "onnxruntime", "int8")
    with _folders(good_dirs, options.seed, track) as directories:
        folders = [find_good_pictures(folder, options.seed) for folder in directories]
        painters = [load_product(embedder, look, f, PICTURES_PER_PRODUCT, BANK_ROWS, track) for f in folders]
        products = [describe_pseudo_defects(p, classes, PER_CLASS, options.seed, track) for p in painters]
        damaged = [] if good_dirs else [_describe_damages(painters, options.seed, track)]
    pools = [p.pool(manifest.embedding, look.embedding) for p in products]
    trained_on, held_out = split_classes(np.arange(options.classes), HELD_OUT_SHARE, options.seed)
    training, testing = _pools(pools, trained_on), _pools(pools, held_out)
    # Half of the episodes are of damages: like real types they differ in size, which painted classes hardly do.
    for regions in damaged:
        seen, unseen = regions.pool(manifest.embedding, look.embedding).split(HELD_OUT_DAMAGES, options.seed)
        training, testing = training + [seen] * len(training), testing + [unseen] * len(testing)
    module = train_relation_module(training, view_sizes(manifest), options.episodes, options.seed, track)
    accuracy = measure_accuracy(module, testing, options.seed)
    is_better = accuracy.head > accuracy.cosine
    if is_better:
        facts = _head_facts(manifest, module, [p.product for p in products], options, accuracy)
        manifest = _write_head(pack, module, training, export_head, facts, options.seed)
    return Pretraining(
        manifest=manifest,
        accuracy=accuracy,
        written=is_better,
        products=tuple(p.product for p in products),
        pictures=sum(min(len(folder.paths), PICTURES_PER_PRODUCT) for folder in folders),
        unreadable=tuple(name for folder in folders for name in folder.unreadable),
        regions=sum(len(p.labels) for p in [*products, *damaged]),
        missed=sum(p.missed for p in [*products, *damaged]),
    )


def find_good_pictures(folder: Path, seed: int) -> GoodPictures:
    """CalibrationError when there are fewer than MIN_GOOD_PICTURES readable ones."""
    found = GoodPictures.find(folder, seed)
    if len(found.paths) < MIN_GOOD_PICTURES:
        raise CalibrationError(
            f"--good {folder}: {len(found.paths)} readable pictures, at least {MIN_GOOD_PICTURES} needed: "
            "some for a memory bank and some to paint on"
        )
    return found


def read_textures(folder: Path | None, seed: int) -> list[FrameBgr]:
    """At most MAX_TEXTURES pictures from anywhere below `folder`, TEXTURE_PX on the shorter side; [] without a folder.

    CalibrationError when the folder is missing or holds no readable picture.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise CalibrationError(f"--textures {folder}: no such folder; give a folder of texture pictures, such as DTD")
    paths = list(iter_picture_paths(folder))
    textures: list[FrameBgr] = []
    for number in np.random.default_rng(seed).permutation(len(paths)):
        try:
            textures.append(_shrunk(read_picture(paths[number])))
        except PictureError:  # one broken texture among hundreds is no reason to stop
            continue
        if len(textures) == MAX_TEXTURES:
            break
    if not textures:
        raise CalibrationError(f"--textures {folder}: no readable picture in it; leave it out for generated textures")
    return textures


def view_sizes(pack: PackManifest) -> list[int]:
    """Columns of each view of a descriptor."""
    return [view.stop - view.start for view in view_slices(pack.embedding, pack.second_look.embedding)]


def export_examples(pools: Sequence[EpisodePool], seed: int) -> list[dict[str, np.ndarray]]:
    """EXPORT_EXAMPLES inputs as the device will give them: the queries and the prototypes of an episode."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(EXPORT_EXAMPLES):
        episode = pools[number % len(pools)].draw(rng)
        examples.append({"queries": episode.queries, "prototypes": episode.prototypes})
    return examples


@contextmanager
def _folders(good_dirs: Sequence[Path], seed: int, track: Track[Any]) -> Iterator[Sequence[Path]]:
    """The folders given, or rendered products for as long as they are looked at."""
    if good_dirs:
        yield good_dirs
        return
    with TemporaryDirectory(prefix="oddkind-") as folder:
        yield write_rendered_products(Path(folder), seed, track)


def _describe_damages(painters: Sequence[Product], seed: int, track: Track[Any]) -> ProductRegions:
    plate = next(product for product in painters if product.name == PLATE)
    return describe_defects(plate, track(render_damages(seed), f"damages of the {PLATE}", DAMAGES), seed)


def _pools(pools: Sequence[EpisodePool], classes: np.ndarray) -> list[EpisodePool]:
    chosen = [pool.only(classes) for pool in pools]
    usable = [pool for pool in chosen if len(pool.usable_classes()) >= 2]
    if not usable:
        raise CalibrationError(
            "too few pseudo-defects show on the anomaly maps to learn from; give more --classes or more pictures"
        )
    return usable


def _head_facts(
    pack: PackManifest, module: RelationModule, products: list[str], options: Options, accuracy: Accuracy
) -> RelationHeadFacts:
    return RelationHeadFacts(
        exponents=tuple(round(exponent, 4) for exponent in module.exponents.tolist()),
        graphs={},
        descriptor_dim=descriptor_dim(pack.embedding, pack.second_look.embedding),
        trained_on=tuple(products),
        pseudo_classes=options.classes,
        episodes=options.episodes,
        episode_accuracy=round(accuracy.head, 4),
        cosine_accuracy=round(accuracy.cosine, 4),
        parity={},
    )


def _write_head(
    pack: Path,
    module: RelationModule,
    pools: Sequence[EpisodePool],
    export_head: ExportHead,
    facts: RelationHeadFacts,
    seed: int,
) -> PackManifest:
    examples = export_examples(pools, seed)

    def write(folder: Path, stem: str) -> RelationHeadFacts:
        graphs, parity = export_head(module, examples, folder, stem)
        return facts.model_copy(update={"graphs": graphs, "parity": parity})

    return install_head(pack, write)


def _shrunk(texture: FrameBgr) -> FrameBgr:
    zoom = TEXTURE_PX / min(texture.shape[:2])
    if zoom >= 1:
        return texture
    return np.asarray(cv2.resize(texture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), dtype=np.uint8)
