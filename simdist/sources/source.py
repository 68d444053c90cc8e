"""A source of images, whatever it is: the one interface of this package."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from simdist.errors import Remedy, UsageError
from simdist.images.limits import SUFFIXES
from simdist.sources import (
    files,
    folder,
    objects,
    patterns,
)
from simdist.sources.access import Access
from simdist.sources.lists import csv_list, text_list
from simdist.sources.object_listing import list_objects
from simdist.sources.passed import PassedOver
from simdist.sources.reading import is_web_address
from simdist.sources.reference import (
    MEMBER,
    Found,
    ListingFailure,
    file_uri,
    local_path,
    suffix_of,
    uri_path,
)
from simdist.sources.selection import Entry, LabelFrom, Selection, select
from simdist.sources.table import table_images
from simdist.sources.tar import tar_images
from simdist.sources.zips import zip_images

CONTAINERS = (".tar", ".zip", ".parquet", ".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Source:
    """A source that is open.

    Attributes:
        entries: what it lists, once.
        access: how its images are reached.
        name: what it is called from run to run.
        below: with what the URIs of its images begin, and no others; None if that cannot be said.
        whole: whether the entries are all that the name stands for, but for what is excluded.
        passed: what is listed and passed over, as far as the entries have been taken.
    """

    entries: Iterator[Entry]
    access: Access
    name: str = ""
    below: str | None = None
    whole: bool = False
    passed: PassedOver = field(default_factory=PassedOver)


def open_source(
    location: str, *, selection: Selection | None = None, access: Access | None = None
) -> Source:
    """Open a source; its listing is streamed, and its first entry has been met.

    Args:
        location: a folder, an image, an archive (.tar, .zip, .parquet) or a list (.csv, .tsv, .txt,
            .parquet): a path, or a URI that begins with file://, s3://, gs:// or az://. Or a
            pattern with `*`, `**`, `?`, `[...]`, `{a,b}` or `{000..099}` for any number of those.
        access: how to reach object stores; by default what the environment says.

    Raises:
        SourceError: missing, empty, or cannot be listed.
        UsageError: a source or a pattern that can never work.
    """
    selection, access = selection or Selection(), access or Access.resolve()
    passed = PassedOver(selection.hidden)
    listing = _Listing(selection, access, passed)
    entries = select(_entries(location, listing), _root(location), selection)
    first = list(islice(entries, 1))
    narrowed = selection.include or selection.limit is not None
    name, below = _named(location)
    whole = not narrowed
    return Source(chain(first, entries), access, name, below, whole=whole, passed=passed)


@dataclass(frozen=True)
class _Listing:
    """How to list what a name stands for."""

    selection: Selection
    access: Access
    passed: PassedOver


def _entries(location: str, listing: _Listing) -> Iterator[Entry]:
    if is_web_address(location):
        raise UsageError(
            f"{location} cannot be a source by itself: write such addresses into a text file, one "
            "per line, and name that"
        )
    if objects.is_object(location):
        return _stored(location, listing)
    path = local_path(location)
    if patterns.is_pattern(str(path)) and not os.path.lexists(path):
        return _matching_files(os.path.abspath(path), listing)
    if suffix_of(path.name) in CONTAINERS and not folder.is_folder(path):
        return _inside(files.find(path.absolute().as_uri(), listing.access), listing)
    if listing.selection.label_from is LabelFrom.column:
        raise _no_columns(location)
    return folder.list_folder(path, listing.passed)


def _named(location: str) -> tuple[str, str | None]:
    """A source's name, and with what its images' URIs begin; see `Source`."""
    if objects.is_object(location):
        address = objects.Address.parse(location)
        uri, is_pattern, is_folder = address.uri, patterns.is_pattern(address.key), None
    else:
        path = local_path(location)
        is_pattern = patterns.is_pattern(str(path)) and not os.path.lexists(path)
        uri, is_folder = file_uri(path), path.is_dir()
    suffix = suffix_of(posixpath.basename(uri))
    if is_pattern:
        return uri, None
    if is_folder or (is_folder is None and suffix not in (*CONTAINERS, *SUFFIXES)):
        return uri, uri.rstrip("/") + "/"
    return uri, uri + MEMBER if suffix in (".tar", ".zip", ".parquet") else None


def _matching_files(pattern: str, listing: _Listing) -> Iterator[Entry]:
    for name in patterns.expand(pattern):
        listed: Iterator[Found | ListingFailure]
        if patterns.is_glob(name):
            listed = folder.list_matching(name, listing.passed)
        else:
            listed = iter([folder.describe(Path(name))])
        for entry in listed:
            if isinstance(entry, ListingFailure):
                yield entry
            elif entry.suffix or folder.is_image(uri_path(entry.uri)):
                yield from _inside(entry, listing)
            else:
                listing.passed.note(entry.name)


def _stored(location: str, listing: _Listing) -> Iterator[Entry]:
    address, access = objects.Address.parse(location), listing.access
    if patterns.is_pattern(address.key) and not _is_there(address, access):
        return _matching_objects(address, listing)
    suffix = suffix_of(posixpath.basename(address.key))
    if suffix in CONTAINERS or suffix in SUFFIXES:
        file = objects.describe(address, access, objects.FIRST)
        return _inside(file, listing)
    if listing.selection.label_from is LabelFrom.column:
        raise _no_columns(location)
    objects.check(address, access)
    listed = list_objects(address, access)
    return (file.image() for file in listed if _is_taken(file, address, listing.passed))


def _is_there(address: objects.Address, access: Access) -> bool:
    """Whether there is an object whose key is written as a pattern is; that is meant, then."""
    try:
        objects.describe(address, access, objects.FIRST)
    except objects.MissingObjectError:
        return False
    return True


def _is_taken(file: Found, address: objects.Address, passed: PassedOver) -> bool:
    """Whether an object of a listing is an image; without a suffix only its bytes could say.

    They are not asked for, a request for each: it is taken, and fails if it is none.
    """
    key = objects.Address.parse(file.uri).key
    if passed.leaves_out_path(key.removeprefix(address.key).lstrip("/")):
        return False
    name = key.rpartition("/")[2]
    # Of folders, and of jobs that are done.
    if not name or (file.suffix not in SUFFIXES and (not file.size or name.startswith("_"))):
        passed.counts["markers"] += 1
        return False
    if file.suffix and file.suffix not in SUFFIXES:
        passed.note(name)
        return False
    return True


def _matching_objects(location: objects.Address, listing: _Listing) -> Iterator[Entry]:
    names, access = patterns.expand(location.key), listing.access
    objects.check(replace(location, key=patterns.base(location.key)), access)
    for name in names:
        if not patterns.is_glob(name):
            address = replace(location, key=name)
            try:
                file = objects.describe(address, access)
            except objects.MissingObjectError as error:
                yield ListingFailure(address.uri, str(error))
                continue
            yield from _inside(file, listing)
            continue
        address = replace(location, key=patterns.base(name))
        match, passed = patterns.matcher(name).fullmatch, listing.passed
        if "/." in name.removeprefix(address.key):  # what is hidden is meant
            passed = replace(passed, hidden=True)
        for file in list_objects(address, access):
            key = objects.Address.parse(file.uri).key
            below = key.removeprefix(address.key).lstrip("/")
            if match(key) and not passed.leaves_out_path(below):
                yield from _inside(file, listing)


def _inside(file: Found, listing: _Listing) -> Iterator[Entry]:
    """The images that a file stands for: itself, or those that it holds or names."""
    access, columns, passed = listing.access, listing.selection.columns, listing.passed
    suffix = file.suffix
    entries: Iterator[Entry] = iter(())
    if suffix == ".tar":
        entries = tar_images(file, access, passed)
    elif suffix == ".zip":
        entries = zip_images(file, access, passed)
    elif suffix == ".parquet":
        entries = table_images(file, access, columns)
    elif suffix in (".csv", ".tsv"):
        entries = csv_list(file, access, columns)
    elif suffix == ".txt":
        entries = text_list(file, access)
    elif suffix in SUFFIXES or not suffix:  # without one, its bytes say what it is
        entries = iter([file.image()])
    else:
        passed.note(file.name)
    return entries


def _no_columns(location: str) -> UsageError:
    return UsageError(
        f"{location} has no columns to take labels from: take them from the folders",
        remedy=Remedy.LABEL_FROM,
    )


def _root(location: str) -> str:
    """What is left out of a URI before a pattern of `include` or `exclude` is matched."""
    if objects.is_object(location):
        return objects.Address.parse(patterns.base(location + "/")).uri.rstrip("/") + "/"
    path = local_path(location)
    root = path if path.is_dir() else Path(patterns.base(os.path.abspath(path)))
    return file_uri(root).rstrip("/") + "/"
