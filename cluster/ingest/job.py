"""`simdist.ingest`: a whole ingest, from what a person names to what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.saved import ingest_saved
from simdist.settings import DEFAULT_COLLECTION, DEFAULT_EXPECT, DEFAULT_MODEL, Settings
from simdist.sources import Access, Columns, LabelFrom, Selection, open_source
from simdist.sources.saved import SavedEmbeddings, is_saved
from simdist.store import open_store


def ingest(
    location: str | Path,
    *,
    collection: str = DEFAULT_COLLECTION,
    model: str = DEFAULT_MODEL,
    expect: int = DEFAULT_EXPECT,
    partitions: int = 1,
    force: bool = False,
    prune: Callable[[int], bool] | None = None,
    save_embeddings: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    limit: int | None = None,
    label_from: LabelFrom | None = None,
    uri_column: str | None = None,
    label_column: str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    gpus: int | None = None,
    actors: int | None = None,
    weights: Path | None = None,
    redis: str | None = None,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Index the images of a folder, a bucket, archives or lists; or embeddings that were saved.

    Images that the collection has already are skipped: after an error or Ctrl-C, the same call
    goes on where it stopped. What cannot be indexed is kept with the collection
    (`simdist.ingest.failures.kept`).

    Args:
        location: a folder, image, archive or list: a path, or s3://, gs://, az://; or a pattern.
            A folder, prefix or file of saved embeddings is indexed without images, model or Ray.
        collection: made if there is none of that name, for about `expect` images.
        model: a model's name, or the folder of a bundle.
        partitions: parts of a new collection that a Redis Cluster may keep on different nodes.
        force: embed also the images that the collection has, and replace them.
        prune: asked at the end whether to delete so many images that are gone from the location.
        save_embeddings: also write the embeddings, as Parquet files, to this folder or prefix.
        include, exclude, limit, label_from: see `simdist.sources.Selection`.
        uri_column, label_column: columns of a list; by default those with the usual names.
        endpoint_url, region, anonymous: how to reach an object store, see `Access.resolve`.
        gpus, actors: how much of the cluster to use; by default all of it. One of the two.
        weights: a file of weights in place of the model's published ones.
        redis, ray_address: URL of the server, address of a Ray cluster; by default what the
            environment says, else both are started on this machine.
        on_progress: called about twice a second, in this thread.

    Raises:
        UsageError: arguments that do not go together.
        SourceError: the location cannot be read; or, with `prune`, not all of it.
        ModelError, ModelMismatchError: no such model; or another one made the collection.
        StoreError: the server cannot be reached, refuses, or was lost.
        ClusterError: Ray cannot be had, or lost a part of the work.
    """
    if gpus and actors:
        raise UsageError("each GPU has one actor: give a number of GPUs or of actors, not both")
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    access = Access.resolve(endpoint_url=endpoint_url, region=region, anonymous=anonymous)
    selection = Selection(
        include=tuple(include),
        exclude=tuple(exclude),
        limit=limit,
        label_from=label_from,
        columns=Columns(uri=uri_column, label=label_column),
    )
    if is_saved(str(location), access):
        if selection != Selection() or prune or save_embeddings:
            raise UsageError(
                f"{location} holds embeddings, which are indexed as they are: leave out the "
                "options that select, label, prune and save"
            )
        with open_store(settings) as store:
            return ingest_saved(
                str(location),
                store=store,
                name=collection,
                access=access,
                on_progress=on_progress or _ignore,
                expect=expect,
                partitions=partitions,
                force=force,
            )
    source = open_source(str(location), selection=selection, access=access)
    # Only now: saved embeddings need neither Ray nor PyTorch.
    from cluster.ingest.driver import ingest_images
    from simdist.embedding import load_model

    with open_store(settings) as store:
        loaded = load_model(model, weights=weights)
        opened = Collection.ensure(
            store, collection, model=loaded, expect=expect, partitions=partitions
        )
        saved = None
        if save_embeddings:
            saved = SavedEmbeddings.create(save_embeddings, access=access, model_id=loaded.id)
        return ingest_images(
            source,
            collection=opened,
            model=loaded,
            on_progress=on_progress or _ignore,
            settings=settings,
            force=force,
            prune=prune,
            saved=saved,
            gpus=gpus,
            actors=actors,
        )


def _ignore(progress: Progress) -> None:
    """Nobody wants to know how far it is."""
