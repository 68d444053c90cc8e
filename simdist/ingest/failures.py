"""Images that could not be indexed: what is kept of each with its collection.

They lie in one hash of the first partition, by URI, so that each is there once however often it
is tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

from simdist.errors import StoreError
from simdist.index.collection import Collection
from simdist.sources import Access, ImageRef
from simdist.store.connection import Argument
from simdist.store.damage import damaged

Stage = Literal["list", "fetch", "decode", "embed"]

MAX_REASON = 300
# A source that is wrong as a whole must not fill Redis: what is beyond this is only counted.
MAX_KEPT = 100_000

_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """An image that could not be indexed: where it got stuck, and why.

    `ref` is all that the listing knew of it; None if it is the listing that failed.
    """

    uri: str
    stage: Stage
    reason: str
    ref: ImageRef | None = None

    @classmethod
    def of(cls, image: ImageRef | str, stage: Stage, reason: object) -> Failure:
        """A failure, of an image or a URI, whose reason is one line that can be printed."""
        # File names that are not UTF-8 reach messages as lone surrogates.
        text = str(reason).encode("utf-8", "backslashreplace").decode()
        line = " ".join(text.split())[:MAX_REASON] or "no reason given"
        if isinstance(image, str):
            return cls(image, stage, line)
        return cls(image.uri, stage, line, image)

    def as_object(self) -> dict[str, Any]:
        """As a JSON object. A print is none, and is taken anew."""
        fields = asdict(self)
        if self.ref:
            del fields["ref"]["look"]
        return fields


@dataclass(frozen=True)
class KeptFailure:
    """A failure as it is kept: with the source that led to it, and when, in Unix seconds.

    `access` is how the image's object store was reached.
    """

    failure: Failure
    source: str
    at: float
    access: Access


def keep(
    collection: Collection,
    failures: Sequence[Failure],
    *,
    source: str,
    access: Access | None = None,
) -> None:
    """Keep failures with the collection, `MAX_KEPT` at the most.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    store, key = collection.store, _key(collection)
    room = MAX_KEPT - int(store.call("HLEN", key)) if failures else 0
    for part in _batches(failures[: max(room, 0)]):
        fields: list[Argument] = []
        for failure in part:
            fields += [failure.uri, _pack(failure, source, access or Access())]
        collection.partitions[0].note("HSET", "failures", *fields)


def kept(collection: Collection) -> list[KeptFailure]:
    """The failures that are kept, by URI.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    found = {failure.failure.uri: failure for failure in _scan(collection)}
    return [found[uri] for uri in sorted(found)]


def forget(collection: Collection, uris: Iterable[str | bytes]) -> None:
    """Forget the failures of these images, which are about to be indexed or are gone.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    for part in _batches(list(uris)):
        collection.partitions[0].note("HDEL", "failures", *part)


def forget_older(collection: Collection, *, source: str, than: float) -> None:
    """Forget what a source led to before a moment, in Unix seconds.

    For the end of an ingest of the whole source: what has not failed again is gone from there.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    old = [
        kept.failure.uri for kept in _scan(collection) if kept.source == source and kept.at < than
    ]
    forget(collection, old)


def forget_damaged(collection: Collection, *, only_count: bool = False) -> int:
    """Forget failures that cannot be read; returns how many.

    Args:
        only_count: leave them there.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    damaged = []
    for uri, packed in _stored(collection):
        try:
            _unpack(uri, packed, _key(collection))
        except StoreError:
            damaged.append(uri)
    if not only_count:
        forget(collection, damaged)
    return len(damaged)


def _key(collection: Collection) -> str:
    return collection.partitions[0].keys.failures


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _scan(collection: Collection) -> Iterator[KeptFailure]:
    for uri, packed in _stored(collection):
        yield _unpack(uri, packed, _key(collection))


def _stored(collection: Collection) -> Iterator[tuple[bytes, bytes]]:
    cursor = b"0"
    while True:
        cursor, pairs = collection.store.call("HSCAN", _key(collection), cursor, "COUNT", _BATCH)
        yield from pairs.items()
        if int(cursor) == 0:
            return


def _pack(failure: Failure, source: str, access: Access) -> bytes:
    ref = failure.as_object()["ref"]
    if ref:
        del ref["uri"]
    settings = access.of(failure.uri).settings
    fields = [failure.stage, failure.reason, source, time.time(), ref, settings]
    return json.dumps(fields, separators=(",", ":")).encode()


def _unpack(uri: bytes, packed: bytes, key: str) -> KeptFailure:
    try:
        name = uri.decode()
        stage, reason, source, at, ref, settings = json.loads(packed)
        if stage not in get_args(Stage) or any(len(setting) != 3 for setting in settings):
            raise ValueError("there is no such stage, or no such access")
        failure = Failure(name, stage, str(reason), ImageRef(name, **ref) if ref else None)
        return KeptFailure(failure, str(source), float(at), Access(tuple(map(tuple, settings))))
    # `RecursionError`: brackets without end.
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(key, f"what it says of {uri[:100]!r}") from error
