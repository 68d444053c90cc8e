"""Where an indexed image came from, as far as that is needed to read it again."""

from __future__ import annotations

from dataclasses import dataclass

from simdist.index.collection import Collection
from simdist.sources.place import Place
from simdist.store import layout


@dataclass(frozen=True)
class Origin:
    """Where an image was indexed from.

    Attributes:
        place: where an ingest has read it; None where none has, or could tell it from another.
        fingerprint: the digest that is stored of its fingerprint.
    """

    uri: str
    place: Place | None
    fingerprint: bytes

    @classmethod
    def find(cls, collection: Collection, digest: bytes) -> Origin | None:
        """That of an image by `layout.uri_digest`; None if it is not indexed.

        Raises:
            StoreError: the server cannot be reached, or the image's record is damaged.
        """
        stored = collection.home(digest).find(digest)
        if stored is None:
            return None
        _, packed, fingerprint = stored
        record = layout.unpack_record(packed)
        return cls(record.uri, Place.unpack(record.place), fingerprint)

    def has(self, fingerprint: str) -> bool:
        """Whether the image was indexed with this fingerprint."""
        return layout.fingerprint_digest(fingerprint) == self.fingerprint
