"""The routes of pictures: indexed images small, as large as a screen, and as their files are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from cluster.service.http.bearers import IMAGE_COST, charge
from cluster.service.http.models import Collection as CollectionName
from cluster.service.http.models import ImageId as Id
from cluster.service.http.models import Model
from cluster.service.http.openapi import BINARY, problems
from cluster.service.http.problems import ProblemError
from cluster.service.originals import Originals
from cluster.service.pictures import Pictures
from cluster.service.worker import QueryWorker
from simdist.errors import ImageError, SourceError, UsageError
from simdist.images.decoding import is_image
from simdist.images.thumbnails import MEDIA_TYPE, PREVIEW_SIDE, SIDE
from simdist.sources.originals import OriginalError

Version = Annotated[
    str | None,
    Field(
        pattern=r"^[0-9a-f]{1,32}$",
        description="The image's `version` in `GET /v1/browse`: whoever keeps what has this "
        "address may keep it for good.",
        examples=["5b1f0c5de2a9"],
    ),
]
_FOREVER, _SHORTLY = "private, max-age=31536000, immutable", "private, max-age=300"
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: BINARY}},
    304: {"description": "Unchanged"},
}
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": BINARY}}}
# Of a name that a file is saved under.
_MAX_NAME = 200


class PictureOptions(Model):
    """Whose picture."""

    collection: CollectionName = None
    v: Version = None


def picture_routes(worker: QueryWorker) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(
        prefix="/v1/images", tags=["images"], responses=problems(400, 404, 409, 414, 422, 503)
    )
    originals = Originals(worker)
    pictures = Pictures(worker, originals)

    async def picture(
        request: Request, image_id: str, collection: str | None, v: str | None, size: int
    ) -> Response:
        stored = await worker.image(bytes.fromhex(image_id), collection)
        key = pictures.key(stored)
        headers = {"ETag": f'"{key}"', "Cache-Control": _FOREVER if v else _SHORTLY}
        if f'"{key}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        with _readable():
            made = await pictures.of(image_id, key, collection, size=size)
        return Response(made, media_type=MEDIA_TYPE, headers=headers)

    @routes.get("/{image_id}/thumbnail", response_class=Response, responses=_PICTURE)
    async def get_thumbnail(
        request: Request, image_id: Id, collection: CollectionName = None, v: Version = None
    ) -> Response:
        """A WebP of an indexed image, its longer side at most 256 pixels."""
        return await picture(request, image_id, collection, v, SIDE)

    @routes.get("/{image_id}/preview", response_class=Response, responses=_PICTURE)
    async def get_preview(
        request: Request, image_id: Id, options: Annotated[PictureOptions, Query()]
    ) -> Response:
        """A WebP of an indexed image, its longer side at most 2,048 pixels, without what its file
        says of where and when it was taken."""
        charge(request, IMAGE_COST - 1)
        return await picture(request, image_id, options.collection, options.v, PREVIEW_SIDE)

    @routes.get("/{image_id}/original", response_class=Response, responses=_FILE)
    async def get_original(
        request: Request, image_id: Id, options: Annotated[PictureOptions, Query()]
    ) -> Response:
        """The file of an indexed image as it is, to be saved: no browser shows it by itself."""
        stored = await worker.image(bytes.fromhex(image_id), options.collection)
        charge(request, IMAGE_COST - 1)
        with _readable():
            data = await originals.read(bytes.fromhex(image_id), options.collection)
            await worker.decoded(lambda: _check(data))
        name = quote(unquote(stored.uri.rpartition("/")[2])[-_MAX_NAME:], safe="")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Cache-Control": "private, no-store",
        }
        return Response(data, media_type="application/octet-stream", headers=headers)

    return routes


@contextmanager
def _readable() -> Iterator[None]:
    """Say why an image's file is not read, and no more of it than anyone may know."""
    try:
        yield
    except OriginalError as error:
        raise ProblemError(404, str(error)) from error
    except (SourceError, ImageError, UsageError) as error:
        raise ProblemError(404, "the image can no longer be read from its source") from error


def _check(data: bytes) -> None:
    """Check that a file is an image: whatever has come to lie in its place is not given away.

    Raises:
        ImageError: it is none.
    """
    if not is_image(data):
        raise ImageError("it is no image")
