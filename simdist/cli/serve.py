"""`simdist serve`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.options import size_of
from simdist.errors import LayoutError, MissingCollectionError, UsageError
from simdist.settings import DEFAULT_COLLECTION, THUMBNAILS, Settings

if TYPE_CHECKING:
    from simdist.index.collection import Collection
    from simdist.store import Store

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


def serve(
    *,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="NAME",
            help="Collection to serve, or an alias. Repeatable; requests go to the first by "
            "default, the others need not be there yet. "
            f"[default: {DEFAULT_COLLECTION}]",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen at; others than 127.0.0.1 need --tokens."
        ),
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65535, help="Port to listen at.")
    ] = DEFAULT_PORT,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|MIN:MAX", help="Number of query workers, or its bounds, to follow the load."
        ),
    ] = "1",
    parts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Divide each collection's partitions among so many times as many workers, which "
            "keep a part each; every search asks all parts.",
        ),
    ] = 1,
    cache_memory: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Memory of each worker's cache, such as 512MB or 4GB."),
    ] = "1GB",
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of bearer tokens, one 'read TOKEN' or 'write TOKEN' per line, with names of "
            "collections behind it if it is not for all "
            "[env var: SIMDIST_TOKENS_FILE; SIMDIST_READ_TOKENS, SIMDIST_WRITE_TOKENS].",
        ),
    ] = None,
    thumbnails_from: options.ThumbnailsFrom = None,
    thumbnail_space: options.ThumbnailSpace = "2GB",
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Whose pages may call the service from a browser, such as https://shop.example. "
            "Repeatable.",
        ),
    ] = None,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Answer searches over HTTP: an API, and a web page for people."""
    from cluster.service.app import Address, check_address, run
    from cluster.service.config import FETCH_LOOPBACK_VARIABLE, ServiceConfig, Tokens
    from simdist.sources.originals import root_uri
    from simdist.store import open_store

    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    if settings.redis_url is None and settings.ray_address is not None:
        raise UsageError(
            "workers on a cluster need a Redis that every node can reach: name it with --redis"
        )
    address = Address(host, port)
    known, least_and_most = Tokens.resolve(tokens), _workers(workers)
    memory = size_of(cache_memory)
    names = tuple(collection or [DEFAULT_COLLECTION])
    check_address(address, tokens=known)
    with open_store(settings) as store:
        opened = _opened(store, names)
        _check_parts(opened, parts)
        config = ServiceConfig(
            redis_url=store.url,
            collections=names,
            model=model or opened[0].model,
            weights=str(weights.absolute()) if weights else None,
            workers=least_and_most,
            parts=parts,
            cache_memory=memory,
            tokens=known,
            loopback=address.loopback,
            thumbnails_from=tuple(root_uri(place) for place in thumbnails_from or []),
            thumbnails_in=str(settings.data_dir / THUMBNAILS),
            thumbnail_space=size_of(thumbnail_space, least=0),
            cors_origins=tuple(cors_origin or ()),
            fetch_loopback=os.environ.get(FETCH_LOOPBACK_VARIABLE) == "1",
        )
        run(config, address, settings=settings, on_ready=lambda: _say_ready(address, names))
    typer.echo("Stopped.")


def _say_ready(address: object, collections: tuple[str, ...]) -> None:
    typer.echo(f"Serving {', '.join(collections)} at {address} (Ctrl-C stops it)")


def _opened(store: Store, names: Sequence[str]) -> list[Collection]:
    """The collections; those behind the first need not be there yet: callers may make them.

    Nor need they be of this version: the others can be served all the same.
    """
    from simdist.index.collection import Collection

    opened = [Collection.open(store, names[0])]
    for name in names[1:]:
        try:
            opened.append(Collection.open(store, name))
        except MissingCollectionError:
            typer.echo(f"{name} is not there yet; it is served from when it is", err=True)
        except LayoutError as error:
            typer.echo(f"{name} cannot be served: {error}", err=True)
    return opened


def _check_parts(collections: Sequence[Collection], parts: int) -> None:
    for collection in collections:
        if len(collection.partitions) < parts:
            raise UsageError(
                f"the collection {collection.name!r} has partitions for at most "
                f"{len(collection.partitions)} parts; it has as many as its first ingest was told"
            )


def _workers(text: str) -> tuple[int, int]:
    least, colon, most = text.partition(":")
    try:
        return int(least), int(most if colon else least)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a number of workers: write 4, or 2:16 for at least 2 and at most 16"
        ) from error
