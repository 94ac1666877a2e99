"""The relation head's graphs: torch is the oracle, both runtimes answer, and scores a reader can compute."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.relation_module import RelationModule
from edge.backend import BACKEND_NAMES, load_backend
from edge.errors import ExportError
from edge.registry import load_stage
from edge.relation import relation_scores
from export.relation_head import check_head_parity, export_head, measure_head_parity

VIEW_SIZES = [8, 24]
VIEWS = [slice(0, 8), slice(8, 32)]
F = sum(VIEW_SIZES)


def make_module(*exponents: float, view_sizes: list[int] | None = None) -> RelationModule:
    """A head with these exponents: softplus(log(e^a - 1)) = a."""
    module = RelationModule(view_sizes or VIEW_SIZES)
    with torch.no_grad():
        module.exponent_logits.copy_(torch.tensor([log(np.expm1(a)) for a in exponents]))
    return module.eval()


def make_example(queries: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=(n, F)) * rng.uniform(0.2, 5, (n, 1))).astype(np.float32)
        for name, n in (("queries", queries), ("prototypes", classes))
    }


def score(module: RelationModule, queries: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        scores: np.ndarray = module(torch.from_numpy(queries), torch.from_numpy(prototypes)).numpy()
    return scores


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[RelationModule, Path, dict[str, str], dict[str, float]]:
    folder = tmp_path_factory.mktemp("head")
    module = make_module(0.3, 0.1)
    graphs, parity = export_head(module, [make_example(4, 3, seed) for seed in range(8)], folder, "relation_head-1")
    return module, folder, graphs, parity


def test_every_key_has_a_graph_in_the_folder_and_its_parity_is_measured(exported) -> None:  # type: ignore[no-untyped-def]
    _, folder, graphs, parity = exported
    assert set(graphs) == set(parity) == {f"{b}-{p}" for b in BACKEND_NAMES for p in ("fp32", "int8")}
    assert all((folder / name).is_file() for name in graphs.values())
    assert max(parity.values()) < 1e-5


def test_an_int8_bundle_runs_the_fp32_head(exported) -> None:  # type: ignore[no-untyped-def]
    _, folder, graphs, _ = exported
    for backend in BACKEND_NAMES:
        assert graphs[f"{backend}-int8"] == graphs[f"{backend}-fp32"]
    assert len(list(folder.iterdir())) == 3  # .onnx, .xml and .bin


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("queries", [1, 2, 30])
@pytest.mark.parametrize("classes", [1, 2, 30])
def test_any_number_of_queries_and_classes_is_scored_as_torch_does(exported, backend, queries, classes) -> None:  # type: ignore[no-untyped-def]
    module, folder, graphs, _ = exported
    inputs = make_example(queries, classes, seed=99)
    got = load_backend(folder, graphs, backend, "int8").run(inputs)
    assert got.shape == (queries, classes)
    np.testing.assert_allclose(got, score(module, inputs["queries"], inputs["prototypes"]), atol=1e-5)
    assert ((got >= 0) & (got <= 1)).all()


def test_the_device_takes_the_heads_scores(exported) -> None:  # type: ignore[no-untyped-def]
    module, folder, graphs, _ = exported
    inputs = make_example(2, 3, seed=1)
    head = load_backend(folder, graphs, "onnxruntime", "int8")
    on_device = relation_scores(inputs["queries"], inputs["prototypes"], VIEWS, head)
    np.testing.assert_allclose(on_device, score(module, inputs["queries"], inputs["prototypes"]), atol=1e-5)


def test_parity_against_another_head_is_seen_and_refused(exported) -> None:  # type: ignore[no-untyped-def]
    _, folder, graphs, _ = exported
    parity = measure_head_parity(make_module(1.0, 1.0), [make_example(4, 3, 2)], folder, graphs)
    with pytest.raises(ExportError, match=r"onnxruntime-fp32: scores differ from torch by .*, allowed 0\.001"):
        check_head_parity(parity)


@pytest.mark.parametrize(("key", "difference"), [("openvino-fp32", 2e-3), ("onnxruntime-int8", float("nan"))])
def test_a_graph_that_strays_is_refused(key: str, difference: float) -> None:
    with pytest.raises(ExportError, match=key):
        check_head_parity({key: difference})


def test_the_stage_is_registered() -> None:
    assert load_stage("export_head") is export_head


# the module


def rows(*vectors: tuple[float, ...]) -> np.ndarray:
    return np.array(vectors, dtype=np.float32)


def test_half_the_length_to_the_power_of_the_exponent_is_what_is_left() -> None:
    module = make_module(1.0, view_sizes=[2])
    assert score(module, rows((4, 0)), rows((4, 0), (2, 0), (8, 0))) == pytest.approx(rows((1, 0.5, 0.5)))
    root = make_module(0.5, view_sizes=[2])
    assert score(root, rows((4, 0)), rows((1, 0), (0, 4), (-4, 0))) == pytest.approx(rows((0.5, 0.5, 0)), abs=1e-6)


def test_directions_of_the_views_are_averaged_and_lengths_multiply() -> None:
    module = make_module(1.0, 2.0, view_sizes=[2, 2])
    # First view: opposite, as long. Second: the same direction, half as long: 0.5 ** 2. Mean cosine 0.
    found = score(module, rows((1, 0, 0, 1)), rows((-1, 0, 0, 2)))
    assert found == pytest.approx(rows((0.5 * 0.25,)))


def test_without_any_weight_on_lengths_the_head_is_the_mean_cosine_of_the_views() -> None:
    inputs = make_example(20, 5, seed=3)
    module = make_module(1e-8, 1e-8)
    cosine = relation_scores(inputs["queries"], inputs["prototypes"], VIEWS, None)
    np.testing.assert_allclose(score(module, inputs["queries"], inputs["prototypes"]), cosine, atol=1e-5)


def test_a_region_that_lies_in_the_centre_gets_a_finite_score() -> None:
    found = score(make_module(0.3, 0.1), np.zeros((1, F), np.float32), make_example(1, 3, seed=4)["prototypes"])
    assert np.isfinite(found).all() and ((found >= 0) & (found <= 1)).all()
