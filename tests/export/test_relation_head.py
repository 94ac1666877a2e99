"""The relation head's graphs: torch is the oracle, both runtimes and both precisions answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.relation_module import RelationModule
from edge.backend import BACKEND_NAMES, load_backend
from edge.errors import ExportError
from edge.registry import load_stage
from edge.relation import relation_scores
from export.relation_head import INT8_TOLERANCE, check_head_parity, export_head, measure_head_parity

VIEW_SIZES = [8, 24]
F = sum(VIEW_SIZES)


def make_module() -> RelationModule:
    """A head with something to say: its last layer starts at zero otherwise."""
    torch.manual_seed(0)
    module = RelationModule(VIEW_SIZES)
    torch.nn.init.normal_(module.relation[3].weight, std=0.5)
    return module.eval()


def make_example(classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    prototypes = rng.normal(size=(classes, F)).astype(np.float32)
    query = prototypes[:1] + 0.5 * rng.normal(size=(1, F)).astype(np.float32)
    return {"query": unit(query), "prototypes": unit(prototypes)}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[RelationModule, Path, dict[str, str], dict[str, float]]:
    folder = tmp_path_factory.mktemp("head")
    rng = np.random.default_rng(0)
    module = make_module()
    examples = [make_example(int(rng.integers(2, 9)), rng) for _ in range(120)]
    graphs, parity = export_head(module, examples, folder, "relation_head-1", "x86-vnni")
    return module, folder, graphs, parity


def test_four_graphs_lie_in_the_folder_and_parity_is_measured_for_each(exported) -> None:  # type: ignore[no-untyped-def]
    _, folder, graphs, parity = exported
    assert set(graphs) == set(parity) == {f"{b}-{p}" for b in BACKEND_NAMES for p in ("fp32", "int8")}
    assert all((folder / name).is_file() for name in graphs.values())
    assert parity["onnxruntime-fp32"] < 1e-5 and parity["openvino-fp32"] < 1e-5
    assert 0 < parity["onnxruntime-int8"] <= INT8_TOLERANCE
    int8, fp32 = folder / graphs["onnxruntime-int8"], folder / graphs["onnxruntime-fp32"]
    assert int8.read_bytes() != fp32.read_bytes()


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-4), ("int8", INT8_TOLERANCE)])
@pytest.mark.parametrize("classes", [1, 2, 5, 40])
def test_any_number_of_classes_is_scored_as_torch_does(exported, backend, precision, allowed, classes) -> None:  # type: ignore[no-untyped-def]
    module, folder, graphs, _ = exported
    inputs = make_example(classes, np.random.default_rng(classes))
    got = load_backend(folder, graphs, backend, precision).run(inputs)
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(inputs[name]) for name in ("query", "prototypes"))).numpy()
    assert got.shape == (classes,)
    np.testing.assert_allclose(got, expected, atol=allowed)
    assert ((got >= 0) & (got <= 1)).all()


def test_the_device_averages_head_and_cosine(exported) -> None:  # type: ignore[no-untyped-def]
    module, folder, graphs, _ = exported
    inputs = make_example(3, np.random.default_rng(1))
    head = load_backend(folder, graphs, "onnxruntime", "fp32")
    alone = relation_scores(inputs["query"], inputs["prototypes"], None)
    both = relation_scores(inputs["query"], inputs["prototypes"], head)
    with torch.inference_mode():
        learned = module(torch.from_numpy(inputs["query"]), torch.from_numpy(inputs["prototypes"])).numpy()
    np.testing.assert_allclose(both[0], (alone[0] + learned) / 2, atol=1e-5)


def test_parity_against_another_network_is_seen_and_refused(exported) -> None:  # type: ignore[no-untyped-def]
    _, folder, graphs, _ = exported
    torch.manual_seed(1)
    other = RelationModule(VIEW_SIZES).eval()
    parity = measure_head_parity(other, [make_example(4, np.random.default_rng(2))], folder, graphs)
    with pytest.raises(ExportError, match=r"onnxruntime-fp32: scores differ from torch by .*, allowed 0\.001"):
        check_head_parity(parity)


@pytest.mark.parametrize(
    ("key", "difference"), [("openvino-fp32", 2e-3), ("onnxruntime-int8", 0.06), ("openvino-int8", float("nan"))]
)
def test_a_graph_that_strays_is_refused(key: str, difference: float) -> None:
    with pytest.raises(ExportError, match=key):
        check_head_parity({key: difference})


def test_the_stage_is_registered() -> None:
    assert load_stage("export_head") is export_head


def test_an_untrained_head_ranks_as_the_cosine_does() -> None:
    module = RelationModule(VIEW_SIZES).eval()
    rng = np.random.default_rng(3)
    queries, prototypes = (torch.from_numpy(unit(rng.normal(size=(n, F)).astype(np.float32))) for n in (20, 5))
    with torch.inference_mode():
        scores = module.score_all(queries, prototypes)
        pairs = module.view_cosines(queries.repeat_interleave(5, 0), prototypes.repeat(20, 1)).mean(1).view(20, 5)
    assert torch.equal(scores.argsort(dim=1), pairs.argsort(dim=1))


def test_identical_regions_score_highest_and_opposite_ones_lowest() -> None:
    module = RelationModule(VIEW_SIZES).eval()
    query = torch.from_numpy(unit(np.random.default_rng(4).normal(size=(1, F)).astype(np.float32)))
    with torch.inference_mode():
        same, opposite = module(query, torch.cat([query, -query]))
    # softplus(4) * (+-1) - 2 through the sigmoid
    assert same.item() == pytest.approx(1 / (1 + np.exp(-2.01815)), abs=1e-4)
    assert opposite.item() == pytest.approx(1 / (1 + np.exp(6.01815)), abs=1e-4)
