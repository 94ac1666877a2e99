"""The relation head: learns to compare a query region with class prototypes (relation network, Sung 2018).

It sees how similar two regions are in each view, and a small embedding trained by contrast (InfoNCE). A head on
the raw descriptors alone learns the pseudo-classes by heart and is lost on real defects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_DIM = 32
HIDDEN_DIM = 32
DROPOUT = 0.2
START_GAIN, START_BIAS = 4.0, -2.0  # an untrained head is the mean cosine of the views, spread over the sigmoid


class RelationModule(nn.Module):
    """(query, prototypes) -> relation scores; both as `edge.descriptor.compare_ready` gives them.

    view_sizes: columns of each view, F in all.
    """

    def __init__(self, view_sizes: Sequence[int]) -> None:
        super().__init__()
        self.view_sizes = list(view_sizes)
        views = len(self.view_sizes)
        self.embedding = nn.Linear(sum(self.view_sizes), EMBEDDING_DIM, bias=False)
        self.view_logits = nn.Parameter(torch.zeros(views))
        self.gain = nn.Parameter(torch.tensor(START_GAIN))
        last = nn.Linear(HIDDEN_DIM, 1)
        hidden = nn.Linear(2 * EMBEDDING_DIM + views, HIDDEN_DIM)
        self.relation = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(DROPOUT), last)
        nn.init.orthogonal_(self.embedding.weight)  # keeps cosines, so the embedding starts as a sketch of them
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, START_BIAS)

    def forward(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """query: (1, F), or (K, F) for K pairs; prototypes: (K, F) -> (K,) relation scores in 0..1."""
        cosines = self.view_cosines(query, prototypes)  # (K, V)
        e_q, e_p = self.embed(query), self.embed(prototypes)  # (1 or K, E), (K, E)
        evidence = torch.cat([(e_q - e_p).abs(), e_q * e_p, cosines], dim=1)  # (K, 2 E + V)
        # Weights of the views stay positive: learning may trust one less, never turn its evidence round.
        weighted = (cosines * F.softmax(self.view_logits, dim=0)).sum(dim=1)  # (K,)
        return torch.sigmoid(F.softplus(self.gain) * weighted + self.relation(evidence).squeeze(1))

    def embed(self, regions: Tensor) -> Tensor:
        """(S, F) -> (S, E) of length 1."""
        embedded: Tensor = self.embedding(regions)
        return embedded / _at_least_tiny(embedded.norm(dim=1, keepdim=True))

    def view_cosines(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """(1 or K, F), (K, F) -> (K, V) cosine of each view."""
        pairs = zip(torch.split(query, self.view_sizes, 1), torch.split(prototypes, self.view_sizes, 1), strict=True)
        return torch.stack([(q * p).sum(1) / _at_least_tiny(q.norm(dim=1) * p.norm(dim=1)) for q, p in pairs], dim=1)

    def score_all(self, queries: Tensor, prototypes: Tensor) -> Tensor:
        """(Q, F), (K, F) -> (Q, K) relation scores."""
        Q, K = len(queries), len(prototypes)
        return self.forward(queries.repeat_interleave(K, dim=0), prototypes.repeat(Q, 1)).view(Q, K)


def _at_least_tiny(lengths: Tensor) -> Tensor:
    """No division by zero; a maximum, because an added constant or a clamp would be quantised to nothing."""
    return torch.maximum(lengths, torch.full_like(lengths, 1e-9))
