"""Whether what a station file names is there, and fits: bundle, graphs, runtime, classes, sources, output places."""

from __future__ import annotations

import os
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from edge.backend import is_installed
from edge.bundle import Bundle
from edge.cameras.address import is_device, is_live, maker
from edge.cameras.genicam import producer_file
from edge.class_store import read_class_store
from edge.errors import OddkindError
from edge.manifest import graph_key
from edge.notify import one_line
from edge.pictures import PICTURE_SUFFIXES, iter_picture_paths
from edge.station.combinations import PLACES, sources
from edge.station.credential_files import check_credentials
from edge.station.yaml_file import Document, Where

MAKER_PACKAGES = {"genicam": "harvesters", "basler": "pypylon"}
# Output: the module it needs, and the extra that brings it.
PACKAGES = {
    "mqtt": ("paho", "station"),
    "http": ("starlette", "station"),
    "modbus": ("pymodbus", "modbus"),
    "opcua": ("asyncua", "opcua"),
    "reject": ("gpiod", "gpio"),
}


def check_things(document: Document) -> None:
    """Write into the document everything that is missing or does not fit."""
    bundle = _check_bundle(document)
    if bundle:
        _check_runtime(document, bundle)
    _check_classes(document, bundle)
    for place, source in sources(document):
        _check_source(document, place, source)
    _check_outputs(document)
    check_credentials(document)
    _check_packages(document)


def _check_bundle(document: Document) -> Bundle | None:
    place: Where = ("bundle",)
    path = document.path(place)
    if path is None:
        return None
    if not _is_there(path):
        document.complain(place, f"no such folder: {document.shown(place)}; 'oddkind calibrate' makes bundles")
        return None
    try:
        return Bundle.open(path)
    except OddkindError as exc:
        document.complain(place, one_line(exc))
        return None


def _check_runtime(document: Document, bundle: Bundle) -> None:
    m = bundle.manifest
    backend = document.get("runtime", "backend") or m.calibrated_backend
    precision = document.get("runtime", "precision") or m.calibrated_precision
    place: Where = ("runtime", "backend" if document.get("runtime", "backend") else "precision")
    if backend == "auto" or not all(document.is_sound(("runtime", key)) for key in ("backend", "precision")):
        return
    if graph_key(backend, precision) not in m.graphs:
        has = ", ".join(sorted(m.graphs))
        document.complain(place, f"the bundle has no graph for {backend} in {precision}; it has {has}")
    elif not is_installed(backend):
        where = place if document.get("runtime", "backend") else ("bundle",)
        document.complain(where, f"{backend} is not installed here; pip install 'oddkind[{backend}]'")


def _check_classes(document: Document, bundle: Bundle | None) -> None:
    place: Where = ("classes",)
    path = document.path(place)
    if path is None:
        return
    if not _is_there(path):
        if not _is_there(path.parent):  # else the first class that is enrolled makes the file
            hint = "make the folder, or leave it out: 'oddkind enrol --classes' writes the file"
            document.complain(place, f"no such file, nor its folder: {document.shown(place)}; {hint}")
    elif bundle:
        m = bundle.manifest
        try:
            read_class_store(path, m.bundle_id, m.typing.descriptor_dim)
        except OddkindError as exc:
            document.complain(place, one_line(exc))


def _check_source(document: Document, place: Where, source: str) -> None:
    shown, waits = document.shown(place), document.get(*place[:-1], "wait_for_camera") is True
    if is_device(source):
        if not _is_there(Path(source)) and not waits:
            document.complain(place, f"no such device: {shown}; plug it in, or set wait_for_camera: true")
    elif kind := maker(source):
        _check_maker(document, place, kind)
    elif is_live(source):
        return
    elif document.get(*place[:-1], "watch") is True:
        _check_watched(document, place, Path(source), waits)
    elif not _is_there(Path(source)):
        document.complain(place, f"no such file or folder: {shown}")
    elif Path(source).is_dir() and not any(islice(iter_picture_paths(Path(source)), 1)):
        document.complain(place, f"no pictures in this folder: {shown} ({', '.join(sorted(PICTURE_SUFFIXES))})")


def _check_maker(document: Document, place: Where, kind: str) -> None:
    if find_spec(MAKER_PACKAGES[kind]) is None:
        document.complain(place, f"{MAKER_PACKAGES[kind]} is not installed here; pip install 'oddkind[{kind}]'")
    if kind == "genicam":
        given: Where = (*place[:-1], "device", "producer")
        try:
            producer_file(document.path(given))
        except OddkindError as exc:
            document.complain(given if document.path(given) else place, one_line(exc))


def _check_watched(document: Document, place: Where, folder: Path, waits: bool) -> None:
    if folder.is_file():
        document.complain(place, f"{document.shown(place)} is a file; only a folder can be watched")
    elif not _is_there(folder) and not waits:
        document.complain(place, f"no such folder: {document.shown(place)}; make it, or set wait_for_camera: true")


def _check_outputs(document: Document) -> None:
    """Only what can be seen without writing anything."""
    for place in PLACES:
        path, is_folder = document.path(place), place[-1] == "folder"
        if path is None or not _is_there(path) or document.get(*place) == "-" or path.is_dir() == is_folder:
            continue
        what = "a file; name a folder" if is_folder else "a folder; name a file"
        document.complain(place, f"{document.shown(place)} is {what}")
    clients: Where = ("outputs", "opcua", "clients_folder")
    path = document.path(clients)
    if path and not path.is_dir():
        document.complain(clients, f"no such folder: {document.shown(clients)}")


def _check_packages(document: Document) -> None:
    for output, (module, extra) in PACKAGES.items():
        if document.get("outputs", output) is not None and find_spec(module) is None:
            document.complain(("outputs", output), f"{module} is not installed here; pip install 'oddkind[{extra}]'")
    for place, _ in sources(document):
        gpio: Where = (*place[:-1], "trigger", "gpio")
        if document.get(*gpio) is not None and find_spec("gpiod") is None:
            document.complain(gpio, "gpiod is not installed here; pip install 'oddkind[gpio]'")


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # Path.exists raises on names that are too long
