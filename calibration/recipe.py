"""How a product's pictures become scores: the choices that `calibrate --tune` may change, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from edge.manifest import ScoreFacts

SCORE = ScoreFacts(top_fraction=0.01, map_sigma_patches=1.0)


@dataclass(frozen=True)
class Recipe:
    """tap_weights: taps the bank searches, and what their features are multiplied by. discriminator: teach one where
    there are pictures enough. part_only: look at the part alone, where a plain background shows which it is.
    """

    tap_weights: dict[str, float]
    score: ScoreFacts = SCORE
    discriminator: bool = True
    part_only: bool = False
