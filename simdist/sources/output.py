"""A folder, here or in an object store, that files are written into: whole, or not at all."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from simdist.errors import OutputError, SourceError
from simdist.sources import objects
from simdist.sources.access import Access
from simdist.sources.files import find, open_file
from simdist.sources.object_listing import list_objects
from simdist.sources.reference import Found, file_uri, local_path, uri_path

# The end of the name of what is not written to its end yet.
_PART = ".part"


@dataclass(frozen=True)
class OutputFolder:
    """A folder, or a prefix in an object store, by its URI without a slash at its end."""

    uri: str
    access: Access

    @classmethod
    def of(cls, location: str, access: Access) -> OutputFolder:
        """The folder that a path or a URI names; it need not be there."""
        uri = location if "://" in location else file_uri(local_path(location))
        return cls(uri.rstrip("/"), access)

    def check(self) -> None:
        """Make sure that files can be written there: by an empty one that is removed again.

        Raises:
            OutputError: they cannot.
        """
        name = f"simdist-{uuid4().hex}.tmp"
        self.put(name, b"")
        self.remove(name)

    def put(self, name: str, data: bytes) -> None:
        """Write a file in place of what is there.

        Raises:
            OutputError: it cannot be written.
        """
        with self._writing():
            if objects.is_object(self.uri):
                objects.write_object(f"{self.uri}/{name}", self.access, data)
                return
            path = uri_path(self.uri) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + _PART)
            with part.open("wb") as file:
                file.write(data)
                # Its name must not lead to less than all of it, whatever happens.
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            OutputError: it cannot be removed.
        """
        with self._writing():
            if objects.is_object(self.uri):
                objects.delete_object(f"{self.uri}/{name}", self.access)
            else:
                (uri_path(self.uri) / name).unlink()

    def names(self) -> list[str]:
        """The names of the files in it, and no deeper, sorted; none where there is no folder.

        Raises:
            SourceError: it cannot be listed.
        """
        if objects.is_object(self.uri):
            listed = list_objects(objects.Address.parse(self.uri), self.access)
            inside = (file for file in listed if posixpath.dirname(file.uri) == self.uri)
            return sorted(posixpath.basename(file.uri) for file in inside)
        path = uri_path(self.uri)
        try:
            return sorted(one.name for one in path.iterdir() if one.suffix != _PART)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceError(f"cannot list {path}: {error.strerror}") from error

    def found(self, name: str) -> Found:
        """What is known of a file in it.

        Raises:
            SourceError: it is missing, or cannot be read.
        """
        return find(f"{self.uri}/{name}", self.access)

    def read(self, name: str, *, limit: int) -> bytes:
        """A whole file.

        Raises:
            SourceError: it cannot be read, or has more than `limit` bytes.
        """
        found = self.found(name)
        if found.size > limit:
            raise SourceError(f"{found.uri} has {found.size:,} bytes: at most {limit:,} are read")
        with open_file(found, self.access) as file:
            return file.read(limit)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise what goes wrong as an `OutputError`."""
        try:
            yield
        except SourceError as error:
            raise OutputError(str(error), remedy=error.remedy, about=error.about) from error
        except OSError as error:
            raise OutputError(
                f"cannot write into {uri_path(self.uri)}: {error.strerror}"
            ) from error


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
