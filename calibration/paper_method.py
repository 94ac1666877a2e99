"""The paper's few-shot typing (arXiv 2406.05645) as a baseline, for `oddkind evaluate --head paper`. Needs torch.

Kept as published: residual maps; pseudo-classes of texture and Perlin noise with aligned residuals; tasks of ten of
them, one Adam step each, until one is answered better than STOP_ACCURACY; the supports of a class averaged into one;
from two supports on, fine-tuning on them with frozen batch statistics and the optimiser as pre-training left it.

Corrected or different here:
- layout: a patch's channels stay together, see `paper_network`;
- supports are averaged as residual maps, not as pixels before the backbone: this head sees no pixels;
- the stop counts queries that are named right; the released relation network counts pairs on their side of one half,
  which it passes before it has learned anything;
- the comparisons of a fine-tuning epoch are one step, not one step each (measured: as accurate, five times faster);
- backbone, bank and patch grid are the bundle's, and the textures are generated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from calibration.good_pictures import Track, no_track
from calibration.paper_network import ContrastiveNetwork, PaperNetwork, RelationNetwork, as_tensor
from calibration.paper_pseudo import PseudoMaps, ResidualMaps, make_pseudo_maps
from calibration.paper_tasks import Comparison, compare_supports, draw_task
from edge.errors import CalibrationError
from edge.inspector import Inspector
from edge.pictures import FrameBgr

Ints = npt.NDArray[np.int64]
NetworkKind = Literal["contrastive", "relation"]

NETWORKS: dict[NetworkKind, type[PaperNetwork]] = {"contrastive": ContrastiveNetwork, "relation": RelationNetwork}
LEARNING_RATE = 1e-4
STOP_ACCURACY = 0.40
MAX_TASKS = 1000
FINE_TUNE_EPOCHS = 45
QUERIES_AT_ONCE = 16  # bounds the memory at prediction


@dataclass(frozen=True)
class PaperMethod:
    """A pre-trained network, its optimiser, and the share of queries it named right in each task, 0..1."""

    network: PaperNetwork
    optimiser: torch.optim.Optimizer
    task_accuracies: tuple[float, ...]

    @classmethod
    def pretrain(
        cls,
        inspector: Inspector,
        good_frames: Sequence[FrameBgr],
        seed: int,
        track: Track[Any] = no_track,
        kind: NetworkKind = "contrastive",
    ) -> PaperMethod:
        """Learn from pseudo-classes painted on good pictures of the inspector's product; the same seed, the same head.

        kind: contrastive is the paper's headline, relation its plain baseline. CalibrationError without pictures.
        """
        pseudo = make_pseudo_maps(inspector, good_frames, seed, track=track)
        return cls.pretrain_on(pseudo, seed, kind, track)

    @classmethod
    def pretrain_on(
        cls, pseudo: PseudoMaps, seed: int, kind: NetworkKind = "contrastive", track: Track[Any] = no_track
    ) -> PaperMethod:
        """The same on pseudo-maps that are there already."""
        torch.set_num_threads(1)  # the order of a sum, and so the last bit, would depend on the number of cores
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        _, h, w, D = pseudo.maps.shape
        network = NETWORKS[kind]((h, w), D).train()
        optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
        accuracies: list[float] = []
        for _ in track(range(MAX_TASKS), "the paper's pre-training", MAX_TASKS):
            task = draw_task(pseudo.labels, network.support_sets, rng)
            accuracies.append(_learn_task(network, optimiser, pseudo.maps, task))
            if accuracies[-1] > STOP_ACCURACY:
                break
        return cls(network.eval(), optimiser, tuple(accuracies))

    def run(self, residual_maps: ResidualMaps, labels: Ints, supports: Ints, queries: Ints) -> npt.NDArray[np.float32]:
        """Type `queries` (Q,) by `supports` (S,), both rows of residual_maps (n, h, w, D) and labels (n,) int.

        (Q, K) scores, larger is better, one column for each label among the supports, in rising order.
        The pre-trained network stays as it is.
        """
        ways, answers = np.unique(labels[supports], return_inverse=True)
        if len(ways) < 2:
            raise CalibrationError(f"supports of {len(ways)} class given; the paper's method compares at least 2")
        maps = as_tensor(residual_maps[supports])
        network = self._fine_tune(maps, answers)
        means = torch.stack([maps[torch.from_numpy(answers == k)].mean(dim=0) for k in range(len(ways))])
        blocks = [queries[start : start + QUERIES_AT_ONCE] for start in range(0, len(queries), QUERIES_AT_ONCE)]
        with torch.inference_mode():
            scores = [network(means, as_tensor(residual_maps[block])).numpy() for block in blocks]
        return np.concatenate([np.empty((0, len(ways)), dtype=np.float32), *scores])

    def _fine_tune(self, maps: Tensor, answers: Ints) -> PaperNetwork:
        """A copy that has learned the supports; the network itself where no class has two of them."""
        comparisons = compare_supports(answers)
        if not comparisons:
            return self.network
        network, optimiser = copy.deepcopy((self.network, self.optimiser))
        for _ in range(FINE_TUNE_EPOCHS):
            _step(optimiser, network.support_loss(maps, comparisons))
        return network


def _learn_task(network: PaperNetwork, optimiser: torch.optim.Optimizer, maps: ResidualMaps, task: Comparison) -> float:
    """One step; the share of queries that were named right before it."""
    support_sets, K = task.keys.shape
    logits = network(as_tensor(maps[task.keys.ravel()]), as_tensor(maps[task.queries]))  # (Q, sets K)
    logits, answers = logits.view(-1, K), as_tensor(task.answers.repeat(support_sets))  # (Q sets, K)
    _step(optimiser, network.loss(logits, answers))
    return float((logits.argmax(dim=1) == answers).float().mean())


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
