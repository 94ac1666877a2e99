"""The paper's two networks on residual maps, layers and sizes as published.

The released code reshapes the patch-major residual (N, D) to (D, h, w) without a permute, so that its 1x1
convolutions mix patches. That is a mistake of layout and is corrected here: each patch is a row, a 1x1 convolution is
the same linear layer on every row, and batch normalisation runs over all rows, as it does over pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.paper_tasks import Comparison

PATCH_DIM = 128  # after the 1x1 convolutions
WHOLE_DIM = 128  # after the layer that sees all patches
TEMPERATURE = 0.07


class ContrastiveNetwork(nn.Module):
    """Encodes each map alone; a score is a cosine / TEMPERATURE (InfoNCE). The paper's headline figure.

    Keys carry no gradient and come from the same encoder (no momentum, no queue), as released.
    """

    support_sets = 9  # of a task

    def __init__(self, grid_hw: tuple[int, int], D: int) -> None:
        super().__init__()
        self.first = _linear(D, 256)
        self.deeper = deeper_layers(256)
        self.whole = _linear(grid_hw[0] * grid_hw[1] * PATCH_DIM, WHOLE_DIM)

    def encode(self, maps: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, WHOLE_DIM) of length 1."""
        rows = self.deeper(self.first(maps.reshape(-1, maps.shape[-1])))  # (B N, PATCH_DIM)
        return F.normalize(F.relu(self.whole(rows.view(len(maps), -1))), dim=1)

    def forward(self, supports: Tensor, queries: Tensor) -> Tensor:
        """(K, h, w, D), (Q, h, w, D) -> (Q, K) logits."""
        with torch.no_grad():
            keys = self.encode(supports)
        return self.encode(queries) @ keys.T / TEMPERATURE

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Cross-entropy over the classes; answers: (Q,) columns of logits."""
        return F.cross_entropy(logits, answers)

    def support_loss(self, maps: Tensor, comparisons: Sequence[Comparison]) -> Tensor:
        """Mean loss of all comparisons among the supports (S, h, w, D); each is encoded once.

        Only with frozen batch statistics: a map's code must not depend on the maps beside it.
        """
        codes = self.encode(maps)
        keys = codes.detach()
        losses = [self.loss(codes[c.queries] @ keys[c.keys].T / TEMPERATURE, as_tensor(c.answers)) for c in comparisons]
        return torch.stack(losses).mean()


class RelationNetwork(nn.Module):
    """Sees support and query together and says how far they belong together. The paper's plain baseline."""

    support_sets = 1  # of a task; 9 as published, but a pair costs as much as a picture does in the other network

    def __init__(self, grid_hw: tuple[int, int], D: int) -> None:
        super().__init__()
        self.D = D
        self.first = _linear(2 * D, 512)
        self.deeper = deeper_layers(512)
        self.whole = nn.Sequential(
            _linear(grid_hw[0] * grid_hw[1] * PATCH_DIM, WHOLE_DIM), nn.BatchNorm1d(WHOLE_DIM), nn.ReLU()
        )
        self.relation = _linear(WHOLE_DIM, 1)

    def forward(self, supports: Tensor, queries: Tensor) -> Tensor:
        """(K, h, w, D), (Q, h, w, D) -> (Q, K) logits; their sigmoid is the relation score."""
        # The first layer on a concatenation is the sum of its halves: each map goes through it once, not each pair.
        of_support = F.linear(supports, self.first.weight[:, : self.D], self.first.bias)  # (K, h, w, 512)
        of_query = F.linear(queries, self.first.weight[:, self.D :])
        rows = self.deeper((of_query[:, None] + of_support[None]).view(-1, of_query.shape[-1]))  # (Q K N, PATCH_DIM)
        pairs = self.whole(rows.view(len(queries) * len(supports), -1))  # (Q K, WHOLE_DIM)
        relation: Tensor = self.relation(pairs)
        return relation.view(len(queries), len(supports))

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Binary cross-entropy of each pair, the one right pair of a query weighs as much as its K - 1 wrong ones."""
        K = logits.shape[1]
        truth = F.one_hot(answers, K).float()
        return F.binary_cross_entropy_with_logits(logits, truth, weight=torch.where(truth > 0, float(K - 1), 1.0))

    def support_loss(self, maps: Tensor, comparisons: Sequence[Comparison]) -> Tensor:
        """The first support of each class as key, all others as queries, as released."""
        first = comparisons[0]
        return self.loss(self(maps[first.keys], maps[first.queries]), as_tensor(first.answers))


PaperNetwork = ContrastiveNetwork | RelationNetwork


def deeper_layers(hidden: int) -> nn.Sequential:
    """What follows the first 1x1 convolution, on rows: (patches, hidden) -> (patches, PATCH_DIM)."""
    return nn.Sequential(
        nn.BatchNorm1d(hidden), nn.ReLU(), _linear(hidden, PATCH_DIM), nn.BatchNorm1d(PATCH_DIM), nn.ReLU()
    )


def as_tensor(values: np.ndarray) -> Tensor:
    """Ours to keep: float16 maps as float32, labels as they are."""
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    return layer
