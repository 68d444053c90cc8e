"""Several ingests into one collection at once, and searches meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simdist.embedding import Embedder, Model
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import uri_path
from tests.cluster.conftest import assert_holds_exactly, refs_of, without_servers
from tests.conftest import PHOTOS


@pytest.mark.timeout(300)
def test_two_ingests_and_searches_do_not_disturb_each_other(
    collection: Collection, model: Model, tmp_path: Path
) -> None:
    refs = refs_of(PHOTOS)
    ingests = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "simdist", "ingest", str(place)),
                *("-c", collection.name, "--model", "efficientnet-lite0"),
                *("--redis", collection.store.url, "--actors", "1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=without_servers(),
        )
        # The second is in the first.
        for place in (PHOTOS, PHOTOS / "fish")
    ]
    [query] = Embedder(model).embed_files([uri_path(refs[0].uri)])
    known = {ref.uri for ref in refs}
    searcher, searches = Searcher(collection, max_staleness=0.0), 0
    while any(process.poll() is None for process in ingests):
        if not collection.is_fitted():
            continue
        hits = searcher.search(query, n=200, probes=1000)
        searches += 1
        uris = [hit.uri for hit in hits]
        assert len(set(uris)) == len(uris)
        assert set(uris) <= known
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for process in ingests:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert searches
    assert_holds_exactly(collection, refs)
    assert {hit.uri for hit in searcher.search(query, n=200, probes=1000)} == known
