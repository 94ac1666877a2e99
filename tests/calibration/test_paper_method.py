"""The paper's method as a baseline: its pseudo-classes, tasks, networks, and the two verbs pretrain and run."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from subprocess import run as run_process

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from calibration import paper_method, paper_pseudo
from calibration.demo_line import render_good
from calibration.paper_method import STOP_ACCURACY, NetworkKind, PaperMethod
from calibration.paper_network import ContrastiveNetwork, RelationNetwork
from calibration.paper_pseudo import (
    MASK_AREA,
    PseudoMaps,
    Residual,
    make_pseudo_maps,
    nearest_residual_map,
    paint_texture,
    perlin_mask,
)
from calibration.paper_tasks import Comparison, compare_supports, draw_task
from calibration.paper_textures import paper_textures
from edge.anomaly import Anomaly
from edge.errors import CalibrationError
from edge.inspector import Inspector
from edge.memory_bank import MemoryBank, MemoryBankArrays, SearchColumns

KINDS: tuple[NetworkKind, ...] = ("contrastive", "relation")
CLASSES, PER_CLASS, GRID, D = 12, 10, (2, 2), 8


def easy_maps(seed: int = 0, noise: float = 0.1) -> PseudoMaps:
    """CLASSES classes of PER_CLASS (2, 2, 8) maps: a class is one map, its pictures are that map and a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    maps = np.random.default_rng(7).normal(size=(CLASSES, *GRID, D))[labels]
    return PseudoMaps((maps + noise * rng.normal(size=maps.shape)).astype(np.float16), labels)


@pytest.fixture(scope="module")
def inspector(bundle_dir: Path) -> Inspector:
    return Inspector.load(bundle_dir)


@pytest.fixture(scope="module")
def method() -> PaperMethod:
    return PaperMethod.pretrain_on(easy_maps(), seed=0)


# ---- textures and pseudo-classes


def test_there_are_as_many_textures_as_the_paper_has_and_no_two_are_alike() -> None:
    textures = paper_textures(64, seed=0)
    assert len(textures) >= 47
    assert all(t.shape == (64, 64, 3) and t.dtype == np.uint8 for t in textures)
    assert len({t.tobytes() for t in textures}) == len(textures)
    assert min(float(t.std(axis=(0, 1)).max()) for t in textures) > 5  # none of them is one flat colour


