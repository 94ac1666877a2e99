"""The simulated GenTL producer that the `genicam` package ships: three cameras, no triggers, no clock."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

RED, GREEN, BLUE = "VikyTL_DEV_red", "VikyTL_DEV_green", "VikyTL_DEV_blue"


def producer() -> Path | None:
    """Its .cti file, None where it is not installed."""
    package = find_spec("genicam")
    if package is None or package.origin is None or find_spec("harvesters") is None:
        return None
    return next(Path(package.origin).parent.glob("*.cti"), None)


needs_simulator = pytest.mark.skipif(producer() is None, reason="needs pip install 'oddkind[genicam]'")
