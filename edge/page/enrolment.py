"""Enrolment from the page: rejects become supports of a class, looked at before they count, and taken back after.

One thread of its own, with an inspector of its own that is loaded when it is first needed: the loop's serves the loop.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from edge.class_store import ClassStore, check_class_name, read_class_store, update_class_store
from edge.enrol import ClassQuality, Described, class_quality, describe_frame
from edge.errors import EnrolmentError
from edge.inspector import Inspector
from edge.manifest import BundleManifest
from edge.page.rejects import Reject
from edge.result import Provenance
from edge.setting import InspectorSetting

MOST_SUPPORTS = 20  # at a time
MOST_UNDONE = 20
T = TypeVar("T")


@dataclass(frozen=True)
class _Draft:
    """An enrolment that nobody has confirmed yet."""

    draft_id: str
    name: str
    described: tuple[Described, ...]


@dataclass(frozen=True)
class _Done:
    """An enrolment that counts, and the store before and after it."""

    name: str
    before: ClassStore
    after: ClassStore


class Enrolment:
    """The enrolments of one station, one at a time. Methods but `submit` and `close` run on its thread alone."""

    def __init__(self, setting: InspectorSetting) -> None:
        self._setting = setting
        self._inspector: Inspector | None = None
        self._draft: _Draft | None = None
        self._done: list[_Done] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="oddkind-enrol")
        self._pending: Future[Any] | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do `work` on the thread; EnrolmentError while another is being done. Called by the server's thread alone."""
        if self._pending and not self._pending.done():
            raise EnrolmentError("another enrolment is being worked on; try again in a moment")
        self._pending = future = self._worker.submit(work)
        return future

    def close(self) -> None:
        """Let the thread end; what it is doing is not waited for."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def classes(self) -> dict[str, Any]:
        """`classes` (name to number of supports) and `undo` (the class of the enrolment that can be taken back)."""
        m = self._manifest
        store = read_class_store(self._setting.enrolled, m.bundle_id, m.typing.descriptor_dim)
        counts = Counter(support.defect_class for support in store.supports)
        return {"classes": {name: counts[name] for name in store.names}, "undo": self.undoable}

    @cached_property
    def _manifest(self) -> BundleManifest:
        return self._setting.manifest()  # reads every file of the bundle

    @property
    def undoable(self) -> str | None:
        """Class of the last enrolment, None when there is nothing to take back."""
        done = self._done[-1:]  # asked for by another thread
        return done[0].name if done else None

    def preview(self, name: str, rejects: Sequence[Reject]) -> dict[str, Any]:
        """How the class would hold together with these; nothing is stored. EnrolmentError when they cannot be."""
        check_class_name(name)
        if not 0 < len(rejects) <= MOST_SUPPORTS:
            raise EnrolmentError(f"pick 1 to {MOST_SUPPORTS} rejects; {len(rejects)} were picked")
        inspector = self._loaded()
        described = tuple(_described(inspector, name, reject) for reject in rejects)
        store = _with(self._stored(inspector), described)
        self._draft = _Draft(uuid.uuid4().hex, name, described)
        new = {d.support.source for d in described}
        quality = class_quality(inspector, store, name)
        return {"draft_id": self._draft.draft_id, "classes": store.names, **_in_words(quality, new)}

    def confirm(self, draft_id: str) -> dict[str, Any]:
        """Store the enrolment that was looked at last; the loop takes it over with its next frame."""
        draft, inspector = self._draft, self._loaded()
        if draft is None or draft.draft_id != draft_id:
            raise EnrolmentError("this enrolment is not the one that was looked at last; look at it again")
        before: list[ClassStore] = []

        def change(store: ClassStore) -> ClassStore:
            before.append(store)
            return _with(store, draft.described)

        after = self._update(inspector, change)
        self._draft = None
        self._done = [*self._done, _Done(draft.name, before[0], after)][-MOST_UNDONE:]
        new = {d.support.source for d in draft.described}
        return {**_in_words(class_quality(inspector, after, draft.name), new), **self.classes()}

    def undo(self) -> dict[str, Any]:
        """The store as it was before the last enrolment; EnrolmentError when somebody has changed it since."""
        if not self._done:
            raise EnrolmentError("nothing was enrolled from this page since the station started")
        last = self._done[-1]

        def change(store: ClassStore) -> ClassStore:
            if store.to_bytes() != last.after.to_bytes():
                raise EnrolmentError(
                    "the classes have been changed since by somebody else; nothing was undone: "
                    f"'oddkind classes remove BUNDLE {last.name} --picture NAME' takes single pictures out"
                )
            return last.before

        self._update(self._loaded(), change)
        self._done = self._done[:-1]
        return {"undone": last.name, **self.classes()}

    def _loaded(self) -> Inspector:
        if self._inspector is None:
            self._inspector = self._setting.load()
        self._inspector.reload_classes()  # what others have taught changes what is seen
        return self._inspector

    def _stored(self, inspector: Inspector) -> ClassStore:
        return read_class_store(inspector.classes_path, inspector.manifest.bundle_id, len(inspector.centre))

    def _update(self, inspector: Inspector, change: Callable[[ClassStore], ClassStore]) -> ClassStore:
        m = inspector.manifest
        return update_class_store(inspector.classes_path, m.bundle_id, len(inspector.centre), change)


def _described(inspector: Inspector, name: str, reject: Reject) -> Described:
    """The region that the record had: found again by the same inspector, or else by its box."""
    source, box_xyxy = _source(reject.inspection.provenance), reject.inspection.regions[0].box_xyxy
    described = describe_frame(inspector, name, source, reject.frame_bgr, force=True)
    if described.support.box_xyxy == box_xyxy:
        return described
    return describe_frame(inspector, name, source, reject.frame_bgr, box_xyxy)


def _source(p: Provenance) -> str:
    return f"{p.source}: {p.path}" if p.path else f"{p.source}: frame {p.frame_id}, {p.captured_at}"


def _with(store: ClassStore, described: Sequence[Described]) -> ClassStore:
    descriptors = np.stack([d.descriptor for d in described])
    return store.with_supports([d.support for d in described], descriptors, [d.taught for d in described])


def _in_words(quality: ClassQuality, new: set[str]) -> dict[str, Any]:
    supports = [{**asdict(s), "is_confused": s.is_confused, "is_new": s.source in new} for s in quality.supports]
    return {"name": quality.defect_class, "supports": supports, "confused": quality.confused}
