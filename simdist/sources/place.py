"""What is kept with an image so that it can be read again, and told from what took its place."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from simdist.errors import StoreError
from simdist.sources.reference import ImageRef

_MEMBER = struct.Struct("<BQI")
_VERSION = 8
_DEEPEST = 255
# By their depth: most images are files, and a batch of them takes a tenth of a microsecond each.
_WHOLE_FILES = (b"", *(bytes((depth,)) for depth in range(1, _DEEPEST + 1)))


@dataclass(frozen=True)
class Place:
    """Where an ingest has read an image.

    Attributes:
        depth: so many of the last parts of its file's path lie below the folder that the ingest was
            given, out of which no link may lead; 0 if it lies elsewhere.
        offset, size: the first byte, and how many, of a member of a tar; None for all of a file.
        version: a digest of the file's own fingerprint where the image's has more in it, or None.
    """

    depth: int
    offset: int | None = None
    size: int | None = None
    version: bytes | None = None

    @staticmethod
    def pack(ref: ImageRef) -> bytes:
        """Of a listed image; empty where nobody has read it, or could say that it has changed."""
        depth = min(_DEEPEST, ref.depth)
        if ref.version is not None:
            return bytes((depth,)) + version_digest(ref.version)
        # The row of a Parquet file is in the URI.
        if not depth or ref.offset is None or not ref.size:
            return _WHOLE_FILES[depth]
        return _MEMBER.pack(depth, ref.offset, ref.size)

    @classmethod
    def unpack(cls, packed: bytes) -> Place | None:
        """As it was packed; None for nothing.

        Raises:
            StoreError: it is damaged.
        """
        if not packed:
            return None
        if len(packed) == _MEMBER.size:
            return cls(*_MEMBER.unpack(packed))
        if len(packed) not in (1, 1 + _VERSION):
            raise StoreError("the record of an image is damaged: its place has an odd length")
        return cls(packed[0], version=packed[1:] or None)


def version_digest(version: str) -> bytes:
    """8 bytes that stand for a file's fingerprint."""
    return hashlib.blake2b(version.encode(), digest_size=_VERSION).digest()
