"""Everything oddkind raises on purpose.

OddkindError                  a person can act on it: the text says expected, got and what to do
├── UsageError                wrong flags or an impossible combination (exit code 2)
├── StationError              a station file that is wrong, or missing
├── ControlError              a running station cannot do what it is asked for
├── PictureError              a file that is not a picture we can inspect
├── BundleError               a pack, bundle or class store that is missing, broken or does not fit
├── BackendError              the runtime (ONNX Runtime, OpenVINO) cannot load or run a graph
├── CameraError               a source that cannot be opened or was lost
├── OutputError               a result that cannot be written
├── WorkerError               a process or machine that worked for us died or cannot be reached
├── EnrolmentError            a support picture or class that cannot be enrolled
├── CalibrationError          good pictures that cannot become a bundle
└── ExportError               a backbone or head that cannot become a pack
"""

import zipfile
import zlib


class OddkindError(Exception):
    """Base of every error we raise on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(OddkindError):
    """The command cannot mean anything as given."""

    exit_code = 2


class StationError(OddkindError):
    """A station file is missing, or describes nothing that could run."""


class ControlError(OddkindError):
    """A running station cannot do what it is asked for."""


class PictureError(OddkindError):
    """A file is not a picture we can inspect."""


class BundleError(OddkindError):
    """A model pack, bundle or class store is missing, broken or does not fit its neighbours."""


class BackendError(OddkindError):
    """An inference runtime cannot load or run a graph."""


class CameraError(OddkindError):
    """A picture source cannot be opened or was lost."""


class OutputError(OddkindError):
    """A result cannot be written."""


class WorkerError(OddkindError):
    """A process or machine that worked for us died or cannot be reached; what it had finished is kept."""


class EnrolmentError(OddkindError):
    """A support picture or a class cannot be enrolled, renamed or removed."""


class CalibrationError(OddkindError):
    """Good pictures cannot be turned into a bundle, or a data set cannot be evaluated."""


class ExportError(OddkindError):
    """A backbone or relation head cannot be turned into a model pack."""


# What numpy raises for an .npz that is cut off or scribbled on. A flipped bit can call a member encrypted or packed in
# a way that nobody knows (RuntimeError) or in one that it is not (zlib.error).
UNREADABLE_NPZ = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
