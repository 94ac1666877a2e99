"""oddkind's runtime: finds the odd part and names its kind, without torch and without a network."""

from edge.pictures import read_picture  # isort: skip  # first: it sets a limit that OpenCV reads when it is imported
from edge.bundle import Bundle
from edge.errors import OddkindError
from edge.inspector import Inspector
from edge.result import Inspection, Provenance

__all__ = ["Bundle", "Inspection", "Inspector", "OddkindError", "Provenance", "read_picture"]
__version__ = "0.1.0"
