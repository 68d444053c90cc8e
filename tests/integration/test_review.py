"""Duplicates over HTTP: found once, gone through, decided about, removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import pytest

from cluster.service.config import Tokens, token_digest
from simdist.errors import CollectionError
from simdist.index.collection import Collection
from simdist.joining import review
from simdist.joining.decisions import Decisions, forget_decisions
from simdist.joining.duplicates import Sought, find_duplicates
from simdist.joining.keeping import Keep
from simdist.joining.removing import mark, remove_marked
from simdist.joining.review import Review
from simdist.sources import ImageRef
from simdist.store import Store, connect
from tests.callers import Caller
from tests.collections import create, vectors
from tests.servers import empty, eventually

READ, WRITE, OTHER = "token-that-reads-all", "token-that-writes-all", "token-for-the-other"
TOKENS = Tokens(
    read=tuple(map(token_digest, (READ, OTHER))),
    write=(token_digest(WRITE),),
    only=(("read", token_digest(OTHER), ("other",)),),
)
GROUPS = 12


def uri(group: int, member: int) -> str:
    return f"file:///photos/{'ab' if member % 2 else 'a'}/{group:03}-{member}.jpg"


def copy_of(group: int, member: int, version: str = "1") -> ImageRef:
    """The later a copy, the larger and the older it is."""
    facts = {"width": 100 * (1 + member), "height": 100, "bytes": 10 + member, "format": "JPEG"}
    facts["date"] = f"202{9 - member}-01-01T00:00:00"
    return ImageRef(uri(group, member), version, 10, "things", metadata=facts)


@pytest.fixture
def copies(valkey_url: str) -> Iterator[Collection]:
    """Groups of three equal vectors each, and others that are like nothing."""
    store = connect(valkey_url)
    empty(store)
    collection = create(store, "copies")
    create(store, "other")
    originals = vectors(GROUPS + 50)
    refs = [copy_of(group, member) for group in range(GROUPS) for member in range(3)]
    collection.add(np.repeat(originals[:GROUPS], 3, axis=0), refs)
    collection.add(originals[GROUPS:], [copy_of(900 + i, 0) for i in range(50)])
    yield collection
    store.close()


@pytest.fixture
def caller(copies: Collection) -> Caller:
    return started(copies.store)


def started(store: Store) -> Caller:
    """A service, as it is when it has just been started."""
    return Caller(store, TOKENS, ("copies", "other"))


def page(caller: Caller, token: str = READ, **options: Any) -> dict[str, Any]:
    answer = caller.ask(token, "GET", "/v1/duplicates", params=options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def find(caller: Caller, **wanted: Any) -> dict[str, Any]:
    """Find the duplicates, and wait until they are there."""
    answer = caller.ask(READ, "POST", "/v1/duplicates", json=wanted)
    assert answer.status_code == 202, answer.text
    eventually(lambda: page(caller, **wanted)["state"] == "done")
    return page(caller, **wanted)


def post(caller: Caller, path: str, token: str = WRITE, **given: Any) -> dict[str, Any]:
    answer = caller.ask(token, "POST", f"/v1/duplicates/{path}", json=given)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def decided(found: dict[str, Any]) -> dict[str, str]:
    """What is decided, by URI."""
    images = [one for group in found["page"] for one in group["images"]]
    return {one["uri"]: one["decided"] for one in images if one["decided"]}


def kept(found: dict[str, Any]) -> list[list[str]]:
    return [[one["uri"] for one in group["images"] if one["keep"]] for group in found["page"]]


class TestPages:
    def test_they_are_those_of_the_command(self, caller: Caller, copies: Collection) -> None:
        assert page(caller)["state"] == "none"
        found = find(caller)
        assert (found["images"], found["groups"], found["left_out"]) == (GROUPS * 3 + 50, GROUPS, 0)
        assert (found["collection"], found["outdated"]) == ("copies", False)
        groups = find_duplicates(copies).groups()
        expected = [[asdict(one) for one in group] for group in groups]
        assert [one["number"] for one in found["page"]] == [*range(GROUPS)]
        for group, its in zip(found["page"], expected, strict=True):
            fields = ("uri", "score", "representative", "kind", "keep")
            assert [{name: one[name] for name in fields} for one in group["images"]] == [
                {name: one[name] for name in fields} for one in its
            ]
        [first, *_] = found["page"][0]["images"]
        assert first["facts"] == {
            **{"width": 300, "height": 100, "bytes": 12, "format": "JPEG"},
            "date": "2027-01-01T00:00:00",
        }
        assert (first["label"], first["state"], first["protected"]) == ("things", "there", False)
        parts = [page(caller, offset=offset, n=5)["page"] for offset in (0, 5, 10, 15)]
        assert [len(part) for part in parts] == [5, 5, 2, 0]
        assert [*chain.from_iterable(parts)] == found["page"]

    def test_a_rule_says_which_is_kept(self, caller: Caller) -> None:
        find(caller)
        for rule, member in (("largest", 2), ("oldest", 2), ("newest", 0), ("path", 0)):
            assert kept(page(caller, keep=rule)) == [[uri(g, member)] for g in range(GROUPS)]

    def test_what_is_known_is_found_once(
        self, caller: Caller, copies: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = find(caller)
        monkeypatch.setattr("cluster.service.finder.find_duplicates", None)
        assert find(caller) == before
        monkeypatch.undo()
        copies.add(vectors(2, seed=5), [copy_of(990, 0), copy_of(991, 0)])
        assert page(caller)["outdated"]
        assert find(caller)["images"] == before["images"] + 2
        assert not page(caller)["outdated"]

    def test_a_threshold_is_another_question(self, caller: Caller) -> None:
        find(caller, threshold=0.5)
        assert page(caller, sought="same")["state"] == "none"
        assert page(caller, threshold=0.5)["groups"] == GROUPS
        assert find(caller, collection="other")["groups"] == 0

    def test_too_many_are_left_out(
        self, copies: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(review, "MAX_IMAGES", 7)
        found = find_duplicates(copies)
        reviewed = Review(found, found.groups())
        assert (reviewed.total, reviewed.left_out) == (2, GROUPS - 2)

    def test_it_can_be_stopped(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def endless(_: Collection, *, on_progress: Any) -> None:
            while True:
                on_progress("comparing", 3, 10)

        monkeypatch.setattr("cluster.service.finder.find_duplicates", endless)
        caller.ask(READ, "POST", "/v1/duplicates", json={})
        eventually(lambda: page(caller)["doing"] == "comparing")
        assert (page(caller)["done"], page(caller)["total"]) == (3, 10)
        # Others wait for their turn.
        answer = caller.ask(READ, "POST", "/v1/duplicates", json={"sought": "same"})
        assert answer.json()["state"] == "waiting"
        assert caller.ask(READ, "DELETE", "/v1/duplicates").status_code == 403
        assert caller.ask(WRITE, "DELETE", "/v1/duplicates").json()["state"] == "cancelled"
        eventually(lambda: page(caller, sought="same")["state"] == "running")
        caller.ask(WRITE, "DELETE", "/v1/duplicates", params={"sought": "same"})
        monkeypatch.undo()
        assert find(caller)["groups"] == GROUPS

    def test_a_failure_is_told(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(_: Collection, *, on_progress: Any) -> None:
            raise OSError("10.0.0.1 does not answer")

        monkeypatch.setattr("cluster.service.finder.find_duplicates", failing)
        caller.ask(READ, "POST", "/v1/duplicates", json={})
        eventually(lambda: page(caller)["state"] == "failed")
        assert "10.0.0.1" not in page(caller)["detail"]


class TestDecisions:
    def test_they_are_there_after_a_restart_and_for_the_command(
        self, caller: Caller, copies: Collection
    ) -> None:
        find(caller)
        post(caller, "decisions", keep=[uri(0, 1)], remove=[uri(1, 0), uri(1, 1)])
        post(caller, "decisions", apart=[[uri(2, 0), uri(2, 2)], [uri(2, 2), uri(2, 1)]])
        expected = {uri(0, 1): "keep", uri(1, 0): "remove", uri(1, 1): "remove"}
        expected |= {uri(2, 0): "apart", uri(2, 1): "apart"}
        assert decided(page(caller)) == expected
        again = started(copies.store)
        assert decided(find(again)) == {
            key: what for key, what in expected.items() if what != "apart"
        }
        groups = find_duplicates(copies).groups(keep=Keep.largest)
        by_uri = {one.uri: one for group in groups for one in group}
        assert [by_uri[uri(0, member)].keep for member in range(3)] == [False, True, False]
        assert [by_uri[uri(1, member)].keep for member in range(3)] == [False, False, True]
        # What is apart from the first is still like each other.
        assert by_uri[uri(2, 0)].group == by_uri[uri(2, 1)].group
        assert uri(2, 2) not in by_uri

    def test_they_can_be_taken_back(self, caller: Caller, copies: Collection) -> None:
        found = find(caller)
        given: dict[str, Any] = {
            "keep": [uri(0, 1)],
            "remove": [uri(1, 0)],
            "apart": [[uri(2, 0), uri(2, 2)]],
        }
        assert post(caller, "decisions", **given) == {"decided": 3}
        assert len(decided(page(caller))) == 3
        assert post(caller, "decisions", **given, undo=True) == {"decided": 3}
        assert page(caller) == found
        assert Decisions.read(copies) == Decisions()

    def test_the_later_one_counts(self, caller: Caller) -> None:
        find(caller)
        post(caller, "decisions", keep=[uri(0, 1)])
        post(caller, "decisions", remove=[uri(0, 1)])
        assert decided(page(caller)) == {uri(0, 1): "remove"}
        post(caller, "decisions", keep=[uri(0, 1)])
        assert decided(page(caller)) == {uri(0, 1): "keep"}

    def test_a_whole_group_may_go(self, caller: Caller, copies: Collection) -> None:
        find(caller)
        post(caller, "decisions", remove=[uri(0, member) for member in range(3)])
        assert kept(page(caller, n=1)) == [[]]
        [first, *_] = find_duplicates(copies).groups()
        assert not any(one.keep for one in first)

    def test_references_are_always_kept(self, caller: Caller, copies: Collection) -> None:
        Decisions(references=("file:///photos/ab/",)).add_to(copies)
        [first, *_] = find(caller)["page"]
        assert [one["protected"] for one in first["images"]] == [False, False, True]
        assert kept(page(caller, n=1)) == [[uri(0, 1)]]
        mark(copies, [uri(0, 0), uri(0, 1)])
        assert remove_marked(copies) == (1, 1, 0)

    @pytest.mark.parametrize(
        "given",
        [
            {"keep": ["\u00e4"]},
            {"apart": [["a", "a"]]},
            {"apart": [["a"]]},
            {"remove": [""]},
            {"remove": ["x"] * 1001},
            {"more": 1},
        ],
    )
    def test_what_cannot_be_decided(self, caller: Caller, given: dict[str, Any]) -> None:
        answer = caller.ask(WRITE, "POST", "/v1/duplicates/decisions", json=given)
        assert answer.status_code == 422

    def test_what_is_not_indexed_is_not_marked(self, caller: Caller) -> None:
        assert post(caller, "decisions", remove=["file:///none.jpg"]) == {"decided": 0}


class TestRules:
    def test_all_groups_page_by_page(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(review, "MARKED", 5)
        find(caller)
        # What is decided stays.
        post(caller, "decisions", keep=[uri(0, 1)], apart=[[uri(1, 0), uri(1, 2)]])
        post(caller, "decisions", remove=[uri(2, 0)])
        counted = counts(caller, keep="largest")
        assert counted == {"marked": 1, "undecided": GROUPS, "first": 0, "proposed": 22}
        marked: list[str] = []
        offset: int | None = 0
        while offset is not None:
            said = post(caller, "decisions/by-rule", keep="largest", offset=offset)
            marked, offset = marked + said["marked"], said["next"]
        expected = {uri(g, member) for g in range(3, GROUPS) for member in (0, 1)}
        expected |= {uri(0, 0), uri(0, 2), uri(1, 1), uri(2, 1)}
        assert (set(marked), len(marked)) == (expected, 22)
        assert counts(caller, keep="largest") == {
            **{"marked": 23, "undecided": 0, "first": None, "proposed": 0}
        }
        post(caller, "decisions", remove=marked, undo=True)
        assert counts(caller)["marked"] == 1

    def test_where_to_go_on(self, caller: Caller) -> None:
        find(caller)
        post(caller, "decisions", remove=[uri(0, 0), uri(0, 1)])
        assert counts(caller)["first"] == 1
        assert counts(caller, offset=7)["first"] == 7

    def test_nothing_is_marked_before_it_is_found(self, caller: Caller) -> None:
        for method, path in (("GET", "counts"), ("POST", "decisions/by-rule")):
            options: dict[str, Any] = {"json": {}} if method == "POST" else {}
            answer = caller.ask(WRITE, method, f"/v1/duplicates/{path}", **options)
            assert answer.status_code == 409
            assert "not found yet" in answer.json()["detail"]

    def test_a_rule_needs_what_it_asks_for(self, caller: Caller, copies: Collection) -> None:
        plain = [ImageRef(f"urn:{name}", "1", 1, None) for name in "ab"]
        other = Collection.open(copies.store, "other")
        other.add(np.repeat(vectors(1), 2, axis=0), plain)
        find(caller, collection="other")
        parameters = {"collection": "other", "keep": "oldest"}
        answer = caller.ask(READ, "GET", "/v1/duplicates/counts", params=parameters)
        assert answer.status_code == 422
        assert "needs the dates" in answer.json()["detail"]


class TestRemoval:
    def test_what_is_marked_goes_and_nothing_else(self, caller: Caller, copies: Collection) -> None:
        before = len(copies)
        find(caller)
        post(caller, "decisions", remove=[uri(0, 1), uri(0, 2), uri(1, 1), uri(2, 2)])
        # One shows something else by now, one is gone.
        copies.add(vectors(1, seed=9), [copy_of(1, 1, version="2")])
        copies.delete([uri(2, 2)])
        assert post(caller, "removal") == {"deleted": 2, "left": 2, "marked": 0}
        assert len(copies) == before - 3
        found = page(caller)
        states = {one["uri"]: one["state"] for one in found["page"][0]["images"]}
        assert states == {uri(0, 0): "there", uri(0, 1): "gone", uri(0, 2): "gone"}
        assert found["outdated"]
        assert Decisions.read(copies) == Decisions()
        assert find(caller)["groups"] == GROUPS - 1
        assert post(caller, "removal") == {"deleted": 0, "left": 0, "marked": 0}

    def test_the_command_deletes_it_too(self, caller: Caller, copies: Collection) -> None:
        post(caller, "decisions", remove=[uri(0, 2)])
        [first, *_] = find_duplicates(copies).groups(Sought.same)
        assert [one.keep for one in first] == [False, True, False]


class TestRights:
    def test_who_reads_decides_nothing(self, caller: Caller) -> None:
        find(caller)
        for path in ("decisions", "decisions/by-rule", "removal"):
            answer = caller.ask(READ, "POST", f"/v1/duplicates/{path}", json={})
            assert answer.status_code == 403

    def test_who_may_not_see_a_collection_does_not(self, caller: Caller) -> None:
        find(caller)
        named = {"collection": "copies"}
        for answer in (
            caller.ask(OTHER, "GET", "/v1/duplicates", params=named),
            caller.ask(OTHER, "GET", "/v1/duplicates/counts", params=named),
            caller.ask(OTHER, "POST", "/v1/duplicates", json=named),
        ):
            assert answer.status_code == 404
        assert page(caller, token=OTHER)["collection"] == "other"
        assert page(caller, token=OTHER)["state"] == "none"


def test_a_collection_that_was_made_anew_has_no_groups(caller: Caller, copies: Collection) -> None:
    find(caller)
    empty(copies.store)
    create(copies.store, "copies")
    assert page(caller)["state"] == "none"
    assert forget_decisions(Collection.open(copies.store, "copies")) == 0
    # Its own are not those that are meant.
    with pytest.raises(CollectionError, match="made anew"):
        forget_decisions(copies)


def counts(caller: Caller, **options: Any) -> dict[str, Any]:
    answer = caller.ask(READ, "GET", "/v1/duplicates/counts", params=options)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said
