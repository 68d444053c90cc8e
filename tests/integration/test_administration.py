"""Images and whole collections over HTTP: listed, changed, named, copied, dropped; by a client."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import simdist
from cluster.service import images as limits
from cluster.service.config import Tokens
from cluster.service.http.answers import image_id
from simdist.errors import CollectionError, ServiceError, UnknownCollectionError, UnknownImageError
from simdist.index import catalogue, copying
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.dropping import drop
from simdist.index.names import Names, rename, set_alias
from simdist.store import Store, connect, layout
from tests.callers import Caller, application, asking, labels, serving
from tests.collections import create, ref, vectors
from tests.conftest import ROOT
from tests.index_contents import contents
from tests.servers import empty, eventually, keys

PAGE = (ROOT / "docs" / "collections.md").read_text()
NAMES = ("shop", "shop-2", "live", "trial")
READS, WRITES, SOME = "token-that-reads-all", "token-that-writes-all", "token-that-writes-some"


@pytest.fixture
def store(valkey_url: str) -> Iterator[Store]:
    with closing(connect(valkey_url)) as store:
        empty(store)
        create(store, "shop", partitions=2).add(
            vectors(60), [ref(i, label=f"l{i % 3}") for i in range(60)]
        )
        yield store


@pytest.fixture
def client(store: Store) -> Iterator[simdist.Client]:
    with serving(application(store, NAMES)) as url, simdist.Client(url) as client:
        yield client


@pytest.fixture
def caller(store: Store, tmp_path: Path) -> Caller:
    (tmp_path / "tokens").write_text(
        f"read {READS}\nwrite {WRITES}\nread {SOME} shop,live\nwrite {SOME} trial,shop-2\n"
    )
    return Caller(store, Tokens.resolve(tmp_path / "tokens"), (*NAMES, "secret"))


def test_images_page_by_page(
    client: simdist.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simdist.search.administration._PAGE", 7)
    shown = list(client.images())
    assert sorted(one["uri"] for one in shown) == sorted(ref(i).uri for i in range(60))
    assert shown[0]["id"] == image_id(shown[0]["uri"])
    monkeypatch.setattr(limits, "LOOKED_AT", 5)
    for asked, numbers in (
        ({"labelled": "l1"}, range(1, 60, 3)),
        ({"prefix": ref(1).uri[:-4]}, [1, *range(10, 20)]),
        ({"where": 'label = "l2" or label = "l1"'}, [i for i in range(60) if i % 3]),
        ({"where": "price < 3"}, []),
    ):
        found = [one["uri"] for one in client.images(**asked)]
        assert sorted(found) == sorted(ref(i).uri for i in numbers)
    with pytest.raises(ServiceError, match="the filter is not understood"):
        list(client.images(where="price ~ 3"))
    with pytest.raises(UnknownCollectionError):
        list(client.images(collection="other"))
    one = client.image(ref(3).uri, vector=True)
    assert np.allclose(one["vector"], vectors(4)[3], atol=1e-2)
    assert client.image(ref(3).uri)["vector"] is None


def test_images_are_changed_and_deleted(
    client: simdist.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Collection.open(store, "shop")
    uri = ref(4).uri
    assert client.amend(uri, metadata={"a": 1, "b": {"c": 2}})["label"] == "l1"
    changed = client.amend(uri, label=None, metadata={"b": {"c": None}})
    assert (changed["label"], changed["metadata"]) == (None, {"a": 1, "b": {}})
    with pytest.raises(UnknownImageError):
        client.amend("file:///none.jpg", label="x")
    for change in ({}, {"label": 3}, {"metadata": {"x": "y" * 17_000}}, {"other": 1}):
        with pytest.raises(ServiceError) as refused:
            client.amend(uri, **change)
        assert refused.value.status == 422
    # Some at a time, though what is changed comes again, behind the others.
    monkeypatch.setattr(limits, "LOOKED_AT", 9)
    monkeypatch.setattr(limits, "CHANGED", 4)
    assert client.amend_chosen(labelled="l2", metadata={"sale": True}) == 20
    assert client.amend_chosen(where="sale = true", metadata={"sale": True}) == 0
    assert len(list(client.images(where="sale = true"))) == 20
    assert client.amend_chosen(where="sale = true", label="sold") == 20
    assert client.delete_chosen(where='label = "sold" and sale = true') == 20
    assert contents(collection) == sorted(ref(i).uri for i in range(60) if i % 3 != 2)
    assert client.delete(uri)
    assert not client.delete(uri)
    for choose in (client.delete_chosen, client.amend_chosen):
        with pytest.raises(ServiceError, match="say wh"):
            choose()
    assert collection.count() == 39


def test_what_has_just_gone_or_was_made_anew_is_listed_as_it_is(
    client: simdist.Client, store: Store
) -> None:
    [listed] = client.collections()
    drop(store, listed["name"])
    assert client.collections() == []
    create(store, listed["name"]).add(vectors(3), [ref(i) for i in range(3)])
    [again] = client.collections()
    assert (again["name"], again["images"]) == (listed["name"], 3)


def test_one_of_another_layout_does_not_hide_the_others(
    client: simdist.Client, caller: Caller, store: Store
) -> None:
    create(store, "trial")
    client.collections()
    store.call("HSET", layout.Keys("trial").meta, "version", layout.VERSION + 1)
    # Whoever has opened it goes by what it was.
    assert [one["name"] for one in client.collections()] == ["shop", "trial"]
    answer = caller.ask(READS, "GET", "/v1/collections").json()
    assert [one["name"] for one in answer["collections"]] == ["shop"]
    [one] = answer["unreadable"]
    assert one["name"] == "trial"
    assert "a newer simdist made it" in one["problem"]
    asked = caller.ask(READS, "GET", "/v1/images", params={"collection": "trial"})
    assert (asked.status_code, asked.json()["detail"]) == (409, one["problem"])


def test_what_is_none_of_these_requests(caller: Caller) -> None:
    path = "/v1/images"
    for method, options, status in (
        ("DELETE", {}, 422),
        ("DELETE", {"uri": "a", "prefix": "b"}, 422),
        ("DELETE", {"prefix": ""}, 422),
        ("DELETE", {"where": "a ="}, 422),
        ("DELETE", {"label": "x", "after": "no-cursor"}, 422),
        ("DELETE", {"label": "x", "after": "9-0"}, 422),
        ("GET", {"n": 1001}, 422),
        ("GET", {"n": 0}, 422),
        ("GET", {"other": 0}, 422),
        ("PATCH", {"label": "x"}, 415),
    ):
        answer = caller.ask(WRITES, method, path, params=options)
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        ), (method, options, answer.text)


def test_collections_are_named_copied_and_dropped(client: simdist.Client, store: Store) -> None:
    client.copy("shop", "trial")
    assert contents(Collection.open(store, "trial")) == sorted(ref(i).uri for i in range(60))
    client.rename("trial", "shop-2")
    client.alias("live", "shop")
    shown = {one["name"]: one for one in client.collections()}
    assert sorted(shown) == ["live", "shop", "shop-2"]
    assert (shown["live"]["alias_of"], shown["shop"]["alias_of"]) == ("shop", None)
    assert client.search(uri=ref(1).uri, collection="live")[0].uri == ref(1).uri
    client.delete(ref(1).uri, collection="shop-2")
    client.alias("live", "shop-2")
    with pytest.raises(UnknownImageError):
        client.search(uri=ref(1).uri, collection="live")
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: client.drop("shop-2"), "the alias 'live' leads to 'shop-2'"),
        (lambda: client.drop("live"), "'live' is an alias of 'shop-2'"),
        (lambda: client.rename("shop", "shop-2"), "there is a collection 'shop-2' already"),
        (lambda: client.copy("trial", "shop-2"), "no collection 'trial'"),
        (lambda: client.copy("shop", "shop-2"), "there is a collection 'shop-2' already"),
        (lambda: client.remove_alias("shop"), "there is no alias 'shop'"),
    ]
    for change, message in refusals:
        with pytest.raises(ServiceError, match=message) as refused:
            change()
        assert refused.value.status == 409
    with pytest.raises(UnknownCollectionError):
        client.rename("shop", "elsewhere")
    client.remove_alias("live")
    for name in ("shop", "shop-2"):
        client.drop(name)
    assert client.collections() == []
    assert keys(store, "*") == []


def test_a_copy_is_begun_once(caller: Caller, store: Store) -> None:
    """Whoever else asks is told, for two that write the same would undo each other's work."""
    begun = copying.begin_copy(store, "shop", "trial")
    answer = caller.ask(WRITES, "POST", "/v1/collections/shop/copy", json={"to": "trial"})
    assert answer.status_code == 409
    assert "is being made already" in answer.json()["detail"]
    work = [{"doing": "copy", "name": "trial", "source": "shop"}]
    assert caller.ask(READS, "GET", "/v1/collections").json()["work"] == work
    copying.finish(store, begun)
    assert caller.ask(READS, "GET", "/v1/collections").json()["work"] == []


