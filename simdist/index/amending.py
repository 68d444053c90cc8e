"""Labels and metadata changed, without the image being read or embedded again.

The image gets a new row, with the vector that it has, as if it had been replaced: so every searcher
notices by what it asks anyway, and what has been built on rows stays right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from simdist.errors import UsageError
from simdist.index.batch import COMMIT_BATCH
from simdist.index.collection import Collection
from simdist.index.commit import commit_batch
from simdist.index.current import Current
from simdist.index.partition import Partition
from simdist.index.scrolling import EVERYTHING, Choice
from simdist.sources.reference import ImageRef
from simdist.store import layout
from simdist.store.records import Record


@dataclass(frozen=True)
class Amendment:
    """What is to be changed of an image.

    Attributes:
        label: the new one; None leaves it, as long as `unlabel` does not take it away.
        metadata: merged into what there is, as RFC 7386 has it: what is None goes.
    """

    label: str | None = None
    unlabel: bool = False
    metadata: Mapping[str, Any] | None = None

    def applied(self, record: Record) -> Record:
        """The record as it is to be."""
        label = None if self.unlabel else record.label if self.label is None else self.label
        metadata = _merged(record.metadata, self.metadata or {})
        return replace(record, label=label, metadata=metadata)


def amend(
    collection: Collection,
    uris: Iterable[str],
    amendment: Amendment,
    *,
    choice: Choice = EVERYTHING,
) -> int:
    """Change what is said of images; unknown ones are passed over. Returns how many there were.

    Each is changed as it is at that moment: what somebody else writes meanwhile is not undone.

    Args:
        choice: those that it does not mean, at that moment, are passed over, too.

    Raises:
        UsageError: what an image would be called cannot be stored (`ImageRef.flaw`); images before
            it may be changed already.
        StoreError: the server cannot be reached or refuses.
    """
    collection.store.keeping.require_memory()
    changed, left = 0, iter(dict.fromkeys(uris))
    while some := list(islice(left, COMMIT_BATCH)):
        for partition, members in collection.spread(some):
            digests = [layout.uri_digest(some[i]) for i in members.tolist()]
            changed += _amend(partition, digests, amendment, choice)
    return changed


def _amend(
    partition: Partition, digests: Sequence[bytes], amendment: Amendment, choice: Choice
) -> int:
    """Of one partition; what has changed between reading and writing is read again."""
    there, left = 0, list(digests)
    while left:
        found = Current.read(partition, left).chosen(choice)
        wanted = [amendment.applied(record) for record in found.records]
        _check(wanted)
        same = [old == new for old, new in zip(found.records, wanted, strict=True)]
        there += sum(same)
        changes = np.flatnonzero(~np.array(same, np.bool_))
        left = found.moved
        if len(changes):
            batch = found.batch([wanted[i] for i in changes.tolist()], changes)
            written = np.frombuffer(commit_batch(partition, batch, force=True), np.uint8)
            there += int((written == ord("~")).sum())
            left += [found.digests[i] for i in changes[written == ord("=")].tolist()]
    return there


def _check(records: Iterable[Record]) -> None:
    for record in records:
        ref = ImageRef(record.uri, "", 0, record.label, metadata=record.metadata)
        if flaw := ref.flaw():
            raise UsageError(f"{record.uri[:100]} cannot be changed so: {flaw}")


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> Mapping[str, Any]:
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            before = merged.get(name)
            merged[name] = _merged(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged
