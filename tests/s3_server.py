"""A real S3-compatible server on this machine: moto's, spoken to over HTTP."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BUCKET = "parts"


@contextmanager
def s3_server() -> Iterator[str]:
    """A running server; yields its address. The environment says so, to this process and to those it starts."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        forget_connections()
        _file_system().mkdir(BUCKET)
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()
            forget_connections()


def forget_connections() -> None:
    """fsspec keeps file systems, with the server they were opened for."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder: Path, location: str) -> None:
    """Copy every file below `folder` to the URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = f"{location.removeprefix('s3://')}/{path.relative_to(folder).as_posix()}"
            _file_system().pipe_file(target, path.read_bytes())


def fresh(scheme: str = "s3") -> str:
    """A URL that nobody has used."""
    return f"{scheme}://{BUCKET}/{uuid.uuid4().hex}"


def _file_system() -> Any:
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)
