"""What a bundle is learned from: good pictures whole, or the pieces of them that the device will look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.detection import split
from calibration.good_pictures import GoodPictures, GoodSource, Piece
from calibration.pieces import HELD_OUT_PIECES, ViewOptions, fit_pieces, make_view, pieces_of, split_pictures
from edge.manifest import Embedding, ScoreFacts
from edge.pictures import read_picture
from edge.view import View


@dataclass(frozen=True)
class Sources:
    """fit: what the bank is made from; names: of each. held_out: unseen by it, empty for a small set.

    frames: held out too, whole, for the thresholds of frames that are seen in tiles.
    """

    view: View
    fit: Sequence[GoodSource]
    held_out: Sequence[GoodSource]
    names: tuple[str, ...]
    frames: Sequence[Path] = ()

    @classmethod
    def of(
        cls, pictures: GoodPictures, options: ViewOptions, embedding: Embedding, score: ScoreFacts, seed: int
    ) -> Sources:
        """CalibrationError when the pictures do not fit the view."""
        view = make_view(options, pictures.paths, embedding, score)
        frames: Sequence[Path] = ()
        fit: Sequence[GoodSource]
        held_out: Sequence[GoodSource]
        if view.tiling:
            fit_paths, frames = split_pictures(pictures.paths)
            fit, held_out = (
                pieces_of(view, fit_paths, fit_pieces(view), seed),
                pieces_of(view, frames, HELD_OUT_PIECES, seed),
            )
        else:
            fit, held_out = split([source for path in pictures.paths for source in sources_of(view, path)])
        names = tuple(source_name(source, pictures.folder) for source in fit)
        return cls(view, fit, held_out, names, frames)


def sources_of(view: View, path: Path) -> list[GoodSource]:
    """All that is learned from in one picture."""
    if view.is_plain:
        return [path]
    frame_hw = view.checked_hw(read_picture(path))
    return [Piece(path, box_xyxy, view.place_yx(box_xyxy, frame_hw)) for box_xyxy in view.pieces_xyxy(frame_hw)]


def source_name(source: GoodSource, folder: Path) -> str:
    """As provenance names it: `lot-1/0001.png`, a piece of it `lot-1/0001.png#x0,y0,x1,y1`."""
    if isinstance(source, Piece):
        return f"{source.path.relative_to(folder).as_posix()}#{','.join(map(str, source.box_xyxy))}"
    return source.relative_to(folder).as_posix()
