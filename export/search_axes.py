"""Memory bank -> the axes that a search in fewer columns projects on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge.int8_product import KEY_LEVELS
from edge.manifest import ProjectionFacts
from edge.projected_search import ProjectedSearch

DIMS_LADDER = (64, 96)
# Columns over axes: with fewer columns for each axis the plain product is as fast, as projecting takes time too.
LEAST_SAVED = 1.4


def search_axes(keys: np.ndarray, dims: int, seed: int = 0) -> np.ndarray:
    """(M, d) -> (d, p) int8: the strongest principal directions, turned at random among themselves.

    Distances do not change by the turn, but every column is then as wide as the others and rounded as finely.
    """
    centred = keys - keys.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))
    axes = directions[:, : -dims - 1 : -1] @ turn
    return np.asarray(np.rint(axes * (KEY_LEVELS / np.abs(axes).max())), dtype=np.int8)


def fewest_dims(
    keys: np.ndarray, excess: Callable[[ProjectedSearch], float], most: float, seed: int = 0
) -> tuple[np.ndarray, ProjectionFacts] | None:
    """The first step of DIMS_LADDER whose `excess` is `most` at the utmost, with its axes; None when there is none."""
    for dims in DIMS_LADDER:
        if keys.shape[1] < LEAST_SAVED * dims:
            break
        axes = search_axes(keys, dims, seed)
        found = excess(ProjectedSearch(keys, axes))
        if found <= most:
            return axes, ProjectionFacts(dims=dims, excess=round(found, 6))
    return None
