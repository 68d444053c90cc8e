"""The routes of pictures: indexed images small, as large as a screen, and as their files are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote

from fastapi import APIRouter, Query, Request, Response

from cluster.service.http.bearers import IMAGE_COST, charge
from cluster.service.http.models import Collection as CollectionName
from cluster.service.http.models import ImageId as Id
from cluster.service.http.models import Model
from cluster.service.http.openapi import BINARY, problems
from cluster.service.http.problems import ProblemError
from cluster.service.http.thumbnails import ThumbnailCache, preview, thumbnail
from cluster.service.worker import QueryWorker
from simdist.errors import ImageError, SourceError, UsageError
from simdist.images.decoding import is_image
from simdist.index.images import IndexedImage
from simdist.sources.originals import OriginalError

T = TypeVar("T")
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": BINARY}},
    304: {"description": "Unchanged"},
}
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": BINARY}}}
# Of a name that a file is saved under.
_MAX_NAME = 200


class PictureOptions(Model):
    """Whose picture."""

    collection: CollectionName = None


def picture_routes(worker: QueryWorker) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(
        prefix="/v1/images", tags=["images"], responses=problems(400, 404, 409, 414, 422, 503)
    )
    thumbnails = ThumbnailCache()

    async def read(image_id: str, collection: str | None, use: Callable[[bytes], T]) -> T:
        """What is made of an image's file, where it may still be read."""
        try:
            data = await worker.original(bytes.fromhex(image_id), collection)
            return await worker.decoded(lambda: use(data))
        except OriginalError as error:
            raise ProblemError(404, str(error)) from error
        except (SourceError, ImageError, UsageError) as error:
            raise ProblemError(404, "the image can no longer be read from its source") from error

    @routes.get("/{image_id}/thumbnail", response_class=Response, responses=_JPEG)
    async def get_thumbnail(
        request: Request, image_id: Id, collection: CollectionName = None
    ) -> Response:
        """A JPEG of an indexed image, its longer side at most 256 pixels."""
        stored = await worker.image(bytes.fromhex(image_id), collection)
        key, headers = _kept(stored)
        if _has(request, key):
            return Response(status_code=304, headers=headers)
        made = thumbnails.get(key)
        if made is None:
            made = await read(image_id, collection, thumbnail)
            thumbnails.keep(key, made)
        return Response(made, media_type="image/jpeg", headers=headers)

    @routes.get("/{image_id}/preview", response_class=Response, responses=_JPEG)
    async def get_preview(
        request: Request, image_id: Id, options: Annotated[PictureOptions, Query()]
    ) -> Response:
        """A JPEG of an indexed image, its longer side at most 2,560 pixels, without what its file
        says of where and when it was taken."""
        stored = await worker.image(bytes.fromhex(image_id), options.collection)
        key, headers = _kept(stored)
        if _has(request, key):
            return Response(status_code=304, headers=headers)
        charge(request, IMAGE_COST - 1)
        made = await read(image_id, options.collection, preview)
        return Response(made, media_type="image/jpeg", headers=headers)

    @routes.get("/{image_id}/original", response_class=Response, responses=_FILE)
    async def get_original(
        request: Request, image_id: Id, options: Annotated[PictureOptions, Query()]
    ) -> Response:
        """The file of an indexed image as it is, to be saved: no browser shows it by itself."""
        stored = await worker.image(bytes.fromhex(image_id), options.collection)
        charge(request, IMAGE_COST - 1)
        data = await read(image_id, options.collection, _checked)
        name = quote(unquote(stored.uri.rpartition("/")[2])[-_MAX_NAME:], safe="")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Cache-Control": "private, no-store",
        }
        return Response(data, media_type="application/octet-stream", headers=headers)

    return routes


def _kept(stored: IndexedImage) -> tuple[str, dict[str, str]]:
    """The mark of an image's content, and the headers by which browsers keep its pictures."""
    # With the vector: an image whose content was replaced looks otherwise.
    state = hashlib.blake2b(stored.vector.tobytes() + stored.uri.encode(), digest_size=12)
    key = state.hexdigest()
    return key, {"ETag": f'"{key}"', "Cache-Control": "private, max-age=300"}


def _has(request: Request, key: str) -> bool:
    return f'"{key}"' in request.headers.get("if-none-match", "")


def _checked(data: bytes) -> bytes:
    """A file's bytes, if it is an image: whatever has come to lie in its place is not given away.

    Raises:
        ImageError: it is none.
    """
    if not is_image(data):
        raise ImageError("it is no image")
    return data
