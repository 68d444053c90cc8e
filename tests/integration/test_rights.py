"""Tokens that are for some collections only; and aliases behind the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster.service.config import Tokens
from cluster.service.http.answers import image_id
from simdist.errors import UsageError
from simdist.index.dropping import drop
from simdist.index.names import remove_alias, set_alias
from simdist.store import Store, connect
from tests.callers import Caller
from tests.collections import create, ref, vectors
from tests.servers import empty

NAMES = ("public", "shop", "secret")
# What may be read, then what may be changed; None: everything.
BEARERS: dict[str, tuple[set[str] | None, set[str] | None]] = {
    "token-that-reads-all": (None, set()),
    "token-that-writes-all": (None, None),
    "token-that-reads-one": ({"shop"}, set()),
    "token-that-reads-two": ({"shop", "public"}, set()),
    "token-that-writes-one": ({"shop"}, {"shop"}),
    "token-that-does-both": ({"public", "shop"}, {"shop"}),
    "token-that-is-for-none": ({"other"}, set()),
}
FILE = """\
# who may do what
read token-that-reads-all
write token-that-writes-all
read token-that-reads-one shop
read token-that-reads-two shop
read token-that-reads-two public,nothing
write   token-that-writes-one shop
read token-that-does-both public
write token-that-does-both shop
read token-that-is-for-none other
"""


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    (tmp_path / "tokens").write_text(FILE)
    return Tokens.resolve(tmp_path / "tokens")


@pytest.fixture
def collections(valkey_url: str) -> Iterator[Store]:
    with closing(connect(valkey_url)) as store:
        empty(store)
        for number, name in enumerate(NAMES):
            first = 100 * number
            refs = [ref(i, label=name) for i in range(first, first + 50)]
            create(store, name).add(vectors(first + 50)[first:], refs)
        yield store


@pytest.mark.slow
def test_a_token_sees_its_collections_only(collections: Store, tokens: Tokens) -> None:
    caller = Caller(collections, tokens, NAMES)
    data = [float(value) for value in vectors(151)[150]]
    for token, (reads, _) in BEARERS.items():
        seen = [name for name in NAMES if reads is None or name in reads]
        listed = caller.ask(token, "GET", "/v1/collections").json()["collections"]
        assert [one["name"] for one in listed] == seen
        answers = []
        for name in (*NAMES, "none"):
            number = 100 * NAMES.index(name) if name in NAMES else 0
            requests = [
                caller.search(token, vector=data, collection=name),
                caller.search(token, uri=ref(number).uri, collection=name),
                caller.ask(
                    token,
                    "GET",
                    f"/v1/images/{image_id(ref(number).uri)}",
                    params={"collection": name},
                ),
                caller.ask(token, "GET", "/v1/browse", params={"collection": name}),
                caller.ask(token, "GET", "/v1/facets", params={"collection": name}),
            ]
            batch = {"queries": [{"vector": data, "collection": name}]}
            answer = caller.ask(token, "POST", "/v1/search/batch", json=batch).json()
            [result] = answer["results"]
            if name in seen:
                assert [request.status_code for request in requests] == [200] * 5
                browsed, facets = (request.json() for request in requests[3:])
                assert {image["label"] for image in browsed["images"]} == {name}
                assert (browsed["total"], facets["total"]) == (50, 50)
                assert facets["labels"] == [{"value": name, "count": 50}]
                assert {hit["label"] for hit in result["hits"]} == {name}
            else:
                assert [request.status_code for request in requests] == [404] * 5
                assert result["error"]["status"] == 404
                texts = [request.text for request in requests] + [str(result)]
                answers.append([text.replace(name, "...") for text in texts])
                assert not any(
                    other in text for text in texts for other in {*NAMES} - {*seen, name}
                )
        # One that it may not see is as one that there is not.
        assert all(answer == answers[-1] for answer in answers)
        by_default = caller.search(token, vector=data)
        assert by_default.status_code == (200 if seen else 404)
        if seen:
            assert by_default.json()["collection"] == seen[0]
        # They name all collections.
        assert (caller.ask(token, "GET", "/metrics").status_code == 403) == (reads is not None)


def test_a_token_changes_its_collections_only(collections: Store, tokens: Tokens) -> None:
    caller = Caller(collections, tokens, NAMES)
    for turn, (token, (reads, writes)) in enumerate(BEARERS.items()):
        for number, name in enumerate(NAMES):
            uri = ref(100 * number + turn).uri
            parameters = {"uri": uri, "collection": name}
            status = caller.ask(token, "DELETE", "/v1/images", params=parameters).status_code
            if writes is None or name in writes:
                assert status == 200
            elif not writes or (reads is None or name in reads):
                assert status == 403
            else:
                assert status == 404


def test_lines_that_are_no_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    for line in ("read", "readtoken-that-reads-all", "read token-that-reads-all a b", "other x"):
        file.write_text(line)
        with pytest.raises(UsageError, match="line 1 of"):
            Tokens.resolve(file)


def test_a_service_follows_its_aliases(collections: Store, tokens: Tokens) -> None:
    set_alias(collections, "live", "public")
    caller, token = Caller(collections, tokens, ("live",)), "token-that-writes-all"
    found = caller.search(token, uri=ref(5).uri).json()
    assert found["collection"] == "live"
    assert {hit["label"] for hit in found["hits"]} == {"public"}
    set_alias(collections, "live", "shop")
    found = caller.search(token, uri=ref(105).uri).json()
    assert {hit["label"] for hit in found["hits"]} == {"shop"}
    [listed] = caller.ask(token, "GET", "/v1/collections").json()["collections"]
    assert (listed["name"], listed["images"]) == ("live", 50)
    assert caller.ask(token, "GET", f"/v1/images/{image_id(ref(105).uri)}").status_code == 200
    gone = caller.ask(token, "DELETE", "/v1/images", params={"uri": ref(106).uri})
    assert gone.status_code == 200
    assert caller.search(token, uri=ref(106).uri).status_code == 404
    remove_alias(collections, "live")
    drop(collections, "shop")
    for _ in range(2):
        answer = caller.search(token, uri=ref(105).uri)
        assert answer.status_code == 409
        assert "there is no collection 'live'" in answer.json()["detail"]
