"""What tests of an installation share."""

from __future__ import annotations

import os


def own_environment(**more: str) -> dict[str, str]:
    """The environment without what would let an installation see this checkout or this environment."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "HNSWLIB_NO_NATIVE": "1", **more}
