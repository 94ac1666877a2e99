"""Episodes -> a trained relation head, and how much better than the cosine it is on classes it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calibration.episodes import Episode, EpisodePool
from calibration.good_pictures import Track, no_track
from calibration.relation_module import RelationModule

EPISODES_PER_STEP = 4
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
# Length of the noise added to a region (its own length is 1 at most): without it the head learns regions by heart.
NOISE_LENGTH = 1.0
CONTRASTIVE_TEMPERATURE, CONTRASTIVE_WEIGHT = 0.07, 0.1
RANKING_TEMPERATURE = 0.1
TEST_EPISODES, TEST_SHOTS = 200, (2, 2)


@dataclass(frozen=True)
class Accuracy:
    """Share of queries named right, 0..1: by the cosine alone, the head alone, and their mean (as on the device)."""

    cosine: float
    head: float
    combined: float


def train_relation_module(
    pools: Sequence[EpisodePool], view_sizes: Sequence[int], episodes: int, seed: int, track: Track[Any] = no_track
) -> RelationModule:
    """Train on episodes of one pool (one product) each; pools hold the training classes only."""
    torch.set_num_threads(1)  # an episode is too small to share out
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    module = RelationModule(view_sizes).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = max(1, episodes // EPISODES_PER_STEP)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in track(range(steps), "relation head", steps):
        drawn = [pools[int(rng.integers(len(pools)))].draw(rng) for _ in range(EPISODES_PER_STEP)]
        loss = torch.stack([episode_loss(module, episode, rng) for episode in drawn]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return module.eval()


def episode_loss(module: RelationModule, episode: Episode, rng: np.random.Generator) -> Tensor:
    """Relation loss (squared error to 1 for the own class, 0 for others), InfoNCE, and the ranking on the device."""
    queries, prototypes = _noisy(episode.queries, rng), _noisy(episode.prototypes, rng)
    answers = torch.from_numpy(episode.answers)
    relation_scores = module.score_all(queries, prototypes)  # (Q, K)
    truth = F.one_hot(answers, len(prototypes)).float()
    combined = (relation_scores + cosine_scores(queries, prototypes)) / 2
    contrast = module.embed(queries) @ module.embed(prototypes).T / CONTRASTIVE_TEMPERATURE
    return (
        F.mse_loss(relation_scores, truth)
        + F.cross_entropy(combined / RANKING_TEMPERATURE, answers)
        + CONTRASTIVE_WEIGHT * F.cross_entropy(contrast, answers)
    )


def measure_accuracy(module: RelationModule, pools: Sequence[EpisodePool], seed: int) -> Accuracy:
    """Two-shot accuracy over TEST_EPISODES episodes of classes the head was not trained on."""
    rng = np.random.default_rng(seed)
    right = []
    for number in range(TEST_EPISODES):
        episode = pools[number % len(pools)].draw(rng, shots=TEST_SHOTS)
        queries, prototypes = _tensor(episode.queries), _tensor(episode.prototypes)
        with torch.inference_mode():
            head, cosine = module.score_all(queries, prototypes), cosine_scores(queries, prototypes)
        scores = (cosine, head, (cosine + head) / 2)
        right.append([(s.argmax(1).numpy() == episode.answers).mean() for s in scores])
    cosine_mean, head_mean, combined_mean = np.mean(right, axis=0)
    return Accuracy(float(cosine_mean), float(head_mean), float(combined_mean))


def cosine_scores(queries: Tensor, prototypes: Tensor) -> Tensor:
    """(Q, F), (K, F) -> (Q, K) in 0..1, as `edge.relation` scores without a head."""
    return ((1 + queries @ prototypes.T) / 2).clamp(0, 1)


def _noisy(regions: np.ndarray, rng: np.random.Generator) -> Tensor:
    return _tensor(regions + rng.normal(0, NOISE_LENGTH / np.sqrt(regions.shape[1]), regions.shape))


def _tensor(regions: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(regions, dtype=np.float32))
