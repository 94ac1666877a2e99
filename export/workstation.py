"""One clear line instead of an ImportError when the workstation's packages are not there."""

from __future__ import annotations

import importlib.util

from edge.errors import ExportError

WORKSTATION_PACKAGES = ("torch", "onnx", "onnxscript", "openvino", "efficientnet_lite_pytorch")


def need_workstation_packages() -> None:
    """ExportError naming what is missing and how to get it."""
    missing = [name for name in WORKSTATION_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"this needs {', '.join(missing)}; pip install 'oddkind[export]' on the workstation")
