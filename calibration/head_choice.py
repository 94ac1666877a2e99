"""Which heads an evaluation compares: by name, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

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
    "relation": "the same, and the bundle must have a learned head",
    "views": "mean cosine of the views to each class's mean",
    "cosine": "cosine of whole descriptors, centred on nothing",
    "ridge": "ridge regression to one-hot classes, on the views",
    "lda": "linear discriminant, covariance shrunk after Ledoit and Wolf, on the views",
}
ALL_HEADS = "all"
DEFAULT_HEADS = ("auto",)
BASELINE = "views"  # what the others are compared with


@dataclass(frozen=True)
class HeadChoice:
    """heads: in the order asked for. left_out: why a head of `all` cannot take part."""

    heads: tuple[TypingHead, ...]
    left_out: dict[str, str]


def check_heads(names: tuple[str, ...]) -> None:
    """UsageError for a name that is no head."""
    for name in names or ("",):
        if name not in (*HEADS, ALL_HEADS):
            raise UsageError(f"--head {name!r}: expected {', '.join(HEADS)} or {ALL_HEADS}, or several with commas")


def choose_heads(inspector: Inspector, names: tuple[str, ...]) -> HeadChoice:
    """Every head of `names` once, first named first; an OddkindError when one that was named cannot be had."""
    heads: list[TypingHead] = []
    left_out: dict[str, str] = {}
    wanted = dict.fromkeys(names) | (dict.fromkeys(HEADS) if ALL_HEADS in names else {})
    wanted.pop(ALL_HEADS, None)
    for name in wanted:
        try:
            heads.append(_make(name, inspector))
        except OddkindError as exc:
            if name in names:
                raise
            left_out[name] = str(exc)
    return HeadChoice(tuple(heads), left_out)


def _make(name: str, inspector: Inspector) -> TypingHead:
    if name == "relation" and inspector.head is None:
        raise BundleError(
            "--head relation: the bundle has no relation head; run 'oddkind pretrain' on its pack and calibrate again"
        )
    if name in ("auto", "relation"):
        return DeviceHead(name, inspector)
    space = FeatureSpace.of(inspector)
    rules = {
        "views": space.rule(space.view_scores),
        "cosine": cosine_scores,
        "ridge": space.rule(ridge_scores),
        "lda": space.rule(lda_scores),
    }
    return BaselineHead(name, rules[name])
