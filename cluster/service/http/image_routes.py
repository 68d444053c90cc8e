"""The routes of images: listed, shown, added, changed, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from cluster.service.http.answers import (
    AddAnswer,
    ChangeAnswer,
    DeleteAnswer,
    ImageAnswer,
    PageAnswer,
    answered,
)
from cluster.service.http.bearers import IMAGE_COST, charge, charge_afterwards
from cluster.service.http.bodies import binary, is_json, parsed, require_json
from cluster.service.http.changes import (
    AmendRequest,
    ChoiceOptions,
    DeleteOptions,
    ImageOptions,
    PageOptions,
)
from cluster.service.http.guard import require_write
from cluster.service.http.models import AddRequest, UploadOptions
from cluster.service.http.models import Collection as CollectionName
from cluster.service.http.models import ImageId as Id
from cluster.service.http.openapi import WRITES, body, problems
from cluster.service.http.problems import ProblemError
from cluster.service.images import Images
from cluster.service.worker import QueryWorker
from simdist.errors import UnknownImageError

# Images that cost 1 to look at, and those that cost 1 to change.
_LOOKED_AT, _CHANGED = 1000, 100


def image_routes(worker: QueryWorker) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(
        prefix="/v1/images", tags=["images"], responses=problems(400, 404, 409, 414, 422, 503)
    )
    images = Images(worker)

    @routes.get("", response_model=PageAnswer)
    async def list_images(request: Request, options: Annotated[PageOptions, Query()]) -> Response:
        """Images page by page, in an order that stays: one that does not change meanwhile comes
        once. A page may have fewer than `n`, also none, and yet a `next`."""
        page = await images.page(
            options.collection, options.choice(), n=options.n, after=options.after
        )
        charge_afterwards(request, page.looked_at // _LOOKED_AT)
        return answered(PageAnswer.of(page, worker.collection(options.collection).name))

    @routes.get("/{image_id}", response_model=ImageAnswer)
    async def get_image(image_id: Id, options: Annotated[ImageOptions, Query()]) -> Response:
        """What is stored of an image."""
        stored = await worker.image(bytes.fromhex(image_id), options.collection)
        name = worker.collection(options.collection).name
        return answered(ImageAnswer.of(stored, name, vector=options.vector))

    return routes


def writing_routes(worker: QueryWorker) -> APIRouter:
    """What changes images: each of these routes takes a write token."""
    routes = APIRouter(
        prefix="/v1/images",
        tags=["images"],
        responses=problems(404, 409, 414, 422, 503),
        dependencies=[Depends(require_write)],
    )
    images = Images(worker)

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
        return answered(AddAnswer.of(uri, added, copies), status=201)

    @routes.patch(
        "/{image_id}",
        response_model=ImageAnswer,
        openapi_extra=body(AmendRequest) | WRITES,
        responses=problems(400, 408, 413, 415),
    )
    async def change_image(
        request: Request, image_id: Id, collection: CollectionName = None
    ) -> Response:
        """Change an image's label and metadata."""
        require_json(request.scope)
        amendment = parsed(AmendRequest, await request.body()).amendment()
        changed = await images.amend(bytes.fromhex(image_id), amendment, collection)
        return answered(ImageAnswer.of(changed, worker.collection(collection).name))

    @routes.patch(
        "",
        response_model=ChangeAnswer,
        openapi_extra=body(AmendRequest) | WRITES,
        responses=problems(408, 413, 415),
    )
    async def change_images(
        request: Request, options: Annotated[ChoiceOptions, Query()]
    ) -> Response:
        """Change the labels and metadata of all images that are chosen, some thousand a request:
        ask again `after` the answer's `next`, until that is null."""
        require_json(request.scope)
        amendment = parsed(AmendRequest, await request.body()).amendment()
        changed, page = await images.amend_chosen(
            options.collection, options.choice(), amendment, after=options.after
        )
        charge_afterwards(request, page.looked_at // _LOOKED_AT + changed // _CHANGED)
        return answered(ChangeAnswer(changed=changed, next=page.next))

    @routes.delete("", response_model=DeleteAnswer, openapi_extra=WRITES)
    async def delete_images(
        request: Request, options: Annotated[DeleteOptions, Query()]
    ) -> Response:
        """Delete an image, by its `uri`; or all that are chosen, some thousand a request: ask again
        `after` the answer's `next`, until that is null. Sources are left alone."""
        choice = options.choice()
        if options.uri is not None:
            if options.model_fields_set - {"uri", "collection"}:
                raise ProblemError(422, "uri: it is one image; give it alone")
            deleted = await images.delete(options.uri, options.collection)
            if not deleted:
                raise UnknownImageError(f"{options.uri} is not indexed")
            return answered(DeleteAnswer(deleted=deleted))
        deleted, page = await images.delete_chosen(options.collection, choice, after=options.after)
        charge_afterwards(request, page.looked_at // _LOOKED_AT + deleted // _CHANGED)
        return answered(DeleteAnswer(deleted=deleted, next=page.next))

    return routes
