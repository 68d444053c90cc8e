"""Errors -> problem details."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from pydantic import BaseModel

from cluster.service.http.bodies import parsed
from cluster.service.http.problems import ProblemError
from cluster.service.http.search_models import BatchRequest, SearchRequest
from simdist import errors
from simdist.cli.remedies import with_remedy
from simdist.errors import CollectionError, SimdistError
from simdist.index.collection import Collection
from simdist.store import connect
from tests.collections import create
from tests.servers import empty


def _all(kind: type[SimdistError]) -> list[type[SimdistError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in _all(child))]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UnknownImageError, 404),
        (errors.SourceError, 404),
        (errors.CollectionError, 409),
        (errors.ModelMismatchError, 409),
        (errors.UsageError, 422),
        (errors.VectorError, 422),
        (errors.ImageError, 422),
        (errors.FetchError, 422),
        (errors.BusyError, 503),
        (errors.ClusterError, 503),
        (errors.StoreError, 503),
        (errors.ModelError, 503),
        (errors.OutputError, 500),
    ],
)
def test_the_status_of_an_error(kind: type[SimdistError], status: int) -> None:
    problem = ProblemError.of(kind("what is wrong"))
    assert problem.status == status
    assert problem.headers.get("Retry-After") == ("1" if status == 503 else None)


def test_every_error_of_a_service_has_a_status() -> None:
    """But for the base itself, and for a client's error, which a service never raises."""
    kinds = set(_all(SimdistError)) - {SimdistError, errors.ServiceError}
    faults = {kind for kind in kinds if ProblemError.of(kind("x")).status == 500}
    assert faults == {errors.OutputError}


@pytest.mark.parametrize(
    "kind",
    [errors.StoreError, errors.ClusterError, errors.ModelError, errors.OutputError],
)
def test_callers_are_not_told_what_only_operators_can_fix(kind: type[SimdistError]) -> None:
    problem = ProblemError.of(kind("redis://user:secret@10.0.0.1:6379 does not answer"))
    assert "secret" not in problem.detail
    assert "10.0.0.1" not in problem.detail


def test_callers_are_not_told_of_collections_that_are_not_served(valkey_url: str) -> None:
    """Whoever runs a command is; a caller may know that one that is served is gone."""
    with closing(connect(valkey_url)) as store:
        empty(store)
        create(store, "not-for-callers")
        with pytest.raises(CollectionError) as caught:
            Collection.open(store, "served")
    problem = ProblemError.of(caught.value)
    assert problem.status == 409
    assert "there is no collection 'served'" in problem.detail
    assert "not-for-callers" not in problem.detail
    assert "there are: not-for-callers" in with_remedy(caught.value)


@pytest.mark.parametrize("kind", [errors.BusyError, errors.VectorError, errors.UsageError])
def test_callers_are_told_what_they_can_fix(kind: type[SimdistError]) -> None:
    assert ProblemError.of(kind("send less")).detail == "send less"


def test_the_answer_is_as_rfc_9457_has_it() -> None:
    problem = ProblemError(
        422, "n: too large", headers={"X-A": "b"}, errors=[{"field": "n", "detail": "too large"}]
    )
    answer = problem.response()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-a"] == "b"
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "n: too large",
        "errors": [{"field": "n", "detail": "too large"}],
    }
    assert "errors" not in ProblemError(404, "no such image").as_json()


@pytest.mark.parametrize(
    ("model", "body", "most"),
    [
        (SearchRequest, {"vector": ["a"] * 60_000}, 1),
        (BatchRequest, {"queries": [{"vector": ["a"] * 10_000}] * 64}, 64),
    ],
)
def test_a_body_is_not_told_all_that_is_wrong_with_it(
    model: type[BaseModel], body: dict[str, object], most: int
) -> None:
    with pytest.raises(ProblemError) as caught:
        parsed(model, json.dumps(body).encode())
    assert caught.value.status == 422
    assert 1 <= len(caught.value.as_json()["errors"]) <= most


def test_a_body_that_is_something_else_is_told_no_details() -> None:
    body = {str(number): number for number in range(100_000)}
    with pytest.raises(ProblemError, match="100,000 things are wrong with it"):
        parsed(SearchRequest, json.dumps(body).encode())
