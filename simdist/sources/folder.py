"""Folders and files of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from simdist.errors import SourceError
from simdist.images.formats import SIGNATURE, begins_as_image
from simdist.images.limits import SUFFIXES
from simdist.sources import patterns
from simdist.sources.passed import NO_MEDIA, PassedOver
from simdist.sources.reference import (
    Found,
    ImageRef,
    ListingFailure,
    file_uri,
)


def list_folder(
    root: Path, passed: PassedOver | None = None
) -> Iterator[ImageRef | ListingFailure]:
    """List the images below a folder, in the order of their names, as they are found.

    A file counts as an image by its suffix (`simdist.images.limits.SUFFIXES`), without one by its
    first bytes; others are passed over, and so is what is hidden. Links are followed, each real
    folder once, so a loop of links ends. An entry that cannot be read is yielded as a failure and
    does not stop the listing. A single file lists itself.

    Args:
        passed: counts what is passed over.

    Raises:
        SourceError: `root` is missing, cannot be opened, or is a file that is not an image.
    """
    root = Path(os.path.abspath(root))
    if not is_folder(root):
        if not is_image(root):
            raise SourceError(f"{root} is neither a folder nor an image; name a folder of images")
        return iter([_image(describe(root))])
    return (_image(entry) for entry in _walk(root, is_image, passed or PassedOver()))


def list_matching(pattern: str, passed: PassedOver) -> Iterator[Found | ListingFailure]:
    """The files whose absolute paths match a pattern, as `list_folder` goes through them.

    Raises:
        SourceError: the folder in which they would lie cannot be listed.
    """
    root = Path(patterns.base(pattern) or "/")
    if not is_folder(root):
        raise SourceError(f"{root} is not a folder; check the pattern")
    match = patterns.matcher(pattern).fullmatch
    deepest = None if "**" in pattern else pattern.count("/")
    # What is hidden is meant where a pattern says so.
    meant = replace(passed, hidden=passed.hidden or "/." in pattern.removeprefix(str(root)))
    return _walk(root, lambda path: match(str(path)) is not None, meant, deepest=deepest)


def is_folder(path: Path) -> bool:
    """Whether it is a folder, that can be listed, and not a file.

    Raises:
        SourceError: it is missing or cannot be opened.
    """
    try:
        details = path.stat()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the path") from error
    if not stat.S_ISDIR(details.st_mode):
        return False
    try:
        os.scandir(path).close()
    except OSError as error:
        raise SourceError(f"cannot list {path}: {error.strerror}; check its permissions") from error
    return True


def _walk(
    root: Path,
    wanted: Callable[[Path], bool],
    passed: PassedOver,
    *,
    deepest: int | None = None,
) -> Iterator[Found | ListingFailure]:
    """Go through a folder; not below paths of more than `deepest` slashes."""
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
        if NO_MEDIA in names and not passed.hidden and folder != str(root):
            passed.counts[f"folders with {NO_MEDIA}"] += 1
            subfolders.clear()
            continue
        subfolders[:] = sorted(n for n in subfolders if not passed.leaves_out(n, folder=True))
        if deepest is not None and len(Path(folder).parts) >= deepest:
            subfolders.clear()
        depth = len(Path(folder).parts) - len(root.parts) + 1
        for name in sorted(names):
            path = Path(folder, name)
            if passed.leaves_out(name):
                continue
            if wanted(path):
                yield describe(path, depth=depth)
            elif wanted is is_image:
                passed.note(name)
    yield from failures


def is_image(path: Path) -> bool:
    """Whether a file is looked at as an image: by its suffix, or without one by its bytes."""
    suffix = path.suffix.lower()
    if suffix:
        return suffix in SUFFIXES
    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            return begins_as_image(file.read(SIGNATURE))
    except OSError:
        return False


def open_without_waiting(path: str, flags: int) -> int:
    """Open what may be a pipe, or have become one: a pipe waits for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def describe(path: Path, *, depth: int = 1) -> Found | ListingFailure:
    """What the file system says of a file, `depth` parts below what is listed."""
    try:
        details = path.stat()
    except OSError as error:
        return _failure(path, error)
    if not stat.S_ISREG(details.st_mode):
        return ListingFailure(file_uri(path), "not a regular file")
    return Found(file_uri(path), version_of(details), details.st_size, depth)


def version_of(details: os.stat_result) -> str:
    """A file's fingerprint."""
    return f"{details.st_size}-{details.st_mtime_ns}"


def _image(entry: Found | ListingFailure) -> ImageRef | ListingFailure:
    return entry.image() if isinstance(entry, Found) else entry


def _failure(path: Path, error: OSError) -> ListingFailure:
    return ListingFailure(file_uri(path), error.strerror or type(error).__name__)
