"""A server that drops keys when its memory is full: images would get lost without a word."""

from __future__ import annotations

from contextlib import closing, nullcontext

import pytest

from simdist.errors import StoreError
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.store import connect
from tests.collections import create, ref, vectors
from tests.servers import empty


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "noeviction"])
def test_a_server_that_drops_keys_is_not_written_to(valkey_url: str, policy: str) -> None:
    drops = policy.startswith("allkeys")
    with closing(connect(valkey_url)) as store:
        empty(store)
        create(store).add(vectors(20), [ref(i) for i in range(20)])
        store.call("CONFIG", "SET", "maxmemory-policy", policy)
        try:
            with closing(connect(valkey_url)) as other:
                collection = Collection.open(other, "test")
                # What is there can be searched.
                assert Searcher(collection).search(vectors(20)[3], n=1)[0].uri == ref(3).uri
                with pytest.raises(StoreError, match=policy) if drops else nullcontext():
                    collection.add(vectors(1), [ref(30)])
                with pytest.raises(StoreError, match=policy) if drops else nullcontext():
                    create(other, "another")
                assert len(collection) == (20 if drops else 21)
        finally:
            store.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
