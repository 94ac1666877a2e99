"""The paper's method as one head among others: it sees whole residual maps, no region."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.descriptors import Descriptors
from calibration.good_pictures import GoodPictures, Track, no_track
from calibration.scored_pictures import ScoredPictures
from calibration.support_draws import Ints
from calibration.typing_heads import Typed, always_known
from edge.errors import UsageError
from edge.inspector import Inspector
from edge.pictures import read_picture

if TYPE_CHECKING:
    from calibration.paper_method import PaperMethod

MAX_GOOD_PICTURES = 40  # to paint pseudo-classes on; more would only take memory


class PaperHead:
    """Relation network on residual maps, fine-tuned for every choice of supports: seconds each, so no open set."""

    name = "paper"
    sees_region = says_unknown = is_quick = False

    def __init__(self, method: PaperMethod, pictures: ScoredPictures) -> None:
        self._method = method
        self._maps = np.stack([row.residual_map for row in pictures.rows if row.residual_map is not None])
        kept = np.array([row.residual_map is not None for row in pictures.rows])
        self._place = np.cumsum(kept) - 1  # of a picture in `_maps`

    @classmethod
    def pretrain(
        cls,
        inspector: Inspector,
        good: GoodPictures,
        pictures: ScoredPictures,
        seed: int,
        track: Track[Any] = no_track,
    ) -> PaperHead:
        """Learn from good pictures; `pictures` were scored with their residual maps kept."""
        from calibration.paper_method import PaperMethod

        frames = [read_picture(path) for path in good.paths[:MAX_GOOD_PICTURES]]
        return cls(PaperMethod.pretrain(inspector, frames, seed, track), pictures)

    def type_queries(self, descriptors: Descriptors, supports: Ints, labels: Ints, queries: Ints) -> Typed:
        """Descriptors are not looked at."""
        label_of = np.full(len(self._maps), -1)
        label_of[self._place[supports]] = labels
        return always_known(self._method.run(self._maps, label_of, self._place[supports], self._place[queries]))


def check_paper(good_dir: Path | None) -> Path:
    """UsageError without a folder of good pictures, or without torch."""
    if good_dir is None:
        raise UsageError("--head paper learns from good pictures: give their folder with --good GOOD_DIR")
    if importlib.util.find_spec("torch") is None:
        raise UsageError("--head paper needs torch: pip install 'oddkind[train]', or leave it out of --head")
    return good_dir


def find_good_pictures(good_dir: Path | None, seed: int) -> GoodPictures:
    """What the paper's method learns from; an OddkindError says what is missing."""
    return GoodPictures.find(check_paper(good_dir), seed)
