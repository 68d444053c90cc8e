"""The routes of looking around: all images in an order, and of which kinds they are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cluster.service.browsing import Browsing
from cluster.service.http.answers import answered
from cluster.service.http.bearers import charge_afterwards
from cluster.service.http.browse_models import (
    BrowseAnswer,
    BrowseOptions,
    FacetOptions,
    FacetsAnswer,
)
from cluster.service.http.openapi import problems
from cluster.service.worker import QueryWorker

# Images that cost 1 to be put in order, or counted.
_LOOKED_AT = 10_000


def browse_routes(worker: QueryWorker) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(
        prefix="/v1", tags=["images"], responses=problems(400, 404, 409, 414, 422, 503)
    )
    browsing = Browsing(worker)

    @routes.get("/browse", response_model=BrowseAnswer)
    async def browse_images(
        request: Request, options: Annotated[BrowseOptions, Query()]
    ) -> Response:
        """Any part of all images, or of those that are chosen, in an order. A collection that
        nobody has looked at for long is read first: of a million images that takes longer than a
        request may, so the same request is to be sent again after a 503."""
        found = await browsing.images(options.collection, options.order, options.choice())
        charge_afterwards(request, found.looked_at // _LOOKED_AT)
        name = worker.collection(options.collection).name
        return answered(BrowseAnswer.of(found, options, name))

    @routes.get("/facets", response_model=FacetsAnswer)
    async def count_images(request: Request, options: Annotated[FacetOptions, Query()]) -> Response:
        """How many images are in which folder, have which label, and are of which month."""
        facets = await browsing.facets(options.collection, options.choice())
        charge_afterwards(request, facets.looked_at // _LOOKED_AT)
        name = worker.collection(options.collection).name
        return answered(FacetsAnswer.of(facets, name, options.n))

    return routes
