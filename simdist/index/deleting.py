"""Images taken out because of what is stored of them, as it is when they are taken out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from simdist.index.batch import COMMIT_BATCH
from simdist.index.collection import Collection
from simdist.index.current import Current
from simdist.index.scrolling import Choice
from simdist.store import layout


def delete_chosen(collection: Collection, uris: Iterable[str], choice: Choice) -> int:
    """Delete those of these images that are meant at that moment. Returns how many there were.

    What somebody else has changed so that it is not meant any more stays.

    Raises:
        StoreError: the server cannot be reached or refuses.
    """
    deleted, given = 0, iter(dict.fromkeys(uris))
    while some := list(islice(given, COMMIT_BATCH)):
        for partition, members in collection.spread(some):
            left = [layout.uri_digest(some[i]) for i in members.tolist()]
            while left:
                found = Current.read(partition, left)
                meant = found.chosen(choice)
                done = partition.delete(meant.digests, expected=meant.rows)
                deleted += done.count(b"-")
                # Changed since it was read: it is looked at again.
                marks = zip(meant.digests, done, strict=True)
                left = found.moved + [one for one, mark in marks if mark == ord("=")]
    return deleted
