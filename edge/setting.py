"""What it takes to load the same inspector again, in another process or on another machine."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge.bundle import Bundle
from edge.class_store import CLASSES_FILE
from edge.inspector import Inspector
from edge.manifest import BackendChoice, BackendName, BundleManifest, Precision


@dataclass(frozen=True)
class InspectorSetting:
    """Arguments of `Inspector.load`; small, so that it can travel with the work."""

    bundle: Path
    backend: BackendChoice | None = None
    precision: Precision | None = None
    threads: int = 1
    classes_path: Path | None = None
    products: BackendName = "onnxruntime"

    @classmethod
    def of(cls, inspector: Inspector, threads: int = 1) -> InspectorSetting:
        """The setting that a loaded inspector has; how many threads it was given it does not say."""
        name: BackendName = inspector.backbone.name
        return cls(
            inspector.bundle.folder, name, inspector.precision, threads, inspector.classes_path, inspector.products
        )

    def resolved(self) -> InspectorSetting:
        """The same with `auto` decided, once and here: rows must not depend on which worker made them."""
        if self.backend != "auto":
            return self
        from edge.auto_backend import choose_runtime  # few need it, and it brings subprocess with it

        choice = choose_runtime(Bundle.open(self.bundle), self.precision, self.threads)
        return replace(self, **asdict(choice))

    def load(self) -> Inspector:
        """Open, check and load the bundle."""
        return Inspector.load(self.bundle, self.backend, self.precision, self.threads, self.classes_path, self.products)

    def manifest(self) -> BundleManifest:
        """The checked manifest, without loading a graph."""
        return Bundle.open(self.bundle).manifest

    @property
    def enrolled(self) -> Path:
        """The file of enrolled classes; it need not exist."""
        return self.classes_path or self.bundle / CLASSES_FILE


class _Loaded(threading.local):
    """An inspector serves one thread at a time, so each thread keeps its own: the last one it used."""

    setting: InspectorSetting | None = None
    inspector: Inspector | None = None


_LOADED = _Loaded()


def inspector_for(setting: InspectorSetting) -> Inspector:
    """The inspector of `setting`, loaded once a thread."""
    if _LOADED.inspector is None or _LOADED.setting != setting:
        _LOADED.inspector, _LOADED.setting = setting.load(), setting
    return _LOADED.inspector
