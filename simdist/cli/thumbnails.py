"""`simdist thumbnails`."""

from __future__ import annotations

import os

from simdist.cli import options
from simdist.cli.options import size_of
from simdist.cli.progress import Monitor
from simdist.cli.render import console
from simdist.settings import DEFAULT_COLLECTION, THUMBNAILS, Settings

_THREADS = 8


def thumbnails(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    thumbnails_from: options.ThumbnailsFrom = None,
    thumbnail_space: options.ThumbnailSpace = "2GB",
    redis: options.RedisUrl = None,
) -> None:
    """Make the thumbnails of a collection ahead of the first look.

    They are kept in the data folder, where a service on this machine finds them. Those that are
    there already are left alone, so that the same command goes on after an interruption.
    """
    from simdist.images.thumbnails import Shelf
    from simdist.index.collection import Collection
    from simdist.index.thumbnails import make_thumbnails
    from simdist.sources import Access
    from simdist.sources.originals import root_uri
    from simdist.store import open_store

    settings = Settings.resolve(redis_url=redis)
    shelf = Shelf(settings.data_dir / THUMBNAILS, room=size_of(thumbnail_space))
    with open_store(settings) as store, Monitor() as monitor:
        made = make_thumbnails(
            Collection.open(store, collection),
            shelf,
            roots=[root_uri(place) for place in thumbnails_from or []],
            access=Access.resolve(),
            threads=min(_THREADS, os.cpu_count() or 1),
            on_progress=monitor.count,
        )
    text = f"{made.made:,} thumbnails were made, {made.there:,} were there already"
    if made.unreadable:
        text += f"; {made.unreadable:,} images cannot be read where they were indexed"
    console().print(text, markup=False)
