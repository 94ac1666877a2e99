"""Drawing a verdict on a frame, and the anomaly map over it. Frames are never changed in place."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from edge.pictures import FrameBgr
from edge.regions import BoxXyxy
from edge.result import Inspection, Region, Verdict

Floats = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

# Smaller pictures are enlarged, so that a label can be read beside a region.
MIN_SIDE_PX = 320
# Multiples of the pixel threshold where the colours begin and end; in between each doubling is as far.
FAINTEST, HOTTEST = 0.5, 4.0
STRONGEST_TINT = 0.55

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
VERDICT_BGR: dict[Verdict, Colour] = {"good": (74, 128, 34), "defect": (40, 36, 190), "no_verdict": (20, 100, 170)}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_inspection(frame_bgr: FrameBgr, inspection: Inspection) -> FrameBgr:
    """Boxes with class names on the frame, under a banner with the verdict, score and threshold.

    The result is larger than the frame: the banner stands above it, and small frames are enlarged.
    """
    canvas, factor = enlarged(frame_bgr)
    unit = text_unit(canvas)
    colour = VERDICT_BGR[inspection.verdict]
    for region in reversed(inspection.regions):  # the strongest last: it stays on top
        box_xyxy = _scaled(region.box_xyxy, factor)
        _draw_box(canvas, box_xyxy, colour, unit)
        _draw_label(canvas, box_xyxy, region_label(region), colour, unit)
    banner = _banner(canvas.shape[1], banner_text(inspection), colour, unit)
    return np.asarray(np.vstack([banner, canvas]), dtype=np.uint8)


def draw_heatmap(frame_bgr: FrameBgr, anomaly_map: Floats, pixel_threshold: float) -> FrameBgr:
    """The anomaly map as a tint, with contours where it passes the pixel threshold; same size as the frame.

    Colours are the same on every picture: clear up to half the threshold, green at it, red from four times it.
    """
    size_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
    heat = np.clip(anomaly_map / max(pixel_threshold, 1e-12), FAINTEST, HOTTEST)  # 1 at the threshold
    heat = np.nan_to_num(heat, nan=HOTTEST).astype(np.float32)
    heat = np.asarray(cv2.resize(heat, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    doublings = np.log2(heat)  # -1 at FAINTEST, 0 at the threshold, 2 at HOTTEST
    tint = cv2.applyColorMap(np.round(128 + 55 * doublings).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = np.clip((doublings + 1) * STRONGEST_TINT, 0, STRONGEST_TINT).astype(np.float32)
    canvas = np.asarray(cv2.blendLinear(frame_bgr, tint, 1 - alpha, alpha), dtype=np.uint8)
    contours, _ = cv2.findContours((heat > 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(1, round(text_unit(frame_bgr)))
    cv2.drawContours(canvas, contours, -1, BLACK, 3 * thickness)
    cv2.drawContours(canvas, contours, -1, WHITE, thickness)
    return canvas


def fit_within(frame_bgr: FrameBgr, side_px: int) -> FrameBgr:
    """Shrunk so that the longer side is at most `side_px`; smaller frames come back as they are."""
    H, W = frame_bgr.shape[:2]
    factor = side_px / max(H, W)
    if factor >= 1:
        return frame_bgr
    size_wh = (max(1, round(W * factor)), max(1, round(H * factor)))
    return np.asarray(cv2.resize(frame_bgr, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def enlarged(frame_bgr: FrameBgr) -> tuple[FrameBgr, int]:
    """A copy whose shorter side is about MIN_SIDE_PX at least, and the whole factor it took."""
    H, W = frame_bgr.shape[:2]
    wanted = math.ceil(MIN_SIDE_PX / min(H, W))
    factor = max(1, min(wanted, 4 * MIN_SIDE_PX // max(H, W)))  # a long thin strip does not become a huge one
    size_wh = (W * factor, H * factor)
    return np.array(cv2.resize(frame_bgr, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.uint8), factor


def banner_text(inspection: Inspection) -> str:
    """Such as `DEFECT scratch  2.341 > 1.950`; the error when there is no verdict."""
    if inspection.anomaly_score is None:
        return f"NO VERDICT  {inspection.error or ''}"
    sign = ">" if inspection.verdict == "defect" else "<="
    name = f" {inspection.defect_class}" if inspection.defect_class else ""
    score, threshold = _told_apart(inspection.anomaly_score, inspection.image_threshold)
    return f"{inspection.verdict.upper()}{name}  {score} {sign} {threshold}"


def region_label(region: Region) -> str:
    """Class and relation score, or the peak score when nothing is enrolled."""
    if region.defect_class is None or region.relation_score is None:
        return f"odd {region.peak_score:.2f}"
    return f"{region.defect_class} {region.relation_score:.2f}"


def text_unit(canvas: FrameBgr) -> float:
    """Font scale that reads well on a picture of this size: about 1/28 of its shorter side high."""
    return max(0.45, float(min(canvas.shape[:2])) / 640)


def _told_apart(score: float, threshold: float) -> tuple[str, str]:
    """Both with three decimals, or as many as it takes to see which is larger."""
    for decimals in (3, 4, 5, 6):
        texts = f"{score:.{decimals}f}", f"{threshold:.{decimals}f}"
        if texts[0] != texts[1]:
            break
    return texts


def _scaled(box_xyxy: BoxXyxy, factor: int) -> BoxXyxy:
    x0, y0, x1, y1 = box_xyxy
    return x0 * factor, y0 * factor, x1 * factor - 1, y1 * factor - 1


def _draw_box(canvas: FrameBgr, box_xyxy: BoxXyxy, colour: Colour, unit: float) -> None:
    x0, y0, x1, y1 = box_xyxy
    thickness = max(2, round(2.5 * unit))
    cv2.rectangle(canvas, (x0, y0), (x1, y1), WHITE, thickness + 2)  # a rim: it shows on dark and on red parts
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, thickness)


def _draw_label(canvas: FrameBgr, box_xyxy: BoxXyxy, text: str, colour: Colour, unit: float) -> None:
    """Above the box, or inside it at the upper edge, and never over the picture's right edge."""
    unit = _fitting(text, unit, canvas.shape[1])
    text_w, text_h, pad = _text_size(text, unit)
    x = max(0, min(box_xyxy[0], canvas.shape[1] - text_w - 2 * pad))
    y = box_xyxy[1] - text_h - 2 * pad if box_xyxy[1] >= text_h + 2 * pad else box_xyxy[1]
    cv2.rectangle(canvas, (x, y), (x + text_w + 2 * pad, y + text_h + 2 * pad), colour, cv2.FILLED)
    _put_text(canvas, text, (x + pad, y + pad + text_h), unit)


