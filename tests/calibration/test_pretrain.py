"""`oddkind pretrain`: a relation head in the pack, or the pack as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from calibration import train_relation
from calibration.cli_pretrain import pretrain as command
from calibration.demo_line import KINDS, render_good
from calibration.episodes import Episode, EpisodePool
from calibration.pack_head import install_head
from calibration.pretrain import (
    MAX_TEXTURES,
    PER_CLASS,
    Options,
    Pretraining,
    find_good_pictures,
    pretrain,
    read_textures,
)
from calibration.pseudo_regions import product_name
from calibration.relation_module import RelationModule
from calibration.rendered_products import RENDERED_PRODUCTS
from calibration.train_relation import Accuracy, episode_loss, measure_accuracy, train_relation_module
from edge.backend import BACKEND_NAMES, load_backend
from edge.bundle import graph_files
from edge.cli import main
from edge.errors import BundleError, CalibrationError, UsageError
from edge.manifest import MANIFEST_NAME, PackManifest, RelationHeadFacts, read_manifest
from edge.pictures import write_picture
from edge.registry import load_stage

VIEWS = [slice(0, 8), slice(8, 16)]
SMALL = Options(classes=24, episodes=120)


@pytest.fixture
def pack(pack_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may write into."""
    return Path(shutil.copytree(pack_dir, tmp_path / "copy.pack"))


@pytest.fixture(scope="module")
def pretrained(pack_dir: Path, good_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pretraining]:
    """A pack that has been pre-trained for real, on little."""
    folder = Path(shutil.copytree(pack_dir, tmp_path_factory.mktemp("pretrained") / "pack"))

    def measured(*arguments: Any) -> Accuracy:
        accuracy = measure_accuracy(*arguments)
        return replace(accuracy, cosine=min(accuracy.cosine, accuracy.head - 0.01))

    with pytest.MonkeyPatch.context() as patch:  # whether so short a training wins is no part of these tests
        patch.setattr(train_relation, "measure_accuracy", measured)
        return folder, pretrain(folder, [good_dir], load_stage("export_head"), SMALL)


