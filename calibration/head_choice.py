"""Which heads an evaluation compares: by name, checked before any work, made once the pictures are scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.good_pictures import GoodPictures, Track, no_track
from calibration.paper_head import PaperHead, check_paper, find_good_pictures
from calibration.scored_pictures import ScoredPictures
from calibration.typing_heads import (
    BaselineHead,
    DeviceHead,
    FeatureSpace,
    TypingHead,
    cosine_scores,
    lda_scores,
    ridge_scores,
)
from edge.errors import BundleError, OddkindError, UsageError
from edge.inspector import Inspector

HEADS = {
    "auto": "as the device does it",
    "relation": "the same, and the bundle must have a learned head; supports are looked at from several sides",
    "relation-once": "the learned head, with supports looked at once, as all that follow",
    "views": "mean cosine of the views to each class's mean",
    "cosine": "cosine of whole descriptors, centred on nothing",
    "ridge": "ridge regression to one-hot classes, on the views",
    "lda": "linear discriminant, covariance shrunk after Ledoit and Wolf, on the views",
    "paper": "published network on whole residual maps, so no mask given; fine-tuned for every draw, so no open set",
}
LEARNED = ("relation", "relation-once")
ALL_HEADS = "all"
DEFAULT_HEADS = ("auto",)
BASELINE = "views"  # what the others are compared with


def check_heads(names: tuple[str, ...], good_dir: Path | None) -> None:
    """UsageError for a name that is no head, and for good pictures that no head would look at."""
    for name in names or ("",):
        if name not in (*HEADS, ALL_HEADS):
            raise UsageError(f"--head {name!r}: expected {', '.join(HEADS)} or {ALL_HEADS}, or several with commas")
    if "paper" in names:
        check_paper(good_dir)
    if good_dir is not None and not {"paper", ALL_HEADS} & set(names):
        raise UsageError(f"--good {good_dir}: only --head paper learns from good pictures; add it, or leave --good out")


@dataclass(frozen=True)
class HeadChoice:
    """names: heads that can be had, in the order asked for. left_out: why a head of `all` cannot take part.

    good: what the paper's method learns from, None when it takes no part.
    """

    inspector: Inspector
    names: tuple[str, ...]
    left_out: dict[str, str]
    good: GoodPictures | None

    @classmethod
    def of(
        cls, inspector: Inspector, names: tuple[str, ...], good_dir: Path | None = None, seed: int = 0
    ) -> HeadChoice:
        """Every head of `names` once; an OddkindError when one that was named cannot be had."""
        wanted = dict.fromkeys(names) | (dict.fromkeys(HEADS) if ALL_HEADS in names else {})
        wanted.pop(ALL_HEADS, None)
        left_out, good = {}, None
        for name in wanted:
            try:
                if name in LEARNED:
                    _require_learned_head(inspector, name)
                elif name == "paper":
                    good = find_good_pictures(good_dir, seed)
            except OddkindError as exc:
                if name in names:
                    raise
                left_out[name] = str(exc)
        return cls(inspector, tuple(name for name in wanted if name not in left_out), left_out, good)

    def make(self, pictures: ScoredPictures, seed: int = 0, track: Track[Any] = no_track) -> list[TypingHead]:
        """The heads. seed, and the residual maps of `pictures`, matter to the paper's method alone."""
        heads: list[TypingHead] = []
        for name in self.names:
            if name != "paper":
                heads.append(make_head(name, self.inspector))
            elif self.good is not None:
                heads.append(PaperHead.pretrain(self.inspector, self.good, pictures, seed, track))
        return heads


def make_head(name: str, inspector: Inspector) -> TypingHead:
    """A head that works on descriptors: any of HEADS but `paper`."""
    if name in ("auto", *LEARNED):
        return DeviceHead(name, inspector, looks_once=name == "relation-once")
    space = FeatureSpace.of(inspector)
    rules = {
        "views": space.rule(space.view_scores),
        "cosine": cosine_scores,
        "ridge": space.rule(ridge_scores),
        "lda": space.rule(lda_scores),
    }
    return BaselineHead(name, rules[name])


def _require_learned_head(inspector: Inspector, name: str) -> None:
    if inspector.head is None:
        raise BundleError(
            f"--head {name}: the bundle has no relation head; run 'oddkind pretrain' on its pack and calibrate again"
        )