def test_the_same_seed_gives_the_same_textures_and_another_seed_others() -> None:
    one, same, other = (np.stack(paper_textures(32, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any(axis=(1, 2, 3)).all()


def test_a_perlin_mask_covers_a_tenth_to_two_fifths_of_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert MASK_AREA[0] < perlin_mask(64, rng).mean() < MASK_AREA[1]


def test_a_texture_shows_on_the_part_only_and_covers_at_least_half_of_what_is_below() -> None:
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    part = np.zeros((64, 64), dtype=bool)
    part[:, :32] = True
    rng = np.random.default_rng(0)
    for _ in range(10):
        painted = paint_texture(black, white, part, rng)
        (level,) = np.unique(painted[painted > 0])  # (1 - beta) * 255 with beta in 0..0.5
        assert 127 <= level <= 255
        assert not painted[~part].any()


def tiny_bank() -> MemoryBank:
    vectors = np.array([[0, 0], [10, 10]], np.float32)
    yx = np.zeros((2, 2), np.int64)
    ones = np.ones(2, np.float32)
    return MemoryBank(MemoryBankArrays(vectors, 0 * ones, ones, yx[:, 0], yx), SearchColumns.alike(np.arange(2)))


def test_a_residual_is_what_a_patch_has_over_its_nearest_good_patch() -> None:
    standardised = np.array([[1, 0], [9, 12]], np.float32)
    flat = np.zeros((1, 2), np.float32)
    anomaly = Anomaly(flat, flat, 0.0, standardised, np.array([0, 1]), flat.ravel())
    residual = nearest_residual_map(anomaly, tiny_bank())
    assert residual.shape == (1, 2, 2) and residual.dtype == np.float16
    np.testing.assert_array_equal(residual[0], [[1, 0], [-1, 2]])


def test_an_aligned_residual_of_the_clean_picture_is_zero_and_of_a_painted_one_is_not(inspector: Inspector) -> None:
    clean = [np.ascontiguousarray(render_good(n)[:256, :256]) for n in range(2)]
    residuals = paper_pseudo.Residuals(inspector, clean, "aligned")
    assert residuals.shape == (*inspector.manifest.embedding.grid_hw, inspector.manifest.embedding.dim)
    assert not residuals.of(clean[1], picked=1).any()
    painted = clean[1].copy()
    painted[:64, :64] = 0
    difference = np.abs(residuals.of(painted, picked=1).astype(np.float32)).mean(axis=2)
    h, w = difference.shape
    assert difference[: h // 4, : w // 4].mean() > 3 * difference[h // 2 :, w // 2 :].mean()


@pytest.mark.parametrize("residual", ["aligned", "nearest"])
def test_every_texture_becomes_a_class_of_maps_the_same_for_the_same_seed(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch, residual: Residual
) -> None:
    monkeypatch.setattr(paper_pseudo, "PICTURES_PER_CLASS", 1)
    frames = [render_good(n) for n in range(2)]
    one, same = (make_pseudo_maps(inspector, frames, seed=1, residual=residual) for _ in range(2))
    np.testing.assert_array_equal(one.maps, same.maps)
    assert one.maps.dtype == np.float16 and one.labels.tolist() == list(range(48))
    assert np.abs(one.maps).max(axis=(1, 2, 3)).min() > 0


def test_without_a_good_picture_there_is_one_clear_line(inspector: Inspector) -> None:
    with pytest.raises(CalibrationError, match="needs at least one"):
        PaperMethod.pretrain(inspector, [], seed=0)


# ---- tasks


def test_a_task_asks_nine_queries_against_sets_of_one_key_a_class() -> None:
    labels = np.repeat(np.arange(20, 32), 10)
    rng = np.random.default_rng(0)
    for _ in range(50):
        task = draw_task(labels, 3, rng)
        assert task.keys.shape == (3, 10) and task.queries.shape == (9,)
        assert not np.isin(task.queries, task.keys).any() and len(set(task.queries)) == 9
        classes = labels[task.keys]
        assert (classes == classes[0]).all() and len(set(classes[0])) == 10
        np.testing.assert_array_equal(classes[0][task.answers], labels[task.queries])


def test_supports_are_asked_about_the_first_of_each_class_then_about_the_second() -> None:
    first, second = compare_supports(np.array([0, 0, 1, 1]))
    assert (first.keys.tolist(), first.queries.tolist(), first.answers.tolist()) == ([0, 2], [1, 3], [0, 1])
    assert (second.keys.tolist(), second.queries.tolist(), second.answers.tolist()) == ([1, 3], [0, 2], [0, 1])


def test_a_class_with_one_support_is_a_key_every_time_and_never_a_query() -> None:
    comparisons = compare_supports(np.array([0, 0, 1]))
    assert [(c.keys.tolist(), c.queries.tolist()) for c in comparisons] == [([0, 2], [1]), ([1, 2], [0])]


def test_single_supports_leave_nothing_to_ask() -> None:
    assert compare_supports(np.array([0, 1, 2])) == []


# ---- networks


def test_a_convolution_sees_the_channels_of_one_patch_and_no_other_patch() -> None:
    network = ContrastiveNetwork(GRID, D).eval()
    rows = torch.from_numpy(easy_maps().maps[0].reshape(4, D).astype(np.float32))

    def patches(of: torch.Tensor) -> torch.Tensor:
        return network.deeper(network.first(of))

    changed = rows.clone()
    changed[2] += 1
    with torch.inference_mode():
        differs = (patches(rows) != patches(changed)).any(dim=1)
        order = torch.tensor([3, 1, 0, 2])
        torch.testing.assert_close(patches(rows[order]), patches(rows)[order])
    assert differs.tolist() == [False, False, True, False]


def test_the_encoder_takes_each_patch_from_its_place_in_the_map() -> None:
    network = ContrastiveNetwork((1, 2), D).eval()
    with torch.no_grad():
        network.whole.weight[:, 128:] = 0  # blind to the second patch
        one = torch.randn(1, 1, 2, D)
        other = one.clone()
        other[0, 0, 1] += 1
        torch.testing.assert_close(network.encode(one), network.encode(other))
        torch.testing.assert_close(network.encode(one).norm(dim=1), torch.ones(1))


def test_a_contrastive_score_is_the_cosine_over_the_temperature_and_keys_get_no_gradient() -> None:
    network = ContrastiveNetwork(GRID, D).eval()
    maps = torch.randn(3, *GRID, D)
    logits = network(maps, maps)
    torch.testing.assert_close(logits.diagonal(), torch.full((3,), 1 / 0.07))
    supports = maps.clone().requires_grad_()
    assert network(supports, maps).requires_grad
    assert torch.autograd.grad(network(supports, maps).sum(), supports, allow_unused=True) == (None,)


def test_a_pair_goes_through_the_relation_network_as_its_concatenated_channels() -> None:
    network = RelationNetwork(GRID, D).eval()
    supports, queries = torch.randn(3, *GRID, D), torch.randn(2, *GRID, D)
    with torch.inference_mode():
        logits = network(supports, queries)
        for q in range(2):
            for k in range(3):
                pair = torch.cat([supports[k], queries[q]], dim=-1).view(-1, 2 * D)
                whole = network.whole(network.deeper(network.first(pair)).view(1, -1))
                torch.testing.assert_close(logits[q, k], network.relation(whole)[0, 0])


def test_the_right_pair_weighs_as_much_as_all_wrong_ones_together() -> None:
    network = RelationNetwork(GRID, D)
    undecided = network.loss(torch.zeros(1, 3), torch.tensor([1]))  # each pair costs ln 2; weights 1, 2, 1
    assert undecided.item() == pytest.approx(math.log(2) * 4 / 3)
    sure = torch.tensor([[-20.0, 20.0, -20.0]])
    assert network.loss(sure, torch.tensor([1])).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_over_supports_is_the_mean_over_its_comparisons() -> None:
    network = ContrastiveNetwork(GRID, D).eval()
    maps = torch.randn(4, *GRID, D)
    comparisons = compare_supports(np.array([0, 0, 1, 1]))
    logits = [network(maps[c.keys], maps[c.queries]) for c in comparisons]
    one_by_one = [F.cross_entropy(scores, torch.tensor([0, 1])) for scores in logits]
    torch.testing.assert_close(network.support_loss(maps, comparisons), sum(one_by_one) / 2)


# ---- pretrain


@pytest.mark.parametrize("kind", KINDS)
def test_pre_training_stops_at_the_first_task_over_two_fifths(kind: NetworkKind) -> None:
    accuracies = PaperMethod.pretrain_on(easy_maps(), seed=1, kind=kind).task_accuracies
    assert accuracies[-1] > STOP_ACCURACY == 0.40
    assert all(accuracy <= STOP_ACCURACY for accuracy in accuracies[:-1])


def test_pre_training_ends_when_the_tasks_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_method, "STOP_ACCURACY", 1.0)
    monkeypatch.setattr(paper_method, "MAX_TASKS", 3)
    assert len(PaperMethod.pretrain_on(easy_maps(), seed=0).task_accuracies) == 3


def test_more_tasks_name_more_queries_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_method, "STOP_ACCURACY", 1.0)
    monkeypatch.setattr(paper_method, "MAX_TASKS", 40)
    accuracies = PaperMethod.pretrain_on(easy_maps(noise=1.0), seed=0).task_accuracies
    assert np.mean(accuracies[-10:]) > np.mean(accuracies[:10]) + 0.1


def test_pictures_become_a_method_that_types_maps_of_the_same_bundle(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_pseudo, "PICTURES_PER_CLASS", 10)
    monkeypatch.setattr(paper_pseudo, "paper_textures", lambda size_px, seed: paper_textures(size_px, seed)[:10])
    monkeypatch.setattr(paper_method, "MAX_TASKS", 2)
    trained = PaperMethod.pretrain(inspector, [render_good(n) for n in range(3)], seed=0)
    maps = np.stack([nearest_residual_map(inspector.detect(render_good(n)), inspector.bank) for n in range(4)])
    scores = trained.run(maps, np.array([0, 1, 0, 1]), np.array([0, 1]), np.array([2, 3]))
    assert scores.shape == (2, 2) and np.isfinite(scores).all()


# ---- run


def choose(labels: np.ndarray, n_shot: int, ways: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The first `n_shot` pictures of the first `ways` classes as supports, the rest of them as queries."""
    rows = [np.flatnonzero(labels == k) for k in range(ways)]
    return np.concatenate([r[:n_shot] for r in rows]), np.concatenate([r[n_shot:] for r in rows])


@pytest.mark.parametrize("n_shot", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_differ_clearly_are_named_right(kind: NetworkKind, n_shot: int) -> None:
    data = easy_maps(seed=5)
    supports, queries = choose(data.labels, n_shot)
    scores = PaperMethod.pretrain_on(easy_maps(), seed=0, kind=kind).run(data.maps, data.labels, supports, queries)
    assert scores.shape == (len(queries), 4) and scores.dtype == np.float32
    right = (scores.argmax(axis=1) == data.labels[queries]).mean()
    assert right > (0.5 if n_shot == 1 else 0.8)  # chance is 0.25; with one support nothing was learned of them


def test_the_same_seed_gives_the_same_scores_and_another_seed_others() -> None:
    data = easy_maps(seed=5)
    supports, queries = choose(data.labels, 2)
    one, same, other = (
        PaperMethod.pretrain_on(easy_maps(), seed).run(data.maps, data.labels, supports, queries) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_one_support_a_class_is_not_fine_tuned_on_but_two_are(
    method: PaperMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = easy_maps(seed=5)

    def scores(n_shot: int) -> np.ndarray:
        return method.run(data.maps, data.labels, *choose(data.labels, n_shot))

    tuned = {n: scores(n) for n in (1, 2)}
    monkeypatch.setattr(paper_method, "FINE_TUNE_EPOCHS", 0)
    np.testing.assert_array_equal(scores(1), tuned[1])
    assert (scores(2) != tuned[2]).any()


def test_fine_tuning_lowers_the_loss_over_the_supports(method: PaperMethod) -> None:
    data = easy_maps(seed=5, noise=1.0)
    supports, _ = choose(data.labels, 3)
    maps, answers = torch.from_numpy(data.maps[supports].astype(np.float32)), data.labels[supports]
    comparisons = compare_supports(answers)
    before = method.network.support_loss(maps, comparisons).item()
    tuned = method._fine_tune(maps, answers)
    assert tuned.support_loss(maps, comparisons).item() < 0.5 * before
    assert not tuned.training  # batch statistics stay those of the pre-training


def test_a_run_leaves_the_method_as_it_was(method: PaperMethod) -> None:
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    data = easy_maps(seed=5)
    first = method.run(data.maps, data.labels, *choose(data.labels, 2))
    assert all(torch.equal(value, before[name]) for name, value in method.network.state_dict().items())
    np.testing.assert_array_equal(method.run(data.maps, data.labels, *choose(data.labels, 2)), first)


def test_the_supports_of_a_class_are_averaged_into_one_map(
    method: PaperMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_method, "FINE_TUNE_EPOCHS", 0)
    data = easy_maps(seed=5)
    maps = data.maps.copy()
    maps[2], maps[12] = (maps[0] + maps[1]) / 2, (maps[10] + maps[11]) / 2
    queries = np.array([5, 15])
    of_two = method.run(maps, data.labels, np.array([0, 1, 10, 11]), queries)
    of_mean = method.run(maps, data.labels, np.array([2, 12]), queries)
    np.testing.assert_allclose(of_two, of_mean, atol=2e-2)  # the mean was rounded to float16


def test_columns_follow_the_labels_whatever_their_numbers_and_the_order_of_the_supports(method: PaperMethod) -> None:
    data = easy_maps(seed=5)
    queries = np.array([5, 15])
    scores = method.run(data.maps, data.labels, np.array([0, 10]), queries)
    labels = np.array([9, 4])[np.minimum(data.labels, 1)]  # class 0 is 9 now, class 1 is 4
    renamed = method.run(data.maps, labels, np.array([0, 10]), queries)
    np.testing.assert_allclose(renamed, scores[:, ::-1], atol=1e-4)
    swapped = method.run(data.maps, data.labels, np.array([10, 0]), queries)
    np.testing.assert_allclose(swapped, scores, atol=1e-4)


def test_no_queries_get_no_scores_and_one_class_is_refused(method: PaperMethod) -> None:
    data = easy_maps(seed=5)
    nothing = np.array([], dtype=np.int64)
    assert method.run(data.maps, data.labels, np.array([0, 10]), nothing).shape == (0, 2)
    with pytest.raises(CalibrationError, match="compares at least 2"):
        method.run(data.maps, data.labels, np.array([0, 1]), np.array([5]))


def test_only_the_networks_need_torch() -> None:
    code = "import sys, calibration.paper_pseudo, calibration.paper_tasks; assert 'torch' not in sys.modules"
    root = Path(paper_method.__file__).parents[1]
    assert run_process([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    assert isinstance(compare_supports(np.array([0, 0, 1]))[0], Comparison)
