"""oddkind's runtime: finds the odd part and names its kind, without torch and without a network."""

from edge.bundle import Bundle
from edge.errors import OddkindError
from edge.inspector import Inspector
from edge.pictures import read_picture
from edge.result import Inspection, Provenance

__all__ = ["Bundle", "Inspection", "Inspector", "OddkindError", "Provenance", "read_picture"]
__version__ = "0.1.0"
