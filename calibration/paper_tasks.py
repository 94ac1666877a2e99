"""What the paper's network is asked in one step: tasks of pseudo-classes, and supports asked about each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

CLASSES_PER_TASK = 10
QUERIES_PER_TASK = 9  # the published batch
MIN_PICTURES_PER_CLASS = QUERIES_PER_TASK + 1  # all queries may be of one class, and it needs a support


@dataclass(frozen=True)
class Comparison:
    """Rows of maps. keys: (K,) or (sets, K), one of each class. queries: (Q,), none a key. answers: (Q,) in 0..K-1."""

    keys: Ints
    queries: Ints
    answers: Ints


def draw_task(labels: Ints, support_sets: int, rng: np.random.Generator) -> Comparison:
    """Queries against `support_sets` random sets of keys, all of CLASSES_PER_TASK random classes.

    labels: (n,), each class at least MIN_PICTURES_PER_CLASS times.
    """
    classes = rng.choice(np.unique(labels), CLASSES_PER_TASK, replace=False)
    answers = np.sort(rng.integers(0, CLASSES_PER_TASK, QUERIES_PER_TASK))
    asked = np.bincount(answers, minlength=CLASSES_PER_TASK)
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    queries = np.concatenate([rows[:count] for rows, count in zip(shuffled, asked, strict=True)])
    keys = [rng.choice(rows[count:], support_sets) for rows, count in zip(shuffled, asked, strict=True)]
    return Comparison(np.stack(keys, axis=1), queries, answers)


def compare_supports(labels: Ints) -> list[Comparison]:
    """Supports (S,) labelled 0..K-1: the first of each class as keys and all others as queries, then the second, ...

    None where every class has a single support: nothing is left to ask about.
    """
    rows_of = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    n_shot = max(len(rows) for rows in rows_of)
    if n_shot == 1:
        return []
    return [_comparison(np.array([rows[j % len(rows)] for rows in rows_of]), labels) for j in range(n_shot)]


def _comparison(keys: Ints, labels: Ints) -> Comparison:
    queries = np.setdiff1d(np.arange(len(labels)), keys)
    return Comparison(keys, queries, labels[queries])
