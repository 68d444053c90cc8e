"""The web page's files, as the service hands them out."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from cluster.service.http.problems import ProblemError

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def page_routes() -> APIRouter:
    """The files of `cluster/page`, read once."""
    routes = APIRouter(include_in_schema=False)
    files = {
        file.name: file.read_bytes()
        for file in resources.files("cluster").joinpath("page").iterdir()
        if file.name.endswith(tuple(_TYPES))
    }

    @routes.get("/")
    async def page() -> Response:
        return _file("index.html")

    @routes.get("/page/{name}")
    async def file(name: str) -> Response:
        return _file(name)

    def _file(name: str) -> Response:
        if name not in files:
            raise ProblemError(404, "there is no such page")
        media_type = _TYPES["." + name.rpartition(".")[2]]
        # Asked for again each time: a service that was brought up to date shows its new page.
        return Response(files[name], media_type=media_type, headers={"Cache-Control": "no-cache"})

    return routes
