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
from edge.relation import relation_scores

EPISODES_PER_STEP = 8
LEARNING_RATE = 5e-2
# Of the logits log r / temperature; learned along with the exponents, for what r should mean is decided by its ranking.
START_TEMPERATURE = 0.1
TEST_EPISODES, TEST_SHOTS = 200, (2, 2)


@dataclass(frozen=True)
class Accuracy:
    """Share of queries named right, 0..1: by the mean cosine of the views, and by the head."""

    cosine: float
    head: float


def train_relation_module(
    pools: Sequence[EpisodePool], view_sizes: Sequence[int], episodes: int, seed: int, track: Track[Any] = no_track
) -> RelationModule:
    """Train on episodes of one pool (one product) each; pools hold the training classes only."""
    torch.set_num_threads(1)  # an episode is too small to share out
    rng = np.random.default_rng(seed)
    module = RelationModule(view_sizes).train()
    log_temperature = torch.nn.Parameter(torch.tensor(START_TEMPERATURE).log())
    optimiser = torch.optim.Adam([*module.parameters(), log_temperature], lr=LEARNING_RATE)
    steps = max(1, episodes // EPISODES_PER_STEP)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in track(range(steps), "relation head", steps):
        drawn = [pools[int(rng.integers(len(pools)))].draw(rng) for _ in range(EPISODES_PER_STEP)]
        loss = torch.stack([episode_loss(module, episode, log_temperature.exp()) for episode in drawn]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return module.eval()


def episode_loss(module: RelationModule, episode: Episode, temperature: Tensor) -> Tensor:
    """InfoNCE: each query's own prototype against those of the other classes, by log r / temperature."""
    scores = module(_tensor(episode.queries), _tensor(episode.prototypes))  # (Q, K)
    logits = torch.log(scores.clamp_min(1e-6)) / temperature
    return F.cross_entropy(logits, torch.from_numpy(episode.answers))


def measure_accuracy(module: RelationModule, pools: Sequence[EpisodePool], seed: int) -> Accuracy:
    """Two-shot accuracy over TEST_EPISODES episodes of classes the head was not trained on."""
    rng = np.random.default_rng(seed)
    right = []
    for number in range(TEST_EPISODES):
        pool = pools[number % len(pools)]
        episode = pool.draw(rng, shots=TEST_SHOTS)
        with torch.inference_mode():
            head = module(_tensor(episode.queries), _tensor(episode.prototypes)).numpy()
        cosine = relation_scores(episode.queries, episode.prototypes, pool.views, None)
        right.append([(scores.argmax(axis=1) == episode.answers).mean() for scores in (cosine, head)])
    cosine_mean, head_mean = np.mean(right, axis=0)
    return Accuracy(float(cosine_mean), float(head_mean))


def _tensor(regions: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(regions, dtype=np.float32))
