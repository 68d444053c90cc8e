"""A collection is dropped at any command of a request that writes to it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cluster.service.config import Tokens
from cluster.service.http.answers import image_id
from cluster.service.http.routes import build_app
from simdist.embedding import Embedder
from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import MissingCollectionError
from simdist.index import dropping
from simdist.index.check import check
from simdist.index.collection import Collection
from simdist.joining.decisions import Decisions
from simdist.joining.removing import mark
from simdist.store import Store, connect
from tests.callers import Caller, worker
from tests.collections import filled, ref, vectors
from tests.endings import CLEAR, ENDS, End, before_command, made_anew
from tests.servers import empty, keys

pytestmark = pytest.mark.slow

Request = Callable[[Caller], httpx.Response]
COUNT = 40


class Embeds:
    """Embeds any image, as the model of the collection."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    async def model(self, name: str = "", model_id: str = "") -> tuple[str, Preprocessing]:
        return "m-1", self._preprocessing

    async def embed(self, pixels: Any, model_id: str) -> NDArray[np.float32]:
        return np.asarray(vectors(1, seed=5)[0], np.float32)


def add(caller: Caller) -> httpx.Response:
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(picture, "PNG")
    return caller.ask(
        "",
        "POST",
        "/v1/images",
        params={"uri": "urn:new", "collection": "test"},
        content=picture.getvalue(),
        headers={"Content-Type": "image/png"},
    )


def on_images(method: str, *, path: str = "", json: Any = None, **choice: str) -> Request:
    def ask(caller: Caller) -> httpx.Response:
        options = {} if json is None else {"json": json}
        return caller.ask("", method, f"/v1/images{path}", params=choice, **options)

    return ask


def decide(path: str, **said: Any) -> Request:
    return lambda caller: caller.ask("", "POST", f"/v1/duplicates/{path}", json=said)


REQUESTS: dict[str, Request] = {
    "add": add,
    "delete": on_images("DELETE", uri=ref(1).uri),
    "delete some": on_images("DELETE", label="things"),
    "change": on_images("PATCH", path=f"/{image_id(ref(1).uri)}", json={"label": "other"}),
    "change some": on_images("PATCH", json={"metadata": {"a": 1}}, label="things"),
    "decide": decide(
        "decisions", keep=[ref(1).uri], apart=[[ref(2).uri, ref(3).uri]], remove=[ref(4).uri]
    ),
    "undo": decide("decisions", undo=True, keep=[ref(5).uri], remove=[ref(6).uri]),
    "remove": decide("removal"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", REQUESTS)
def test_a_collection_is_dropped_at_any_command_of_a_request(
    valkey_url: str, embedder: Embedder, what: str, end: End
) -> None:
    with closing(connect(valkey_url)) as other:
        embeds = Embeds(embedder.model.preprocessing)
        serving = worker(other, ["test"], embedder=embeds, deadline=600)
        caller = Caller(other, Tokens(), ["test"], app=build_app(serving, peers=[]))
        answers = list(every_answer(caller, serving.store, other, REQUESTS[what], end))
    assert {answer.status_code for answer in answers} >= {409}
    assert {answer.status_code for answer in answers} <= {200, 201, 404, 409}
    refused = [answer.json()["detail"] for answer in answers if answer.status_code == 409]
    assert [text for text in refused if not text or not re.fullmatch(CLEAR, text)] == []


def every_answer(
    caller: Caller, store: Store, other: Store, request: Request, end: End
) -> Iterator[httpx.Response]:
    """What is answered if it ends before the first command, the second, and so on."""
    for at in range(1000):
        empty(other)
        collection = filled(other, COUNT)
        Decisions(keep=frozenset({ref(5).uri})).add_to(collection)
        mark(collection, [ref(6).uri, ref(7).uri])
        with pytest.MonkeyPatch.context() as patch:
            ended = before_command(patch, store, at, partial(end, other))
            answer = request(caller)
        if not ended:
            assert answer.is_success
            return
        yield answer
        if end is made_anew:
            assert [
                damage for one in check(Collection.open(other, "test")) for damage in one.damages
            ] == []
            # Nobody is kept from the new one by what was.
            assert request(caller).status_code in {200, 201, 404}
            dropping.drop(other, "test")
        with suppress(MissingCollectionError):
            dropping.drop(other, "test")
        assert keys(other, "*") == []