def test_a_token_changes_only_what_is_its_own(caller: Caller, store: Store) -> None:
    create(store, "secret").add(vectors(2), [ref(0), ref(1)])
    create(store, "not-served").add(vectors(2), [ref(0), ref(1)])
    create(store, "trial").add(vectors(2), [ref(0), ref(1)])
    set_alias(store, "hidden", "trial")
    before = Names.read(store)

    def ask(token: str, method: str, path: str, to: str | None = None) -> tuple[int, str]:
        options = {} if to is None else {"json": {"to": to}}
        answer = caller.ask(token, method, f"/v1/{path}", **options)
        return answer.status_code, answer.json()["detail"]

    all_of_them = [
        ("POST", "collections/{}/rename", "shop-2"),
        ("POST", "collections/{}/copy", "shop-2"),
        ("DELETE", "collections/{}", None),
        ("PUT", "aliases/{}", "trial"),
        ("DELETE", "aliases/{}", None),
    ]
    for method, path, to in all_of_them:
        assert ask(READS, method, path.format("shop"), to)[0] == 403
        if "copy" not in path:
            assert ask(SOME, method, path.format("shop"), to)[0] == 403
        told = [
            (status, detail.replace(name, "..."))
            for name in ("secret", "not-served", "none")
            for status, detail in [ask(SOME, method, path.format(name), to)]
        ]
        assert told[0][0] == 404
        assert set(told) == {told[0]}
        # Nor does whoever may do everything here reach what is not served here.
        assert ask(WRITES, method, path.format("not-served"), to)[0] == 404
    for method, path in (("POST", "collections/trial/rename"), ("PUT", "aliases/shop-2")):
        assert ask(SOME, method, path, "secret")[0] == 404
        assert ask(SOME, method, path, "live")[0] == 403
    # What stands in the way is not named, where it is none of theirs.
    status, detail = ask(SOME, "DELETE", "collections/trial")
    assert status == 409
    assert "hidden" not in detail
    assert "another name" in detail
    after = Names.read(store)
    assert (after.leads, after.homes) == (before.leads, before.homes)
    shown = caller.ask(SOME, "GET", "/v1/collections").json()
    assert [one["name"] for one in shown["collections"]] == ["shop", "trial"]
    # What it may see it may copy, as it may read it.
    asked = caller.ask(SOME, "POST", "/v1/collections/shop/copy", json={"to": "shop-2"})
    assert asked.status_code == 202
    eventually(lambda: "shop-2" in catalogue.names(store))


