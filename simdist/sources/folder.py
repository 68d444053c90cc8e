"""A folder of images on this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from simdist.errors import SourceError
from simdist.images import SUFFIXES
from simdist.sources.reference import ImageRef, ListingFailure, file_uri, uri_path


def source_folder(source: str) -> Path:
    """The folder that a user names as a path or a file:// URI, checked.

    Raises:
        UsageError: another kind of URI.
        SourceError: missing, cannot be opened, or a file that is not an image.
    """
    folder = uri_path(source) if "://" in source else Path(source).expanduser()
    list_folder(folder)
    return folder


def list_folder(root: Path) -> Iterator[ImageRef | ListingFailure]:
    """List the images below a folder, in the order of their names, as they are found.

    A file counts as an image by its suffix (`simdist.images.SUFFIXES`); others are passed over.
    Links are followed, each real folder once, so a loop of links ends. An entry that cannot be
    read is yielded as a failure and does not stop the listing. A single file lists itself.

    Raises:
        SourceError: `root` is missing, cannot be opened, or is a file that is not an image.
    """
    root = Path(os.path.abspath(root))
    try:
        details = root.stat()
    except OSError as error:
        raise SourceError(f"cannot read {root}: {error.strerror}; check the path") from error
    if not stat.S_ISDIR(details.st_mode):
        if not _is_image_name(root.name):
            raise SourceError(f"{root} is neither a folder nor an image; name a folder of images")
        return iter([_describe(root)])
    try:
        os.scandir(root).close()
    except OSError as error:
        raise SourceError(f"cannot list {root}: {error.strerror}; check its permissions") from error
    return _walk(root)


def _walk(root: Path) -> Iterator[ImageRef | ListingFailure]:
    failures: list[ListingFailure] = []

    def note(error: OSError) -> None:
        failures.append(_failure(Path(os.fsdecode(error.filename)), error))

    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=note, followlinks=True):
        yield from failures
        failures.clear()
        try:
            details = os.stat(folder)
        except OSError as error:  # gone since it was listed
            subfolders.clear()
            yield _failure(Path(folder), error)
            continue
        if (details.st_dev, details.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((details.st_dev, details.st_ino))
        subfolders.sort()
        for name in sorted(names):
            if _is_image_name(name):
                yield _describe(Path(folder, name))
    yield from failures


def _is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _describe(path: Path) -> ImageRef | ListingFailure:
    try:
        details = path.stat()
    except OSError as error:
        return _failure(path, error)
    if not stat.S_ISREG(details.st_mode):
        return ListingFailure(file_uri(path), "not a regular file")
    label = os.fsencode(path.parent.name).decode("utf-8", "replace")
    fingerprint = f"{details.st_size}-{details.st_mtime_ns}"
    return ImageRef(file_uri(path), fingerprint, details.st_size, label or None)


def _failure(path: Path, error: OSError) -> ListingFailure:
    return ListingFailure(file_uri(path), error.strerror or type(error).__name__)