def _banner(width_px: int, text: str, colour: Colour, unit: float) -> FrameBgr:
    unit = _fitting(text, unit * 1.1, width_px)
    _, text_h, pad = _text_size(text, unit)
    banner = np.full((text_h + 4 * pad, width_px, 3), colour, dtype=np.uint8)
    _put_text(banner, text, (2 * pad, 2 * pad + text_h), unit)
    return banner


def _fitting(text: str, unit: float, width_px: int) -> float:
    """A smaller font scale when the text would be wider than the picture."""
    text_w, _, pad = _text_size(text, unit)
    return max(0.3, unit * min(1.0, width_px / (text_w + 4 * pad)))


def _text_size(text: str, unit: float) -> tuple[int, int, int]:
    """Width, height and padding in pixels."""
    (text_w, text_h), below = cv2.getTextSize(_ascii(text), _FONT, unit, _stroke(unit))
    return text_w, text_h, max(2, below // 2 + 1)


def _put_text(canvas: FrameBgr, text: str, lower_left: tuple[int, int], unit: float) -> None:
    cv2.putText(canvas, _ascii(text), lower_left, _FONT, unit, WHITE, _stroke(unit), cv2.LINE_AA)


def _stroke(unit: float) -> int:
    return max(1, round(unit * 1.6))


def _ascii(text: str) -> str:
    """OpenCV's font has nothing else."""
    return text.encode("ascii", "replace").decode("ascii")
