"""The routes of whole collections: listed, named, copied, dropped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from cluster.service.catalogue import Catalogue, Work
from cluster.service.http.answers import (
    CollectionAnswer,
    CollectionsAnswer,
    NameAnswer,
    UnreadableAnswer,
    WorkAnswer,
    answered,
)
from cluster.service.http.bodies import parsed, require_json
from cluster.service.http.changes import Name, ToRequest
from cluster.service.http.guard import require_write
from cluster.service.http.openapi import WRITES, body, problems
from simdist.embedding import reads_words
from simdist.index.collection import Collection
from simdist.index.tuning import stored_tunings

_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99)
_Named = Annotated[Name, Path()]


def collection_routes(catalogue: Catalogue) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(prefix="/v1", tags=["collections"])

    @routes.get("/collections", response_model=CollectionsAnswer, responses=problems(409, 503))
    async def list_collections() -> Response:
        """The collections that are served, those of them that cannot be read, and what is under way
        with them."""
        listed = await catalogue.described(_describe)
        return answered(
            CollectionsAnswer(
                collections=listed.found,
                unreadable=[UnreadableAnswer(**asdict(one)) for one in listed.unreadable],
                work=[_work(one) for one in listed.work],
            )
        )

    return routes


def naming_routes(catalogue: Catalogue) -> APIRouter:
    """What changes collections as a whole: each of these routes takes a write token."""
    routes = APIRouter(
        prefix="/v1",
        tags=["collections"],
        responses=problems(400, 404, 409, 414, 422, 503),
        dependencies=[Depends(require_write)],
    )
    to_name: dict[str, Any] = {
        "openapi_extra": body(ToRequest) | WRITES,
        "responses": problems(408, 413, 415),
    }

    @routes.post("/collections/{name}/rename", response_model=NameAnswer, **to_name)
    async def rename_collection(request: Request, name: _Named) -> Response:
        """Call a collection something else: one write, whatever its size."""
        to = await _to(request)
        await catalogue.rename(name, to)
        return answered(NameAnswer(name=to, collection=to))

    @routes.post("/collections/{name}/copy", status_code=202, response_model=WorkAnswer, **to_name)
    async def copy_collection(request: Request, name: _Named) -> Response:
        """Begin to copy a collection, as it is at one moment. The copy is there when it is whole;
        until then `GET /v1/collections` says that it is under way."""
        return answered(_work(await catalogue.copy(name, await _to(request))), status=202)

    @routes.delete(
        "/collections/{name}", status_code=202, response_model=WorkAnswer, openapi_extra=WRITES
    )
    async def drop_collection(name: _Named) -> Response:
        """Drop a collection: nobody finds it from now on, and then its keys are removed. Sources
        are left alone."""
        return answered(_work(await catalogue.drop(name)), status=202)

    @routes.put("/aliases/{name}", response_model=NameAnswer, **to_name)
    async def set_alias(request: Request, name: _Named) -> Response:
        """Let an alias lead to a collection, or to another one than before: one write."""
        collection = await catalogue.alias(name, await _to(request))
        return answered(NameAnswer(name=name, collection=collection))

    @routes.delete("/aliases/{name}", response_model=NameAnswer, openapi_extra=WRITES)
    async def remove_alias(name: _Named) -> Response:
        """Remove an alias; the collection stays."""
        await catalogue.remove_alias(name)
        return answered(NameAnswer(name=name, collection=None))

    return routes


async def _to(request: Request) -> str:
    require_json(request.scope)
    return parsed(ToRequest, await request.body()).to


def _work(work: Work) -> WorkAnswer:
    return WorkAnswer(**asdict(work))


def _describe(collection: Collection, alias_of: str | None, writable: bool) -> CollectionAnswer:
    generations = tuple(partition.state().generation for partition in collection.partitions)
    tuned = [one for one in stored_tunings(collection.partitions) if one.generations == generations]
    recalls = [recall for recall in _RECALLS if any(one.probes_for(recall) for one in tuned)]
    return CollectionAnswer(
        name=collection.name,
        alias_of=alias_of,
        writable=writable,
        images=collection.count(),
        dim=collection.dim,
        model=collection.model_id,
        recalls=recalls,
        words=reads_words(collection.model_id),
    )
