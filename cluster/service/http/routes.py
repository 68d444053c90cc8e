"""The HTTP API: routes, thin; `guard` has seen every request before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import simdist
from cluster.service import metrics as service_metrics
from cluster.service.catalogue import Catalogue
from cluster.service.http.answers import BatchAnswer, SearchAnswer, StatusAnswer, answered
from cluster.service.http.browse_routes import browse_routes
from cluster.service.http.collection_routes import collection_routes, naming_routes
from cluster.service.http.duplicate_routes import deciding_routes, duplicate_routes
from cluster.service.http.errors import answer_errors
from cluster.service.http.guard import Guard
from cluster.service.http.image_routes import image_routes, writing_routes
from cluster.service.http.openapi import body, describe, problems
from cluster.service.http.page import page_routes
from cluster.service.http.picture_routes import picture_routes
from cluster.service.http.search_models import MAX_BATCH, BatchRequest, SearchOptions, SearchRequest
from cluster.service.http.searches import Searches, Shortcut, Shortcuts
from cluster.service.worker import QueryWorker

_TAGS = [
    {"name": "search", "description": "Find similar images."},
    {"name": "images", "description": "List, show, add, change and delete images."},
    {"name": "duplicates", "description": "Go through near-duplicates, and decide about them."},
    {"name": "collections", "description": "List, name, copy and drop collections."},
    {"name": "service", "description": "What is served, and how it is."},
]
_VECTOR = (
    "An image; or a vector: as many little-endian float32 numbers as the collection has dimensions "
    "(`dim`), one after the other, or a NumPy file (`.npy`) of them."
)
_VECTORS = f"Up to {MAX_BATCH} vectors: float32 numbers, or a NumPy file, as a search takes one."


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
    app.include_router(image_routes(worker))
    app.include_router(writing_routes(worker))
    app.include_router(picture_routes(worker))
    app.include_router(browse_routes(worker))
    app.include_router(duplicate_routes(worker))
    app.include_router(deciding_routes(worker))
    catalogue = Catalogue(worker)
    app.include_router(collection_routes(catalogue))
    app.include_router(naming_routes(catalogue))
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
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
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


def _service_routes(worker: QueryWorker, peers: Sequence[Any]) -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz", response_model=StatusAnswer)
    async def healthz() -> Response:
        """The worker runs."""
        return answered(StatusAnswer(status="ok"))

    @routes.get("/readyz", response_model=StatusAnswer, responses=problems(503))
    async def readyz() -> Response:
        """Redis answers, and the worker, which is warm when it starts, can search."""
        await worker.check()
        return answered(StatusAnswer(status="ready"))

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
