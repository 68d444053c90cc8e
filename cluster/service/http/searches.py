"""The searches: what their bodies say, and what is answered.

FastAPI's router and dependencies would take as long as the search itself, so these two routes are
reached past them; FastAPI has them too, for the document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.service.http.answers import as_json, hit_answer
from cluster.service.http.bearers import IMAGE_COST, charge
from cluster.service.http.bodies import binary, is_image_type, is_json, parsed
from cluster.service.http.problems import ProblemError
from cluster.service.http.search_models import (
    MAX_BATCH,
    MAX_BATCH_RESULTS,
    BatchRequest,
    SearchOptions,
    SearchRequest,
)
from cluster.service.http.vectors import read_vectors, vector_or_image
from cluster.service.worker import QueryWorker
from simdist.errors import SimdistError
from simdist.search.pages import Hits
from simdist.search.question import Example, Question

# So many hits take as long as a search.
_HITS_EACH = 1000
_BY_DEFAULT = SearchOptions.model_validate({})


class Searches:
    """Answers searches, one by one and in batches."""

    def __init__(self, worker: QueryWorker) -> None:
        self._worker = worker

    async def search(self, request: Request) -> Response:
        """Search by a JSON object; or by the body's bytes, with the options in the address."""
        options = _options(request)
        if is_json(request.scope):
            asked = parsed(SearchRequest, await request.body())
            question = asked.completed(options).asked()
        else:
            question = await self._by_bytes(request, options)
        charge(request, _cost(question) - 1)
        hits = await self._worker.answer(question)
        return _json(self._found(question.collection, hits))

    async def batch(self, request: Request) -> Response:
        """Several searches in one request; one that fails does not stop the others."""
        options = _options(request)
        if is_json(request.scope):
            batch = parsed(BatchRequest, await request.body())
            questions = [query.completed(options).asked() for query in batch.queries]
        else:
            data = await binary(request, "vectors", images=False)
            dim = self._worker.collection(options.collection).dim
            vectors = read_vectors(data, dim=dim, most=MAX_BATCH)
            questions = [options.question(vector=vector) for vector in vectors]
        if sum(_hits(question) for question in questions) > MAX_BATCH_RESULTS:
            raise ProblemError(422, f"a batch may ask for {MAX_BATCH_RESULTS:,} hits in all")
        charge(request, sum(map(_cost, questions)) - 1)
        found = await self._worker.ask_many(questions)
        results = [
            {"error": ProblemError.of(hits).as_json()}
            if isinstance(hits, SimdistError)
            else self._found(question.collection, hits)
            for question, hits in zip(questions, found, strict=True)
        ]
        return _json({"results": results})

    async def _by_bytes(self, request: Request, options: SearchOptions) -> Question:
        data = await binary(request, "an image")
        if not is_image_type(request.scope):
            dim = self._worker.collection(options.collection).dim
            vector = vector_or_image(data, dim=dim)
            if vector is not None:
                return options.question(vector=vector)
        return options.question(image=data)

    def _found(self, collection: str | None, hits: Hits) -> dict[str, Any]:
        """A `SearchAnswer`."""
        name = self._worker.collection(collection).name
        return {
            "collection": name,
            "hits": [hit_answer(hit) for hit in hits],
            "next": hits.next,
        }


@dataclass(frozen=True)
class Shortcut:
    """What answers POST requests of one path."""

    path: str
    answer: Callable[[Request], Awaitable[Response]]


class Shortcuts:
    """Leads requests past an application to what answers them; all others to the application."""

    def __init__(self, app: ASGIApp, shortcuts: Sequence[Shortcut]) -> None:
        self._app = app
        self._shortcuts = {one.path: one for one in shortcuts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._shortcuts.get(scope.get("path", ""))
        if found is None or scope.get("method") != "POST":
            return await self._app(scope, receive, send)
        scope["route"] = found  # by which the guard counts it
        try:
            response = await found.answer(Request(scope, receive))
        except SimdistError as error:
            raise ProblemError.of(error) from error
        await response(scope, receive, send)


def _options(request: Request) -> SearchOptions:
    """The options in the address, as FastAPI would read them."""
    if not request.scope["query_string"]:
        return _BY_DEFAULT
    try:
        return SearchOptions.model_validate(dict(request.query_params))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise ProblemError.invalid(
            {**one, "loc": ("query", *one["loc"])} for one in found
        ) from None


def _cost(question: Question) -> int:
    more = _hits(question) // _HITS_EACH
    if not question.several:
        return _cost_of(question) + more
    return sum(map(_cost_of, [*question.positive, *question.unlike])) + more


def _hits(question: Question) -> int:
    """How many a question may be answered with."""
    return question.n * question.group_size


def _cost_of(asked: Question | Example) -> int:
    by_content = asked.url is not None or asked.image is not None or asked.text is not None
    return IMAGE_COST if by_content else 1


def _json(answer: dict[str, Any]) -> Response:
    return Response(as_json(answer), media_type="application/json")
