"""An image's URI -> its bytes."""

from __future__ import annotations

import os
import stat

from simdist.errors import ImageError, SourceError
from simdist.images import MAX_BYTES
from simdist.sources.reference import uri_path
from simdist.sources.web import fetch


def is_web_address(text: str) -> bool:
    """Whether it is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def read_bytes(uri: str) -> bytes:
    """Read one image's bytes from the place that its URI names.

    Raises:
        ImageError: it is larger than `MAX_BYTES`.
        SourceError: it cannot be read; for a web address, `FetchError`.
        UsageError: it names no file of this machine.
    """
    if is_web_address(uri):
        return fetch(uri)
    path = uri_path(uri)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            details = os.fstat(file.fileno())
            if not stat.S_ISREG(details.st_mode):
                raise SourceError(f"{path} is not a regular file")
            if details.st_size > MAX_BYTES:
                raise ImageError(
                    f"the file has {details.st_size:,} bytes; at most {MAX_BYTES:,} are read"
                )
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    """The path may have become a pipe since it was listed, and a pipe waits for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)
