"""The HTTP API: routes, thin; `guard` has seen every request before."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import simdist
from cluster.service import metrics as service_metrics
from cluster.service.http.answers import (
    AddAnswer,
    BatchAnswer,
    CollectionAnswer,
    CollectionsAnswer,
    DeleteAnswer,
    ImageAnswer,
    SearchAnswer,
    StatusAnswer,
)
from cluster.service.http.bearers import IMAGE_COST, charge
from cluster.service.http.bodies import binary, is_json, parsed
from cluster.service.http.errors import answer_errors
from cluster.service.http.guard import Guard, require_write
from cluster.service.http.models import (
    MAX_BATCH,
    AddRequest,
    BatchRequest,
    SearchOptions,
    SearchRequest,
    UploadOptions,
)
from cluster.service.http.models import Collection as CollectionName
from cluster.service.http.models import ImageId as Id
from cluster.service.http.openapi import (
    BINARY,
    WRITES,
    body,
    describe,
    problems,
)
from cluster.service.http.page import page_routes
from cluster.service.http.problems import ProblemError
from cluster.service.http.searches import Searches, Shortcut, Shortcuts
from cluster.service.http.thumbnails import ThumbnailCache, thumbnail
from cluster.service.worker import QueryWorker
from simdist.errors import (
    ImageError,
    SourceError,
    UnknownImageError,
    UsageError,
)
from simdist.index.collection import Collection
from simdist.index.tuning import stored_tunings
from simdist.sources.originals import OriginalError

_TAGS = [
    {"name": "search", "description": "Find similar images."},
    {"name": "images", "description": "Look at, add and delete single images."},
    {"name": "service", "description": "What is served, and how it is."},
]
_VECTOR = (
    "An image; or a vector: as many little-endian float32 numbers as the collection has dimensions "
    "(`dim`), one after the other, or a NumPy file (`.npy`) of them."
)
_VECTORS = f"Up to {MAX_BATCH} vectors: float32 numbers, or a NumPy file, as a search takes one."
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99)


def build_app(worker: QueryWorker, peers: Sequence[Any]) -> ASGIApp:
    """The whole application of a worker.

    Args:
        peers: the handles by which all workers are reached, for `/metrics`.
    """
    app = FastAPI(
        title="simdist",
        version=simdist.__version__,
        description="Similar images from collections of any size.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        # A path is right or wrong: a redirect would lead to wherever the caller's Host header says.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        openapi_tags=_TAGS,
    )
    searches = Searches(worker)
    app.include_router(_search_routes(searches))
    app.include_router(_reading_routes(worker))
    app.include_router(_writing_routes(worker))
    app.include_router(_service_routes(worker, peers))
    app.include_router(page_routes())
    app.openapi = describe(app, tokens=bool(worker.config.tokens))  # type: ignore[method-assign]
    answer_errors(app)
    shortcuts = [
        Shortcut("/v1/search", searches.search),
        Shortcut("/v1/search/batch", searches.batch),
    ]
    guard = Guard(Shortcuts(app, shortcuts), config=worker.config, metrics=worker.metrics)
    if not worker.config.cors_origins:
        return guard
    return CORSMiddleware(
        guard,
        allow_origins=worker.config.cors_origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type"),
        expose_headers=("Retry-After",),
    )


def _search_routes(searches: Searches) -> APIRouter:
    """For the document: `Shortcuts` leads past them."""
    routes = APIRouter(
        prefix="/v1", tags=["search"], responses=problems(408, 413, 414, 415, 422, 503)
    )

    @routes.post(
        "/search",
        openapi_extra=body(SearchRequest, images=True, binary=_VECTOR),
        response_model=SearchAnswer,
        responses=problems(404, 409),
    )
    async def search(request: Request, _: Annotated[SearchOptions, Query()]) -> Response:
        """Search by a JSON object, or by an image's or a vector's bytes with the options in the
        address."""
        return await searches.search(request)

    @routes.post(
        "/search/batch",
        openapi_extra=body(BatchRequest, binary=_VECTORS),
        response_model=BatchAnswer,
        responses=problems(404, 409),
    )
    async def search_batch(request: Request, _: Annotated[SearchOptions, Query()]) -> Response:
        """Several searches in one request; one that fails does not stop the others."""
        return await searches.batch(request)

    return routes


def _reading_routes(worker: QueryWorker) -> APIRouter:
    routes = APIRouter(
        prefix="/v1/images", tags=["images"], responses=problems(400, 404, 409, 414, 422, 503)
    )
    thumbnails = ThumbnailCache()

    @routes.get("/{image_id}", response_model=ImageAnswer)
    async def get_image(image_id: Id, collection: CollectionName = None) -> Response:
        """What is stored of an image."""
        stored = await worker.image(bytes.fromhex(image_id), collection)
        name = worker.collection(collection).name
        return _json(
            ImageAnswer(
                id=image_id,
                uri=stored.uri,
                label=stored.label,
                metadata=dict(stored.metadata),
                collection=name,
            )
        )

    @routes.get(
        "/{image_id}/thumbnail",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": BINARY}}, 304: {"description": "Unchanged"}},
    )
    async def get_thumbnail(
        request: Request, image_id: Id, collection: CollectionName = None
    ) -> Response:
        """A JPEG of an indexed image, its longer side at most 256 pixels."""
        stored = await worker.image(bytes.fromhex(image_id), collection)
        # With the vector: an image whose content was replaced looks otherwise.
        state = hashlib.blake2b(stored.vector.tobytes() + stored.uri.encode(), digest_size=12)
        key = state.hexdigest()
        headers = {"ETag": f'"{key}"', "Cache-Control": "private, max-age=300"}
        if f'"{key}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        made = thumbnails.get(key)
        if made is None:
            try:
                data = await worker.original(bytes.fromhex(image_id), collection)
                made = await worker.decoded(lambda: thumbnail(data))
            except OriginalError as error:
                raise ProblemError(404, str(error)) from error
            except (SourceError, ImageError, UsageError) as error:
                raise ProblemError(
                    404, "the image can no longer be read from its source"
                ) from error
            thumbnails.keep(key, made)
        return Response(made, media_type="image/jpeg", headers=headers)

    return routes


def _writing_routes(worker: QueryWorker) -> APIRouter:
    """What changes a collection: each of these routes takes a write token."""
    routes = APIRouter(
        prefix="/v1/images",
        tags=["images"],
        responses=problems(404, 409, 414, 422, 503),
        dependencies=[Depends(require_write)],
    )

    @routes.post(
        "",
        status_code=201,
        response_model=AddAnswer,
        openapi_extra=body(AddRequest, images=True) | WRITES,
        responses=problems(408, 413, 415),
    )
    async def add_image(request: Request, options: Annotated[UploadOptions, Query()]) -> Response:
        """Index an image: one that the service fetches, or the body's bytes under `uri`."""
        if is_json(request.scope):
            if options.uri is not None:
                raise ProblemError(422, "uri: it is for an image in the body; give its url only")
            given = parsed(AddRequest, await request.body()).completed(options)
            uri, metadata = given.url, given.metadata
            charge(request, IMAGE_COST - 1)
            data = await worker.fetch(uri)
            label, collection = given.label, given.collection
        else:
            data = await binary(request, "an image")
            if options.uri is None:
                raise ProblemError(422, "uri: say what the image is to be known by")
            charge(request, IMAGE_COST - 1)
            uri, metadata = options.uri, {}
            label, collection = options.label, options.collection
        added, copies = await worker.add(
            uri, data, label=label, metadata=metadata, collection=collection
        )
        return _json(AddAnswer.of(uri, added, copies), status=201)

    @routes.delete(
        "",
        response_model=DeleteAnswer,
        openapi_extra=WRITES,
    )
    async def delete_image(
        uri: Annotated[str, Query(min_length=1, max_length=2048)],
        collection: CollectionName = None,
    ) -> Response:
        """Delete an image from the collection; its source is left alone."""
        deleted = await worker.delete(uri, collection)
        if not deleted:
            raise UnknownImageError(f"{uri} is not indexed")
        return _json(DeleteAnswer(deleted=deleted))

    return routes


