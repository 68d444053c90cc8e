"""What somebody has decided about duplicates, kept with the collection.

A hash in Redis. Its fields: 'apart' and two URIs' digests, 'keep' or 'remove' and a URI's,
'reference' and a prefix's; its values: the URIs, or the prefix, as JSON; of an image to be removed
its content's digest, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.sources.reference import MAX_URI
from simdist.store import layout
from simdist.store.damage import damaged

T = TypeVar("T")

_NAMES = {"apart": 2, "keep": 1, "reference": 1, "remove": 2}
# What is decided of one image; the later decision takes the other's place.
_OPPOSITES = {"keep": "remove", "remove": "keep"}
# Decisions that a collection keeps, and that are written by one command.
_MOST, _BATCH = 1_000_000, 500


@dataclass(frozen=True)
class Decisions:
    """Decisions about the images of a collection.

    Attributes:
        apart: pairs of URIs that are not duplicates, the smaller first.
        keep: URIs of images that are not proposed for deletion.
        references: what the URIs of other such images begin with.
        remove: URIs of images that are marked for removal, each with the digest of its content then
            (`Stored.fingerprint`), in hex.
    """

    apart: frozenset[tuple[str, str]] = frozenset()
    keep: frozenset[str] = frozenset()
    references: tuple[str, ...] = ()
    remove: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def read(cls, collection: Collection) -> Decisions:
        """Those that are kept.

        Raises:
            StoreError: the server cannot be reached, or they are damaged.
        """
        key = collection.partitions[0].keys.decisions
        return _unpacked(key, collection.store.call("HGETALL", key).items())

    @classmethod
    def about(
        cls, collection: Collection, uris: Iterable[str], pairs: Iterable[tuple[str, str]]
    ) -> Decisions:
        """Those about some images and pairs of them; references are left out.

        Raises:
            StoreError: as `read`.
        """
        asked = cls(apart=frozenset(pairs), keep=frozenset(uris))
        fields = [*asked._fields(), *(_field("remove", uri) for uri in asked.keep)]
        if not fields:
            return cls()
        key = collection.partitions[0].keys.decisions
        found = zip(fields, collection.store.call("HMGET", key, *fields), strict=True)
        return _unpacked(key, [(field, packed) for field, packed in found if packed is not None])

    def add_to(self, collection: Collection) -> None:
        """Keep these as well. What was marked for removal and is to be kept, is; and the reverse.

        Raises:
            UsageError: a URI that no image can have, an image apart from itself, or too many.
            StoreError: the server cannot be reached or refuses.
        """
        fields = self._fields()
        key = collection.partitions[0].keys.decisions
        if int(collection.store.call("HLEN", key)) + len(fields) > _MOST:
            raise UsageError(f"a collection keeps at most {_MOST:,} decisions")
        for some in _batches([*fields.items()]):
            words = [word for both in some for word in both]
            collection.partitions[0].note("HSET", "decisions", *words)
        opposite = [_field(_OPPOSITES["keep"], uri) for uri in self.keep]
        opposite += [_field(_OPPOSITES["remove"], uri) for uri, _ in self.remove]
        _delete(collection, opposite)

    def take_from(self, collection: Collection) -> None:
        """Keep these no longer; of what is marked for removal, whatever content it was marked with.

        Raises:
            UsageError, StoreError: as `add_to`.
        """
        _delete(collection, [*self._fields()])

    def protects(self, uri: str) -> bool:
        """Whether an image is never proposed for deletion."""
        return uri in self.keep or uri.startswith(self.references)

    def removes(self, uri: str) -> bool:
        """Whether an image is marked for removal, and nothing protects it."""
        return uri in self._marked and not self.protects(uri)

    @cached_property
    def _marked(self) -> frozenset[str]:
        return frozenset(uri for uri, _ in self.remove)

    def _fields(self) -> dict[bytes, bytes]:
        decided: list[tuple[str, tuple[str, ...]]] = [("apart", pair) for pair in self.apart]
        decided += [("keep", (uri,)) for uri in self.keep]
        decided += [("reference", (prefix,)) for prefix in self.references]
        decided += [("remove", (uri,)) for uri, _ in self.remove]
        contents = dict(self.remove)
        fields = {}
        for name, uris in decided:
            if any(not uri or not uri.isascii() or len(uri) > MAX_URI for uri in uris):
                raise UsageError(f"{uris[0][:100]!r} is not the URI of an image")
            if len(set(uris)) < len(uris):
                raise UsageError(f"{uris[0]} cannot be apart from itself")
            value = [uris[0], contents[uris[0]]] if name == "remove" else sorted(uris)
            fields[_field(name, *uris)] = json.dumps(value).encode()
        return fields


def forget_decisions(collection: Collection) -> int:
    """Forget all decisions; returns how many there were.

    Raises:
        StoreError: the server cannot be reached or refuses.
        CollectionError: the collection is gone, or was made anew.
    """
    count = int(collection.store.call("HLEN", collection.partitions[0].keys.decisions))
    collection.partitions[0].note("UNLINK", "decisions")
    return count


def _field(name: str, *uris: str) -> bytes:
    return f"{name} ".encode() + b"".join(layout.uri_digest(uri) for uri in sorted(uris))


def _delete(collection: Collection, fields: Sequence[bytes]) -> None:
    for some in _batches(fields):
        collection.partitions[0].note("HDEL", "decisions", *some)


def _batches(all_of_them: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(all_of_them), _BATCH):
        yield all_of_them[start : start + _BATCH]


def _unpacked(key: str, fields: Iterable[tuple[bytes, bytes]]) -> Decisions:
    """Decisions as they are stored.

    Raises:
        StoreError: they are damaged.
    """
    found: dict[str, list[list[str]]] = {name: [] for name in _NAMES}
    for field, packed in sorted(fields):
        name = field.partition(b" ")[0].decode(errors="replace")
        try:
            uris = json.loads(packed)
            if name not in _NAMES or len(uris) != _NAMES[name]:
                raise ValueError("no such decision")
            found[name].append([str(uri) for uri in uris])
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged(key, "a decision about duplicates") from error
    return Decisions(
        apart=frozenset((min(pair), max(pair)) for pair in found["apart"]),
        keep=frozenset(uri for [uri] in found["keep"]),
        references=tuple(sorted(prefix for [prefix] in found["reference"])),
        remove=frozenset((uri, content) for uri, content in found["remove"]),
    )
