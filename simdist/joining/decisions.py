"""What somebody has decided about duplicates, kept with the collection.

A hash in Redis. Its fields: 'apart' and two URIs' digests, 'keep' and a URI's, 'reference' and a
prefix's; its values: the URIs, or the prefix, as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.sources.reference import MAX_URI
from simdist.store import layout
from simdist.store.damage import damaged

_NAMES = {"apart": 2, "keep": 1, "reference": 1}
# Decisions that a collection keeps.
_MOST = 1_000_000


@dataclass(frozen=True)
class Decisions:
    """Decisions about the images of a collection.

    Attributes:
        apart: pairs of URIs that are not duplicates, the smaller first.
        keep: URIs of images that are not proposed for deletion.
        references: what the URIs of other such images begin with.
    """

    apart: frozenset[tuple[str, str]] = frozenset()
    keep: frozenset[str] = frozenset()
    references: tuple[str, ...] = ()

    @classmethod
    def read(cls, collection: Collection) -> Decisions:
        """Those that are kept.

        Raises:
            StoreError: the server cannot be reached, or they are damaged.
        """
        key = collection.partitions[0].keys.decisions
        found: dict[str, list[list[str]]] = {name: [] for name in _NAMES}
        for field, packed in sorted(collection.store.call("HGETALL", key).items()):
            name = field.partition(b" ")[0].decode(errors="replace")
            try:
                uris = json.loads(packed)
                if name not in _NAMES or len(uris) != _NAMES[name]:
                    raise ValueError("no such decision")
                found[name].append([str(uri) for uri in uris])
            except (ValueError, TypeError, RecursionError) as error:
                raise damaged(key, "a decision about duplicates") from error
        return cls(
            apart=frozenset((min(pair), max(pair)) for pair in found["apart"]),
            keep=frozenset(uri for [uri] in found["keep"]),
            references=tuple(sorted(prefix for [prefix] in found["reference"])),
        )

    def add_to(self, collection: Collection) -> None:
        """Keep these as well.

        Raises:
            UsageError: a URI that no image can have, an image apart from itself, or too many.
            StoreError: the server cannot be reached or refuses.
        """
        key, fields = collection.partitions[0].keys.decisions, self._fields()
        if int(collection.store.call("HLEN", key)) + len(fields) > _MOST:
            raise UsageError(f"a collection keeps at most {_MOST:,} decisions")
        for field, packed in fields.items():
            collection.partitions[0].note("HSET", "decisions", field, packed)

    def protects(self, uri: str) -> bool:
        """Whether an image is never proposed for deletion."""
        return uri in self.keep or uri.startswith(self.references)

    def _fields(self) -> dict[bytes, bytes]:
        decided: list[tuple[str, tuple[str, ...]]] = [("apart", pair) for pair in self.apart]
        decided += [("keep", (uri,)) for uri in self.keep]
        decided += [("reference", (prefix,)) for prefix in self.references]
        fields = {}
        for name, uris in decided:
            if any(not uri or not uri.isascii() or len(uri) > MAX_URI for uri in uris):
                raise UsageError(f"{uris[0][:100]!r} is not the URI of an image")
            if len(set(uris)) < len(uris):
                raise UsageError(f"{uris[0]} cannot be apart from itself")
            digests = b"".join(layout.uri_digest(uri) for uri in sorted(uris))
            fields[f"{name} ".encode() + digests] = json.dumps(sorted(uris)).encode()
        return fields


def forget_decisions(collection: Collection) -> int:
    """Forget all decisions; returns how many there were."""
    key = collection.partitions[0].keys.decisions
    count = int(collection.store.call("HLEN", key))
    collection.store.call("DEL", key)
    return count
