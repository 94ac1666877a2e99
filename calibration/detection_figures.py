"""How well good and odd parts are told apart: areas without a threshold, rates at the bundle's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.metrics import auroc, rejected
from calibration.scored_pictures import Pass, ScoredPictures
from edge.errors import CalibrationError


@dataclass(frozen=True)
class KindDetection:
    """How one type of defect is detected against all good pictures. Rates are 0..1."""

    kind: str
    pictures: int
    image_auroc: float
    escapes: int
    escape_rate: float


@dataclass(frozen=True)
class Detection:
    """All figures 0..1. pixel_auroc and pro: None without masks, over pictures whose mask is known.

    False rejects are good parts over the threshold, escapes are defects that pass.
    """

    good_pictures: int
    defect_pictures: int
    image_auroc: float
    pixel_auroc: float | None
    pro: float | None
    defects_without_mask: int
    image_threshold: float
    false_rejects: int
    false_reject_rate: float
    escapes: int
    escape_rate: float
    kinds: tuple[KindDetection, ...]


def detection_figures(scored: Pass, image_threshold: float) -> Detection:
    """CalibrationError when no readable good, or no readable defect picture is left."""
    pictures, is_defect = scored.pictures, scored.pictures.is_defect
    if is_defect.all() or not is_defect.any():
        lacking = "good" if is_defect.all() else "defect"
        raise CalibrationError(f"no readable {lacking} picture is left; the first that failed: {scored.left_out[0]}")
    reject = rejected(pictures.scores, image_threshold)
    good_pictures, false_rejects = int((~is_defect).sum()), int((reject & ~is_defect).sum())
    defect_pictures, escapes = int(is_defect.sum()), int((~reject & is_defect).sum())
    return Detection(
        good_pictures=good_pictures,
        defect_pictures=defect_pictures,
        image_auroc=auroc(pictures.scores, is_defect),
        pixel_auroc=scored.pixels.pixel_auroc if scored.pixels else None,
        pro=scored.pixels.pro() if scored.pixels else None,
        defects_without_mask=scored.defects_without_mask,
        image_threshold=image_threshold,
        false_rejects=false_rejects,
        false_reject_rate=false_rejects / good_pictures,
        escapes=escapes,
        escape_rate=escapes / defect_pictures,
        kinds=tuple(_kind_figures(pictures, reject, str(kind)) for kind in np.unique(pictures.kinds[is_defect])),
    )


def _kind_figures(pictures: ScoredPictures, reject: npt.NDArray[np.bool_], kind: str) -> KindDetection:
    of_kind = pictures.kinds == kind
    compared = of_kind | ~pictures.is_defect
    escapes = int((~reject & of_kind).sum())
    return KindDetection(
        kind=kind,
        pictures=int(of_kind.sum()),
        image_auroc=auroc(pictures.scores[compared], of_kind[compared]),
        escapes=escapes,
        escape_rate=escapes / int(of_kind.sum()),
    )