def write_good(folder: Path, count: int) -> Path:
    for number in range(count):
        write_picture(folder / f"{number:02d}.png", render_good(number))
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def told_by_length(seed: int = 0) -> EpisodePool:
    """Sixteen classes: eight directions, each once short and once three times as long, in the second view alone.

    The first view's length is noise.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(16), 8)
    directions = np.eye(8)[labels % 8] + 0.1 * rng.normal(size=(128, 8))
    lengths = np.stack([np.exp(rng.normal(size=128)), np.where(labels < 8, 3, 9)], axis=1)
    descriptors = np.concatenate([directions * lengths[:, [view]] for view in (0, 1)], axis=1).astype(np.float32)
    return EpisodePool(descriptors, descriptors, labels, np.zeros(16, np.float32), VIEWS)


def test_the_pack_gets_a_head_that_both_runtimes_run(pretrained: tuple[Path, Pretraining]) -> None:
    pack, result = pretrained
    manifest = read_manifest(pack, PackManifest)  # every digest is checked here
    assert result.written and manifest == result.manifest and manifest.relation_head is not None
    head = manifest.relation_head
    assert set(graph_files(head.graphs)) < set(manifest.files)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.normal(size=(n, head.descriptor_dim)).astype(np.float32)
        for name, n in (("queries", 2), ("prototypes", 3))
    }
    for backend in BACKEND_NAMES:
        assert load_backend(pack, head.graphs, backend, "int8").run(inputs).shape == (2, 3)


def test_the_manifest_says_what_the_head_was_trained_on(
    pretrained: tuple[Path, Pretraining], pack_dir: Path, good_dir: Path
) -> None:
    _, result = pretrained
    head = result.manifest.relation_head
    assert head is not None
    assert (head.pseudo_classes, head.episodes) == (24, 120)
    assert head.trained_on == result.products == (product_name(good_dir),)
    assert head.episode_accuracy == pytest.approx(result.accuracy.head, abs=1e-4)
    assert len(head.exponents) == 2 and min(head.exponents) > 0
    assert set(head.parity) == set(head.graphs)
    assert result.regions + result.missed == 24 * PER_CLASS and result.regions > 24 * 2
    before = read_manifest(pack_dir, PackManifest)
    assert result.manifest.pack_id != before.pack_id and result.manifest.graphs == before.graphs


def test_training_learns_in_which_view_length_tells_classes_apart() -> None:
    module = train_relation_module([told_by_length()], [8, 8], episodes=400, seed=0)
    first, second = module.exponents.tolist()
    assert second > 3 * first
    accuracy = measure_accuracy(module, [told_by_length(seed=1)], seed=0)
    assert accuracy.head > accuracy.cosine + 0.03


def test_the_same_seed_trains_the_same_head_and_another_seed_another() -> None:
    weights = [
        train_relation_module([told_by_length()], [8, 8], episodes=40, seed=seed).exponents for seed in (3, 3, 4)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_loss_is_lower_for_the_right_answers_than_for_the_wrong_ones() -> None:
    module = RelationModule([8, 8]).eval()
    regions = np.eye(16, dtype=np.float32)[[8, 9, 10]]
    right = Episode(regions, regions, np.array([0, 1, 2]))
    wrong = Episode(regions, regions, np.array([1, 2, 0]))
    losses = [float(episode_loss(module, episode, torch.tensor(0.1)).detach()) for episode in (right, wrong)]
    assert losses[0] < losses[1]


def test_a_head_that_does_not_beat_the_cosine_is_not_written(
    pack: Path, good_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(pack)
    monkeypatch.setattr(train_relation, "measure_accuracy", lambda *a: Accuracy(cosine=0.8, head=0.8))
    result = pretrain(pack, [good_dir], load_stage("export_head"), Options(classes=16, episodes=4))
    assert not result.written and result.manifest.relation_head is None
    assert snapshot(pack) == before


def test_a_second_pretraining_replaces_the_first_head_and_leaves_no_file_behind(
    pretrained: tuple[Path, Pretraining], tmp_path: Path
) -> None:
    pack = Path(shutil.copytree(pretrained[0], tmp_path / "pack"))
    manifest = install_head(pack, write_bytes_head(b"new"))
    assert manifest.relation_head is not None and "relation_head-2.int8.onnx" in manifest.files
    assert {path.name for path in pack.glob("relation_head*")} == {"relation_head-2.int8.onnx"}
    assert read_manifest(pack, PackManifest) == manifest
    assert manifest.pack_id != pretrained[1].manifest.pack_id


def write_bytes_head(content: bytes, fails: BaseException | None = None):  # type: ignore[no-untyped-def]
    def write(folder: Path, stem: str) -> RelationHeadFacts:
        (folder / f"{stem}.int8.onnx").write_bytes(content)
        if fails:
            raise fails
        return RelationHeadFacts(
            graphs={"onnxruntime-int8": f"{stem}.int8.onnx"},
            descriptor_dim=16,
            trained_on=("x",),
            pseudo_classes=16,
            episodes=1,
            exponents=(0.2, 0.1),
            episode_accuracy=0.5,
            cosine_accuracy=0.4,
            parity={},
        )

    return write


@pytest.mark.parametrize("failure", [RuntimeError("power"), KeyboardInterrupt(), CalibrationError("parity")])
def test_a_failure_while_the_head_is_written_leaves_the_old_pack(
    pretrained: tuple[Path, Pretraining], tmp_path: Path, failure: BaseException
) -> None:
    pack = Path(shutil.copytree(pretrained[0], tmp_path / "pack"))
    before = snapshot(pack)
    with pytest.raises(type(failure)):
        install_head(pack, write_bytes_head(b"half", failure))
    assert snapshot(pack) == before


def test_files_a_killed_run_left_behind_hurt_nobody_and_go_with_the_next_one(pack: Path) -> None:
    (pack / "relation_head-1.fp32.onnx").write_bytes(b"half a graph")  # killed before its manifest was written
    assert read_manifest(pack, PackManifest).relation_head is None
    install_head(pack, write_bytes_head(b"whole"))
    assert [path.name for path in pack.glob("relation_head*")] == ["relation_head-1.int8.onnx"]
    read_manifest(pack, PackManifest)


@pytest.mark.parametrize(
    ("options", "expected"), [(Options(classes=3), "--classes 3"), (Options(episodes=0), "--episodes 0")]
)
def test_options_that_mean_nothing_are_refused(pack: Path, good_dir: Path, options: Options, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        pretrain(pack, [good_dir], load_stage("export_head"), options)


def test_without_a_pack_the_error_says_how_to_make_one(tmp_path: Path, good_dir: Path) -> None:
    with pytest.raises(BundleError, match="oddkind export --out PACK"):
        pretrain(tmp_path / "none", [good_dir], load_stage("export_head"), SMALL)


def test_too_few_pictures_are_refused_and_counted(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="5 readable pictures, at least 6 needed"):
        find_good_pictures(write_good(tmp_path / "few", 5), seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="0 readable pictures"):
        find_good_pictures(tmp_path / "empty", seed=0)


def test_unreadable_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 6)
    (folder / "broken.png").write_bytes(b"no picture")
    found = find_good_pictures(folder, seed=0)
    assert len(found.paths) == 6
    assert len(found.unreadable) == 1 and "broken.png" in found.unreadable[0]


def test_textures_are_found_in_nested_folders_shrunk_and_broken_ones_skipped(tmp_path: Path) -> None:
    write_picture(tmp_path / "dtd" / "woven" / "a.png", np.full((600, 900, 3), 9, dtype=np.uint8))
    write_picture(tmp_path / "dtd" / "dotted" / "b.png", np.full((40, 30, 3), 7, dtype=np.uint8))
    (tmp_path / "dtd" / "c.jpg").write_bytes(b"broken")
    assert sorted(texture.shape for texture in read_textures(tmp_path / "dtd", seed=0)) == [(40, 30, 3), (256, 384, 3)]
    assert read_textures(None, seed=0) == []


def test_many_textures_are_sampled(tmp_path: Path) -> None:
    for number in range(MAX_TEXTURES + 3):
        write_picture(tmp_path / f"{number}.png", np.full((16, 16, 3), number % 256, dtype=np.uint8))
    assert len(read_textures(tmp_path, seed=0)) == MAX_TEXTURES


@pytest.mark.parametrize("content", [None, b"broken"])
def test_a_texture_folder_without_textures_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "textures"
    if content:
        folder.mkdir()
        (folder / "a.png").write_bytes(content)
    with pytest.raises(CalibrationError, match="--textures"):
        read_textures(folder, seed=0)


@pytest.mark.parametrize(
    ("folder", "name"), [("/data/bottle/train/good", "bottle"), ("/data/tile/good", "tile"), ("/data/shaft", "shaft")]
)
def test_a_product_is_named_after_its_folder_not_after_the_split(folder: str, name: str) -> None:
    assert product_name(Path(folder)) == name


def test_the_command_prints_one_clear_line_for_a_missing_folder(pack: Path) -> None:
    result = CliRunner().invoke(main, ["pretrain", "--pack", str(pack), "--good", "nowhere"])
    assert result.exit_code == 1
    assert result.output.startswith("oddkind: nowhere: no such folder") and result.output.count("\n") == 1


def test_the_command_prints_json_for_a_machine(
    pretrained: tuple[Path, Pretraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.pretrain.pretrain", lambda *a, **k: pretrained[1])
    result = CliRunner().invoke(command, ["--pack", "p", "--good", "g", "--json"])
    facts = json.loads(result.output)
    assert facts["written"] is True and facts["pack_id"] == pretrained[1].manifest.pack_id
    assert set(facts["held_out_accuracy"]) == {"cosine", "head"}
    text = CliRunner().invoke(command, ["--pack", "p", "--good", "g"]).output
    assert "two-shot accuracy on held-out pseudo-defects" in text and "relation head written to p" in text


def test_a_read_only_pack_is_refused_before_the_training(
    pack: Path, good_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *a: False)  # tests may run as root, who may write anywhere
    with pytest.raises(BundleError, match="no permission to write"):
        pretrain(pack, [good_dir], load_stage("export_head"), SMALL)
    assert (pack / MANIFEST_NAME).is_file()


def test_without_good_pictures_rendered_products_are_learned_from_and_thrown_away(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("calibration.rendered_products.PICTURES", 8)
    monkeypatch.setattr("calibration.rendered_products.DAMAGES_PER_KIND", 6)
    result = pretrain(pack, [], load_stage("export_head"), Options(classes=16, episodes=8))
    assert result.products == RENDERED_PRODUCTS
    assert result.pictures == 8 * len(RENDERED_PRODUCTS)
    assert result.regions + result.missed == 16 * PER_CLASS * len(RENDERED_PRODUCTS) + 6 * len(KINDS)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("oddkind-")] == []
