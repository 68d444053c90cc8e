"""`simdist search`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize

import typer

from simdist.cli import options
from simdist.cli.render import (
    console,
    plain,
    print_json,
    short_uri,
    show,
    table,
)
from simdist.errors import UsageError
from simdist.settings import (
    DEFAULT_COLLECTION,
    DEFAULT_RESULTS,
    MAX_RESULTS,
    RAY_ADDRESS_VARIABLE,
    Settings,
)

if TYPE_CHECKING:
    from simdist.embedding import Embedder
    from simdist.search.pages import Hits
    from simdist.search.query import Query, Service
    from simdist.search.question import Question


def search(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE...]", help="Files, http(s) addresses, or URIs of indexed images."
        ),
    ] = None,
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS",
            help="Search by words, such as 'a red bicycle', where the model reads them. "
            "Repeatable; with --like or --unlike, one of the examples.",
        ),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE",
            help="Search by several images at once, for what is like all of them. Repeatable.",
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="An image that hits are not to be like. Repeatable."),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Search by this part of the image, in fractions of its width and height, such as "
            "0.25,0.1,0.5,0.5; with --like, of the first one.",
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", metavar="N", min=1, max=MAX_RESULTS, help="Number of hits.")
    ] = DEFAULT_RESULTS,
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the 10 most similar images to find, such as 0.95; "
            "'simdist tune' measures what that takes.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Find only images with this label."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="Find only images that pass, such as 'price < 20 and label != \"shoes\"': "
            "docs/filters.md.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="Find all that are at least so similar, -1 to 1, up to N."
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Find N groups of images that agree in this: label, folder or a field of the "
            "metadata.",
        ),
    ] = None,
    group_size: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=MAX_RESULTS, help="Hits of each group, at most."),
    ] = 1,
    offset: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=MAX_RESULTS, help="Leave out the N best."),
    ] = 0,
    after: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="Go on behind an answer, whose --json has it: next."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a contact sheet (.png or .jpg).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Open a contact sheet.", rich_help_panel=options.OUTPUT),
    ] = False,
    as_json: options.AsJson = False,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help=f"Ray cluster whose query workers to ask, if 'simdist serve' runs there "
            f"[env var: {RAY_ADDRESS_VARIABLE}].",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="SIMDIST_SERVER",
            help="Service to ask; its token is read from SIMDIST_TOKEN.",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
) -> None:
    """Find the images most similar to one, or to what words say."""
    from simdist.search.contact_sheet import (
        check_target,
        contact_sheet,
        show_picture,
        write_picture,
    )
    from simdist.search.query import ask_by, ask_by_several
    from simdist.search.question import Question

    asked, like = _asked(images or [], text or [], like or [])
    several = _several(asked, like, unlike or [])
    # As labels are stored: a name that is copied from macOS is written otherwise.
    label = label and normalize("NFC", label)
    question = Question(
        crop=crop,
        n=n,
        recall=recall,
        min_score=min_score,
        offset=offset,
        after=after,
        group_by=group_by,
        group_size=group_size,
        label=label,
        where=where,
        collection=collection,
    )
    if out is not None:
        check_target(out)
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    with ExitStack() as stack:
        service = _service(stack, server, settings)
        if service is None:
            load = partial(_load, model, weights)
            found = _search_here(asked, several, question, settings, load)
        elif several is not None:
            found = [ask_by_several(*several, service, question)]
        else:
            found = [ask_by(image, service, question) for image in asked]
    # The sheet first: whoever reads the output may stop reading (`... | head`).
    sheet = contact_sheet(found) if out is not None or show else None
    if sheet is not None and out is not None:
        write_picture(sheet, out)
    if as_json:
        print_json(
            [
                {"query": query.name, "hits": [hit._asdict() for hit in hits], "next": hits.next}
                for query, hits in found
            ]
        )
    else:
        _render(found)
    if out is not None:
        # On stderr beside JSON, which must stay JSON.
        typer.echo(f"Contact sheet: {out}", err=as_json)
    if sheet is not None and show:
        show_picture(sheet)


def _asked(images: list[str], texts: list[str], like: list[str]) -> tuple[list[str], list[str]]:
    """What is searched for one by one, and what hits are to be like; words among either."""
    from simdist.search.query import Words
    from simdist.search.question import check_text

    for text in texts:
        check_text(text)
    words: list[str] = [Words(text) for text in texts]
    return (images, [*like, *words]) if like else ([*images, *words], [])


def _several(
    images: list[str], like: list[str], unlike: list[str]
) -> tuple[list[str], list[str]] | None:
    """The examples of one question; None where each image is a question by itself."""
    if images and like:
        raise UsageError("give images that are searched for one by one, or --like, not both")
    if not images and not like:
        raise UsageError("name an image to search by: simdist search photo.jpg, or --text WORDS")
    if unlike and len(images) > 1:
        raise UsageError("with --unlike, give the images that hits are to be like with --like")
    return (like or images, unlike) if like or unlike else None


def _service(stack: ExitStack, server: str | None, settings: Settings) -> Service | None:
    """What to ask in place of searching here."""
    if server is not None:
        from simdist.search.client import Client

        return stack.enter_context(Client(server, token=os.environ.get("SIMDIST_TOKEN")))
    if settings.ray_address is None:
        return None
    from cluster.runtime import ray_session
    from cluster.service.pool import Pool

    stack.enter_context(ray_session(settings))
    return Pool.find()


def _search_here(
    images: list[str],
    several: tuple[list[str], list[str]] | None,
    question: Question,
    settings: Settings,
    load_model: Callable[[str], Embedder],
) -> list[tuple[Query, Hits]]:
    from simdist.index.collection import Collection
    from simdist.index.partition import require_fitted
    from simdist.search.query import examples_of, resolve_queries
    from simdist.search.searcher import Searcher
    from simdist.store import open_store

    with open_store(settings) as store:
        opened = Collection.open(store, question.collection or DEFAULT_COLLECTION)
        # Before a model is loaded: an empty collection says so at once.
        require_fitted(opened.partitions)
        searcher, load = Searcher(opened), partial(load_model, opened.model)
        if several is not None:
            crop, whole = question.crop, replace(question, crop=None)
            first, like, unlike = examples_of(*several, opened, load_embedder=load, crop=crop)
            return [(first, searcher.ask(replace(whole, like=like, unlike=unlike)))]
        queries = resolve_queries(images, opened, load_embedder=load, crop=question.crop)
        return [(query, searcher.ask(question.by_vector(vector))) for query, vector in queries]


def _load(model: str | None, weights: Path | None, usual: str) -> Embedder:
    from simdist.embedding import Embedder

    # Its licence was accepted when the collection was made.
    return Embedder.load(model or usual, weights=weights, accept_licence=True)


def _render(found: list[tuple[Query, Hits]]) -> None:
    out = console()
    for query, hits in found:
        if len(found) > 1:
            out.print(f"\n{query.name}", markup=False)
        rows = table("", "score", "label", "image", right=("", "score"))
        for rank, hit in enumerate(hits, start=1):
            label, image = plain(hit.label or ""), plain(short_uri(hit.uri))
            rows.add_row(str(rank), f"{hit.score:.3f}", label, image)
        show(out, rows)
