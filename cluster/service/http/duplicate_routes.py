"""The routes of duplicates: looked for, gone through, decided about, removed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from cluster.service.duplicates import DuplicateGroups
from cluster.service.http.answers import answered
from cluster.service.http.bodies import parsed, require_json
from cluster.service.http.duplicate_models import (
    CountsAnswer,
    DecidedAnswer,
    DecideRequest,
    FindRequest,
    FoundAnswer,
    GroupOptions,
    GroupsAnswer,
    MarkedAnswer,
    RemovalRequest,
    RemovedAnswer,
    RuleOptions,
    RuleRequest,
    WantedOptions,
)
from cluster.service.http.guard import require_write
from cluster.service.http.openapi import WRITES, body, problems
from cluster.service.worker import QueryWorker


def duplicate_routes(worker: QueryWorker) -> APIRouter:
    """What a read token may do."""
    routes = APIRouter(
        prefix="/v1/duplicates", tags=["duplicates"], responses=problems(404, 409, 414, 422, 503)
    )
    groups = DuplicateGroups(worker)

    @routes.post(
        "",
        status_code=202,
        response_model=FoundAnswer,
        openapi_extra=body(FindRequest),
        responses=problems(408, 413, 415),
    )
    async def find_duplicates(request: Request) -> Response:
        """Begin to look for the duplicates of a whole collection, or join whoever looks already.
        What is known is not looked for again, unless the collection has changed."""
        require_json(request.scope)
        asked = parsed(FindRequest, await request.body())
        progress = await groups.start(asked.wanted(), name=asked.collection)
        name = worker.collection(asked.collection).name
        return answered(FoundAnswer.of(progress, name), status=202)

    @routes.get("", response_model=GroupsAnswer)
    async def list_duplicates(options: Annotated[GroupOptions, Query()]) -> Response:
        """How far the search for duplicates is; once it is done, groups page by page, as they were
        at one moment, with what has been decided about them until now."""
        progress, page = await groups.page(
            options.wanted(),
            name=options.collection,
            offset=options.offset,
            n=options.n,
            keep=options.rule(),
        )
        name = worker.collection(options.collection).name
        return answered(GroupsAnswer.of_page(progress, page, name, options.offset))

    @routes.get("/counts", response_model=CountsAnswer)
    async def count_duplicates(options: Annotated[RuleOptions, Query()]) -> Response:
        """How much is decided, and how many images a rule would mark for removal."""
        counts = await groups.counts(
            options.wanted(), name=options.collection, keep=options.rule(), offset=options.offset
        )
        return answered(CountsAnswer.of(counts))

    return routes


def deciding_routes(worker: QueryWorker) -> APIRouter:
    """What decides about duplicates: each of these routes takes a write token."""
    routes = APIRouter(
        prefix="/v1/duplicates",
        tags=["duplicates"],
        responses=problems(404, 409, 414, 422, 503),
        dependencies=[Depends(require_write)],
    )
    groups = DuplicateGroups(worker)

    @routes.delete("", response_model=FoundAnswer, openapi_extra=WRITES)
    async def stop_duplicates(options: Annotated[WantedOptions, Query()]) -> Response:
        """Stop looking for duplicates."""
        progress = await groups.cancel(options.wanted(), name=options.collection)
        name = worker.collection(options.collection).name
        return answered(FoundAnswer.of(progress, name))

    @routes.post(
        "/decisions",
        response_model=DecidedAnswer,
        openapi_extra=body(DecideRequest) | WRITES,
        responses=problems(408, 413, 415),
    )
    async def decide_duplicates(request: Request) -> Response:
        """Decide about images, or take it back. Decisions stay with the collection, as those of
        `simdist duplicates` do. Nothing is deleted: that is for `removal`."""
        require_json(request.scope)
        asked = parsed(DecideRequest, await request.body())
        decided = await groups.decide(
            asked.collection,
            apart=[(one, other) for one, other in asked.apart],
            keep=asked.keep,
            remove=asked.remove,
            undo=asked.undo,
        )
        return answered(DecidedAnswer(decided=decided))

    @routes.post(
        "/decisions/by-rule",
        response_model=MarkedAnswer,
        openapi_extra=body(RuleRequest) | WRITES,
        responses=problems(408, 413, 415),
    )
    async def decide_by_rule(request: Request) -> Response:
        """Mark for removal what a rule does not keep, some groups a request: go on from the
        answer's `next`, until that is null. What is decided already stays."""
        require_json(request.scope)
        asked = parsed(RuleRequest, await request.body())
        marked, following = await groups.mark_by_rule(
            asked.wanted(), name=asked.collection, keep=asked.rule(), offset=asked.offset
        )
        return answered(MarkedAnswer(marked=marked, next=following))

    @routes.post(
        "/removal",
        response_model=RemovedAnswer,
        openapi_extra=body(RemovalRequest) | WRITES,
        responses=problems(408, 413, 415),
    )
    async def remove_duplicates(request: Request) -> Response:
        """Delete what is marked for removal from the index, a thousand images a request: ask again
        until none is marked. What was replaced since, or is protected, stays. Sources are left
        alone."""
        require_json(request.scope)
        asked = parsed(RemovalRequest, await request.body())
        deleted, left, marked = await groups.remove(asked.collection)
        return answered(RemovedAnswer(deleted=deleted, left=left, marked=marked))

    return routes
