"""What the HTTP API answers where something is wrong: problem details, whatever raised it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from cluster.service.http.guard import FAILED
from cluster.service.http.problems import ProblemError
from simdist.errors import SimdistError


def answer_errors(app: FastAPI) -> None:
    """Let an application answer every error as a problem."""
    app.add_exception_handler(SimdistError, _answer_error)
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_defect)


async def _answer_error(_: Request, error: Exception) -> Response:
    return ProblemError.of(error).response() if isinstance(error, SimdistError) else _lost(error)


async def _answer_defect(_: Request, __: Exception) -> Response:
    return FAILED.response()  # the guard writes it to the log


async def _answer_problem(_: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, ProblemError) else _lost(error)


async def _answer_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _lost(error)
    detail, headers = error.detail, error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "there is no such address; /v1/openapi.json lists them"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(_methods(request))
        detail, headers = f"this address takes {methods} only", {"Allow": methods}
    return ProblemError(error.status_code, detail, headers=headers).response()


# HEAD is answered wherever GET is.
_ROUTED = {"HEAD": "GET"}


def _methods(request: Request) -> list[str]:
    """All that a path takes: asked method by method, since routers hide the routes in them."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": _ROUTED.get(method, method)})[0] == Match.FULL
            for route in request.app.routes
        )
    ]


async def _answer_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _lost(error)
    return ProblemError.invalid(error.errors()).response()


def _lost(error: Exception) -> Response:
    raise error