def _service_routes(worker: QueryWorker, peers: Sequence[Any]) -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get("/v1/collections", response_model=CollectionsAnswer, responses=problems(409, 503))
    async def list_collections() -> Response:
        """The collections that are served."""
        return _json(CollectionsAnswer(collections=await worker.collections(_describe)))

    @routes.get("/healthz", response_model=StatusAnswer)
    async def healthz() -> Response:
        """The worker runs."""
        return _json(StatusAnswer(status="ok"))

    @routes.get("/readyz", response_model=StatusAnswer, responses=problems(503))
    async def readyz() -> Response:
        """Redis answers, and the worker, which is warm when it starts, can search."""
        await worker.check()
        return _json(StatusAnswer(status="ready"))

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **problems(503),
        },
    )
    async def metrics() -> Response:
        """The metrics of all workers, for Prometheus."""
        asked = [peer.broadcast("collect_metrics").results_async() for peer in peers]
        collected = chain.from_iterable(await asyncio.gather(*asked))
        return Response(
            service_metrics.exposition(collected), media_type=service_metrics.MEDIA_TYPE
        )

    return routes


def _describe(collection: Collection) -> CollectionAnswer:
    generations = tuple(partition.state().generation for partition in collection.partitions)
    tuned = [one for one in stored_tunings(collection.partitions) if one.generations == generations]
    recalls = [recall for recall in _RECALLS if any(one.probes_for(recall) for one in tuned)]
    return CollectionAnswer(
        name=collection.name,
        images=collection.count(),
        dim=collection.dim,
        model=collection.model_id,
        recalls=recalls,
    )


def _json(answer: BaseModel, status: int = 200) -> Response:
    return Response(answer.model_dump_json(), status, media_type="application/json")