def test_reading_tokens_change_no_image(caller: Caller, store: Store) -> None:
    amend(Collection.open(store, "shop"), [ref(1).uri], Amendment(metadata={"a": 1}))
    one = f"/v1/images/{image_id(ref(1).uri)}"
    for token in (READS, SOME):
        for method, path, options in (
            ("PATCH", one, {"json": {"label": "x"}}),
            ("PATCH", "/v1/images", {"json": {"label": "x"}, "params": {"where": "a = 1"}}),
            ("DELETE", "/v1/images", {"params": {"where": "a = 1"}}),
        ):
            more = {"params": options.pop("params", {}) | {"collection": "shop"}}
            assert caller.ask(token, method, path, **options, **more).status_code == 403
    assert caller.ask(READS, "GET", "/v1/images", params={"where": "a = 1"}).json()["images"]
    kept = Collection.open(store, "shop").get(ref(1).uri)
    assert kept is not None
    assert kept.label == "l1"
    assert catalogue.names(store) == ["shop"]


@pytest.mark.slow
def test_an_alias_is_switched_while_many_ask(store: Store) -> None:
    """20 times, over HTTP: no answer fails, and none is of both."""
    for name in ("shop-2", "trial"):
        made = create(store, name, partitions=2)
        made.add(vectors(600), [ref(i, label=name) for i in range(600)])
    set_alias(store, "live", "trial")
    body = {"vector": vectors(1)[0].tolist(), "n": 20, "collection": "live"}
    app = application(store, NAMES, max_staleness=0.05)
    with serving(app) as url, simdist.Client(url) as client, asking(url, body) as answers:
        for turn in range(20):
            more = len(answers) + 100
            client.alias("live", ("shop-2", "trial")[turn % 2])
            eventually(partial(lambda more: len(answers) > more, more))
    assert labels(answers) == {(200, ("shop-2",)), (200, ("trial",))}


