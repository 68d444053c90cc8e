"""Errors -> answers: problem details as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from simdist.errors import (
    BusyError,
    ClusterError,
    CollectionError,
    FetchError,
    ForbiddenError,
    ImageError,
    ModelError,
    OutputError,
    SimdistError,
    SourceError,
    StoreError,
    UnknownCollectionError,
    UnknownImageError,
    UsageError,
    VectorError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "1"}

# The first that an error is an instance of.
_STATUS: Sequence[tuple[type[SimdistError], HTTPStatus]] = (
    (UnknownImageError, HTTPStatus.NOT_FOUND),
    (UnknownCollectionError, HTTPStatus.NOT_FOUND),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (CollectionError, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (VectorError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (FetchError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (SourceError, HTTPStatus.NOT_FOUND),
    (BusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ClusterError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ModelError, HTTPStatus.SERVICE_UNAVAILABLE),
    (OutputError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
# What an operator has to fix is for the operator's log: it may name hosts and files.
_HIDDEN = {
    StoreError: "the collection's store does not answer; try again soon",
    ClusterError: "a part of the service is missing; try again soon",
    ModelError: "the service's model cannot be used; tell its operator",
    OutputError: "the service cannot write a file; tell its operator",
}


class ProblemError(Exception):
    """An answer that is an error.

    Attributes:
        status: the HTTP status code.
        detail: one sentence for a person.
        kind: the problem's type, a URI; "about:blank" where the status says it all.
        headers: to be sent with it.
        errors: what is wrong with which field.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "about:blank",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.errors = errors

    @classmethod
    def of(cls, error: SimdistError) -> ProblemError:
        """What a caller is told of an error."""
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        hidden = (text for kind, text in _HIDDEN.items() if type(error) is kind)
        headers = RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        kind = getattr(error, "problem_type", "about:blank")
        return cls(status, next(hidden, str(error)), kind=kind, headers=headers)

    @classmethod
    def invalid(cls, found: Iterable[Mapping[str, Any]]) -> ProblemError:
        """What a caller is told of the errors that pydantic finds in a request."""
        errors = [
            {"field": ".".join(str(part) for part in one["loc"]), "detail": str(one["msg"])}
            for one in found
        ]
        first = errors[0]
        detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
        return cls(422, detail, errors=errors)

    def as_json(self) -> dict[str, Any]:
        """The body."""
        phrase = HTTPStatus(self.status).phrase
        body = {"type": self.kind, "title": phrase, "status": self.status}
        return (
            body | {"detail": self.detail} | ({"errors": list(self.errors)} if self.errors else {})
        )

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(
            self.as_json(), self.status, headers=self.headers, media_type=MEDIA_TYPE
        )
