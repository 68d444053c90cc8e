"""`simdist images`: what is said of single images, and of many at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdist.cli import options
from simdist.cli.help import Command
from simdist.cli.render import console, plain, print_json, short_uri, show, table
from simdist.errors import UnknownImageError, UsageError
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    from simdist.index.collection import Collection
    from simdist.index.scrolling import Choice
    from simdist.store.records import Record

images = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, label and delete the images of a collection.",
)

Uri = Annotated[str, typer.Argument(metavar="IMAGE", help="Its URI, or its file's path.")]
Uris = Annotated[
    list[str] | None,
    typer.Argument(metavar="[IMAGE...]", help="Their URIs, or their files' paths."),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="All images whose URI begins so; or the path of a folder.",
        rich_help_panel=options.WHICH_IMAGES,
    ),
]
Labelled = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="All images of this label.",
        rich_help_panel=options.WHICH_IMAGES,
    ),
]
Passing = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="All images that pass, such as 'price < 20': docs/filters.md.",
        rich_help_panel=options.WHICH_IMAGES,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@images.command("list", cls=Command)
def list_them(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    prefix: Prefix = None,
    labelled: Labelled = None,
    where: Passing = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Images on a page.")] = 100,
    after: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="The next page, as the page before names it."),
    ] = None,
    as_json: options.AsJson = False,
    redis: options.RedisUrl = None,
) -> None:
    """List the images page by page.

    An image that does not change meanwhile comes once, whatever else is added or deleted.
    """
    from simdist.index.collection import Collection
    from simdist.index.scrolling import scroll
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        page = scroll(opened, n=n, after=after, choice=_choice(prefix, labelled, where))
    if as_json:
        print_json({"images": [_as_json(record) for record in page.images], "next": page.next})
        return
    out, rows = console(), table("image", "label", "metadata")
    for record in page.images:
        metadata = json.dumps(record.metadata, ensure_ascii=False) if record.metadata else ""
        rows.add_row(plain(short_uri(record.uri)), plain(record.label or ""), plain(metadata))
    show(out, rows)
    if page.next:
        out.print(f"More: add --after {page.next}", markup=False)


@images.command(cls=Command)
def get(
    image: Uri,
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    vector: Annotated[bool, typer.Option("--vector", help="Show its embedding, too.")] = False,
    redis: options.RedisUrl = None,
) -> None:
    """Show what is stored of an image, as JSON."""
    from simdist.index.collection import Collection
    from simdist.sources import uri_of
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store:
        found = Collection.open(store, collection).get(uri_of(image))
    if found is None:
        raise UnknownImageError(f"{image} is not indexed in {collection!r}")
    shown = {"uri": found.uri, "label": found.label, "metadata": dict(found.metadata)}
    print_json(shown | ({"vector": found.vector.tolist()} if vector else {}))


@images.command("set", cls=Command)
def set_them(
    image: Uris = None,
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    prefix: Prefix = None,
    labelled: Labelled = None,
    where: Passing = None,
    label: Annotated[str | None, typer.Option(metavar="LABEL", help="The new label.")] = None,
    no_label: Annotated[bool, typer.Option("--no-label", help="Take the label away.")] = False,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="An object that is merged into the metadata (RFC 7386): null takes a field away.",
        ),
    ] = None,
    redis: options.RedisUrl = None,
) -> None:
    """Change labels and metadata. No image is read, and none embedded again."""
    from simdist.index.amending import Amendment, amend
    from simdist.index.collection import Collection
    from simdist.store import open_store

    if (label is None) == (not no_label) and (label is not None or metadata is None):
        raise UsageError("say what is to change: --label, --no-label or --metadata")
    amendment = Amendment(label, no_label, _object(metadata) if metadata is not None else None)
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        choice = _choice(prefix, labelled, where)
        changed = amend(opened, _chosen(opened, image, choice), amendment, choice=choice)
    _say("changed", changed, collection, image)


@images.command(cls=Command)
def delete(
    image: Uris = None,
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    prefix: Prefix = None,
    labelled: Labelled = None,
    where: Passing = None,
    yes: Yes = False,
    redis: options.RedisUrl = None,
) -> None:
    """Delete images from the index. Their files stay.

    Images that are named go at once; what an option chooses is counted first, and asked
    about.
    """
    from simdist.index.collection import Collection
    from simdist.index.deleting import delete_chosen
    from simdist.store import open_store

    if not image and not yes and not sys.stdin.isatty():
        raise UsageError("delete asks before it deletes, and nobody can answer here: add --yes")
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        choice = _choice(prefix, labelled, where)
        uris = list(_chosen(opened, image, choice))
        question = f"Delete {len(uris):,} images from the index of {collection}?"
        if not image and not yes and not typer.confirm(question, err=True):
            typer.echo("Nothing is deleted", err=True)
            return
        deleted = opened.delete(uris) if image else delete_chosen(opened, uris, choice)
    _say("deleted", deleted, collection, image)


def _say(done: str, count: int, collection: str, image: list[str] | None) -> None:
    if image and not count:
        raise UnknownImageError(f"{image[0]} is not indexed in {collection!r}")
    typer.echo(f"{count:,} images {done}")


def _chosen(opened: Collection, image: list[str] | None, choice: Choice) -> Iterable[str]:
    """The URIs of the images that are named, or else of those that are meant."""
    from simdist.index.scrolling import Choice, selected
    from simdist.sources import uri_of

    if bool(image) == (choice != Choice()):
        raise UsageError("name the images, or choose them by --prefix, --labelled or --where")
    if image:
        return [uri_of(one) for one in image]
    return selected(opened, choice)


def _choice(prefix: str | None, labelled: str | None, where: str | None) -> Choice:
    from simdist.index.scrolling import Choice
    from simdist.index.where import Where
    from simdist.sources import prefix_of

    return Choice(
        None if prefix is None else prefix_of(prefix),
        labelled,
        None if where is None else Where.parse(where),
    )


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError("""--metadata takes a JSON object, such as '{"price": 3}'""")
    return value


def _as_json(record: Record) -> dict[str, Any]:
    return {"uri": record.uri, "label": record.label, "metadata": dict(record.metadata)}
