"""`simdist offload`."""

from __future__ import annotations

from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import console
from simdist.errors import UsageError
from simdist.settings import DEFAULT_COLLECTION, Settings


def offload(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="Folder that every worker sees under this name, or s3://, gs:// or az:// prefix.",
            show_default=False,
        ),
    ] = None,
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    bits: Annotated[
        int,
        typer.Option(metavar="N", help="Bits of each value that stay in Redis: 4, 2 or 1."),
    ] = 4,
    back: Annotated[bool, typer.Option("--back", help="Bring everything back into Redis.")] = False,
    redis: options.RedisUrl = None,
) -> None:
    """Move vectors and records out of Redis into files.

    What stays there finds the candidates, whose vectors are then read from the files: answers are
    the same. Searches and writes continue meanwhile. Images that are added later lie in Redis
    until the same command runs again; it also resumes after an interruption.
    """
    from simdist.index.collection import Collection
    from simdist.index.inventory import describe
    from simdist.index.offloading import bring_back, offload
    from simdist.search.compiling import compile_search
    from simdist.store import open_store
    from simdist.vectors.codes import Codes

    if (folder is None) != back:
        raise UsageError("name the folder to move vectors to, or bring them --back")
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        with Monitor(unit="blocks") as monitor:
            if folder is None:
                rows = bring_back(opened, on_progress=monitor.count)
                done = "back in Redis"
            else:
                rows = offload(opened, folder, bits=bits, on_progress=monitor.count)
                done = f"now in {folder}"
                codec = opened.partitions[0].codec
                compile_search(codec, Codes.of(codec, bits))
        about = describe(opened)
    each = about.memory_bytes / max(1, about.images)
    console().print(
        f"{rows:,} images are {done}; Redis holds {each:,.0f} bytes an image", markup=False
    )
