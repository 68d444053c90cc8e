"""`simdist.ingest`: a whole ingest, from what a person names to what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.ingest.stages import check_workers
from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.declared import Field, declare
from simdist.ingest.duplicates import OnDuplicate
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.saved import ingest_saved
from simdist.ingest.typed import typed
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
    hidden: bool = False,
    label_from: LabelFrom | None = None,
    uri_column: str | None = None,
    label_column: str | None = None,
    index: Sequence[str] = (),
    gps: bool = False,
    on_duplicate: OnDuplicate | str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    gpus: int | None = None,
    actors: int | None = None,
    weights: Path | None = None,
    accept_licence: bool = False,
    redis: str | None = None,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Index the images of a folder, a bucket, archives or lists; or embeddings that were saved.

    >>> summary = simdist.ingest("photos/", collection="demo", model="efficientnet-lite0")
    >>> summary.added
    3

    Images that the collection has already are skipped, so that the same call resumes after an
    error. What cannot be indexed is kept with the collection (`simdist.ingest.failures.kept`).

    Args:
        location: a folder, image, archive or list: a path, or s3://, gs://, az://; or a pattern.
            A folder, prefix or file of saved embeddings is indexed without images, model or Ray.
        collection: made if there is none of that name, for about `expect` images.
        model: a model's name, or the folder of a bundle.
        partitions: parts of a new collection that a Redis Cluster may keep on different nodes.
        force: embed also the images that the collection has, and replace them.
        prune: asked at the end whether to delete so many images that are gone from the location, or
            excluded now.
        save_embeddings: also write the embeddings, as Parquet files, to this folder or prefix.
        include, exclude, limit, hidden, label_from: see `simdist.sources.Selection`.
        uri_column, label_column: columns of a list; by default those with the usual names.
        index: fields of the metadata with their types, such as "price:float": what lists say in
            texts is read so, now and in later ingests, and an image of which that cannot be is a
            failure. Workers of a service have these fields at hand when they start.
        gps: keep also where photographs were taken, if they say so.
        on_duplicate: of images that are the same pictures as others, which came before: "report"
            how many there are, "skip" them, or "link" them to the others in their metadata.
        endpoint_url, region, anonymous: how to reach an object store, see `Access.resolve`.
        gpus, actors: how many of either to use; by default all GPUs, without any all CPUs.
        weights: a file of weights in place of the model's published ones.
        accept_licence: use the model also if the licence of its weights forbids commercial use.
        redis, ray_address: URL and address of servers; by default the environment's, or new ones.
        on_progress: called about twice a second, in this thread.

    Raises:
        UsageError: arguments that do not go together; or a licence that must be accepted, and is
            not.
        SourceError: the location cannot be read; or, with `prune`, not all of it.
        ModelError, ModelMismatchError: no such model; or another one made the collection.
        StoreError, ClusterError: Redis or Ray cannot be reached, or was lost.
    """
    check_workers(gpus=gpus, actors=actors)
    fields = [Field.parse(text) for text in index]
    action = _action(on_duplicate)
    access = Access.resolve(endpoint_url=endpoint_url, region=region, anonymous=anonymous)
    columns = Columns(uri=uri_column, label=label_column)
    selection = Selection(tuple(include), tuple(exclude), limit, label_from, columns, hidden)
    job = _Job(
        location=str(location),
        access=access,
        settings=Settings.resolve(redis_url=redis, ray_address=ray_address),
        collection=collection,
        expect=expect,
        partitions=partitions,
        force=force,
        on_progress=on_progress or _ignore,
    )
    if is_saved(job.location, access):
        if selection != Selection() or prune or save_embeddings or action or fields:
            raise _only_as_they_are(job.location)
        return job.index_embeddings()
    return job.index_images(
        selection,
        fields=fields,
        model=model,
        weights=weights,
        accept_licence=accept_licence,
        prune=prune,
        save_embeddings=save_embeddings,
        gps=gps,
        on_duplicate=action,
        gpus=gpus,
        actors=actors,
    )


@dataclass(frozen=True)
class _Job:
    """What an ingest is told, whatever lies at its location."""

    location: str
    access: Access
    settings: Settings
    collection: str
    expect: int
    partitions: int
    force: bool
    on_progress: Callable[[Progress], None]

    def index_embeddings(self) -> Summary:
        """Index saved embeddings; that needs neither Ray nor PyTorch."""
        with open_store(self.settings) as store:
            return ingest_saved(
                self.location,
                store=store,
                name=self.collection,
                access=self.access,
                on_progress=self.on_progress,
                expect=self.expect,
                partitions=self.partitions,
                force=self.force,
            )

    def index_images(
        self,
        selection: Selection,
        *,
        fields: Sequence[Field],
        model: str,
        weights: Path | None,
        accept_licence: bool,
        prune: Callable[[int], bool] | None,
        save_embeddings: str | None,
        gps: bool,
        on_duplicate: OnDuplicate | None,
        gpus: int | None,
        actors: int | None,
    ) -> Summary:
        """Index images, on Ray."""
        source = open_source(self.location, selection=selection, access=self.access)

        from cluster.ingest.driver import ingest_images
        from simdist.embedding import load_model

        with open_store(self.settings) as store:
            loaded = load_model(model, weights=weights, accept_licence=accept_licence)
            collection = Collection.ensure(
                store,
                self.collection,
                model=loaded,
                expect=self.expect,
                partitions=self.partitions,
            )
            first = not collection.is_fitted()
            if known := declare(collection, fields):
                source = replace(source, entries=typed(source.entries, known))
            saved = None
            if save_embeddings:
                saved = SavedEmbeddings.create(
                    save_embeddings, access=self.access, model_id=loaded.id
                )
            summary = ingest_images(
                source,
                collection=collection,
                model=loaded,
                on_progress=self.on_progress,
                settings=self.settings,
                force=self.force,
                prune=prune,
                saved=saved,
                gps=gps,
                on_duplicate=on_duplicate,
                gpus=gpus,
                actors=actors,
            )
            return replace(summary, licence=loaded.licence) if first else summary


def _action(name: OnDuplicate | str | None) -> OnDuplicate | None:
    try:
        return None if name is None else OnDuplicate(name)
    except ValueError as error:
        raise UsageError(
            f"duplicates are reported, skipped or linked: {name!r} is none of "
            + ", ".join(OnDuplicate)
        ) from error


def _only_as_they_are(location: str) -> UsageError:
    return UsageError(
        f"{location} holds embeddings, which are indexed as they are: leave out the options that "
        "select, label, prune, save and look for duplicates"
    )


def _ignore(progress: Progress) -> None:
    """Nobody wants to know how far it is."""
