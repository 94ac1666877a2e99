"""The relation head: how alike two odd regions are in direction and in length (relation network, Sung 2018).

The relation module of the paper maps the pair of a query and a prototype to one score r. Networks of many weights
learn the pseudo-classes by heart, and learned weights of views or features carry what tells pseudo-defects apart to
products where it does not. What does carry over is how much a difference in length counts, so that is all this head
learns: one exponent a view.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

START_LOGIT = -3.0  # of an exponent: softplus(-3) = 0.049
SHORTEST = 1e-9


class RelationModule(nn.Module):
    """(queries, prototypes) -> relation scores; both centred as `edge.relation.SupportSet` gives them.

    r = (1 + mean_v cos_v) / 2 * prod_v (shorter_v / longer_v) ** a_v, with a_v > 0: 1 for the same view by view, less
    for another direction or another length. view_sizes: columns of each of the V views, F in all.
    """

    def __init__(self, view_sizes: Sequence[int]) -> None:
        super().__init__()
        self.view_sizes = list(view_sizes)
        self.exponent_logits = nn.Parameter(torch.full((len(self.view_sizes),), START_LOGIT))

    @property
    def exponents(self) -> Tensor:
        """(V,) how much a difference in length counts, over 0: at 0 nothing, at 1 half the length halves the score."""
        return F.softplus(self.exponent_logits)

    def forward(self, queries: Tensor, prototypes: Tensor) -> Tensor:
        """(Q, F), (K, F) -> (Q, K) relation scores in 0..1."""
        of_query, of_prototype = (torch.split(x, self.view_sizes, dim=1) for x in (queries, prototypes))
        cosine = torch.zeros(())
        penalty = torch.zeros(())
        for query, prototype, exponent in zip(of_query, of_prototype, self.exponents, strict=True):
            q, p = _length(query), _length(prototype)  # (Q, 1), (K, 1)
            cosine = cosine + (query / q) @ (prototype / p).T
            penalty = penalty + exponent * (q.log() - p.log().T).abs()
        alike = (1 + cosine / len(self.view_sizes)).clamp(0, 2) / 2
        return alike * torch.exp(-penalty)


def _length(view: Tensor) -> Tensor:
    """(S, D) -> (S, 1), never zero."""
    length = view.norm(dim=1, keepdim=True)
    return torch.maximum(length, torch.full_like(length, SHORTEST))