@pytest.mark.slow
def test_a_collection_is_dropped_while_many_use_it(store: Store) -> None:
    """Clear answers to searches, pages and an ingest, and nothing left in Redis."""
    told: list[str] = []

    def ingest() -> None:
        with closing(connect(store.url)) as mine:
            collection = Collection.open(mine, "shop")
            for number in itertools.count(1000, 50):
                try:
                    some = [ref(i) for i in range(number, number + 50)]
                    collection.add(vectors(50, seed=number), some)
                except CollectionError as error:
                    told.append(str(error))
                    return

    def page(url: str) -> None:
        with simdist.Client(url) as client:
            while True:
                try:
                    list(client.images(collection="shop"))
                except ServiceError as error:
                    told.append(f"{error.status} {error}")
                    return

    body = {"vector": vectors(1)[0].tolist(), "collection": "shop"}
    with serving(application(store, NAMES)) as url, simdist.Client(url) as client:
        others = [threading.Thread(target=ingest), threading.Thread(target=page, args=(url,))]
        for thread in others:
            thread.start()
        with asking(url, body, clients=8) as answers:
            eventually(lambda: len(answers) > 100)
            client.drop("shop")
            before = len(answers)
            eventually(lambda: len(answers) > before + 100)
        for thread in others:
            thread.join()
    assert {status for status, _ in answers} == {200, 409}
    assert answers[-1][0] == 409
    said = {answer["detail"] for status, answer in answers if status == 409} | {*told}
    assert len(told) == 2
    assert [
        text for text in said if not re.search("'shop' is gone|no collection 'shop'", text)
    ] == []
    assert keys(store, "*") == []


def test_the_page_shows_what_works(store: Store) -> None:
    """docs/collections.md: each curl, then Python, against what they are about."""
    rename(store, "shop", "shop-1")
    uri = next(image.uri for image in Collection.open(store, "shop-1").images())
    commands = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 11
    [shown] = set(re.findall(r"images/([0-9a-f]{24})", PAGE))
    [code] = re.findall(r"```python\n(with simdist.Client.*?)```", PAGE, re.DOTALL)
    here = "http://127.0.0.1:8000"
    with serving(application(store, ("live", "shop-1", "shop-2", "shop-3"))) as url:
        answers = []
        for command in commands:
            line = command.replace(here, url).replace(shown, image_id(uri))
            eventually(lambda: not Names.read(store).work())
            done = subprocess.run(  # noqa: S602 - as a reader runs it
                line.replace("curl ", "curl -sS -f ", 1),
                shell=True,
                check=True,
                capture_output=True,
                text=True,
            )
            answers.append(json.loads(done.stdout))
        assert [answers[i].get(key) for i, key in ((3, "changed"), (4, "deleted"))] == [1, 1]
        assert catalogue.names(store) == ["shop-2"]
        rename(store, "shop-2", "shop-1")
        exec(compile(code.replace(here, url), "page", "exec"), {"simdist": simdist})  # noqa: S102
    after = Names.read(store)
    assert (list(after.collections), after.aliases) == (["shop-2"], {"live": "shop-2"})
