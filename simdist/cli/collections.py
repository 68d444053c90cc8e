"""`simdist collections`: which there are, and what they are called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.help import Command
from simdist.cli.progress import Monitor
from simdist.cli.render import console, print_json, show, show_unreadable, table, with_unreadable
from simdist.errors import UsageError
from simdist.settings import Settings

collections = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, rename, copy and drop collections; give them aliases.",
)

Named = Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection, or an alias.")]


@collections.command("list", cls=Command)
def list_them(*, as_json: options.AsJson = False, redis: options.RedisUrl = None) -> None:
    """List the collections, their aliases, and what is not finished with them."""
    from simdist.index.inventory import of_each
    from simdist.index.names import Names
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store:
        counted, unreadable = of_each(store, lambda opened: (opened, opened.count()))
        names = Names.read(store)
    work = list(names.work().values())
    found = [
        (one.name, count, one.model_id, [by for by, to in names.aliases.items() if to == one.name])
        for one, count in counted
    ]
    if as_json:
        fields = ("name", "images", "model", "aliases")
        listed = [dict(zip(fields, values, strict=True)) for values in found]
        print_json(with_unreadable(listed, unreadable))
        return
    out = console()
    if not found and not unreadable:
        out.print("No collections yet. Make one with: simdist ingest FOLDER")
    if found:
        rows = table("collection", "images", "aliases", "model", right=("images",))
        for name, count, model, aliases in found:
            rows.add_row(name, f"{count:,}", ", ".join(aliases), model)
        show(out, rows)
    show_unreadable(out, unreadable)
    for one_work in work:
        what = " ".join(
            str(one_work[key]) for key in ("doing", "source", "name") if key in one_work
        )
        out.print(f"Not finished: simdist collections {what}", markup=False)


@collections.command(cls=Command)
def rename(
    old: Named,
    new: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    *,
    redis: options.RedisUrl = None,
) -> None:
    """Call a collection something else.

    It is one write, whatever the collection's size. Its aliases lead to it still; what has it open
    under the old name is told that there is none, but an ingest goes on.
    """
    from simdist.index import names
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store:
        names.rename(store, old, new)
    typer.echo(f"{old} is called {new} now")


@collections.command(cls=Command)
def alias(
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="The other name.")],
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="What it is to lead to.")
    ] = None,
    *,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the alias; the collection stays.")
    ] = False,
    redis: options.RedisUrl = None,
) -> None:
    """Let another name lead to a collection, or to another one than before.

    It is one write. Searches and services that use the alias go over within a second, each answer
    from one of the two; an ingest goes on into the collection that it has begun with.
    """
    from simdist.index import names
    from simdist.store import open_store

    if remove == (collection is not None):
        raise UsageError("name the collection that the alias is to lead to, or give --remove")
    with open_store(Settings.resolve(redis_url=redis)) as store:
        if collection is None:
            names.remove_alias(store, name)
            typer.echo(f"{name} is no alias any more")
        else:
            typer.echo(f"{name} leads to {names.set_alias(store, name, collection)}")


@collections.command(cls=Command)
def copy(
    source: Named,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the copy is to be called.")],
    *,
    redis: options.RedisUrl = None,
) -> None:
    """Copy a collection, as it is at one moment, while it is used.

    Nobody sees the copy before it is whole. Failures and decisions are not copied. After an
    interruption, run the same command again to go on, or drop the copy.
    """
    from simdist.index.copying import copy as run
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor() as monitor:
        images = len(run(store, source, name, on_progress=monitor.count))
    typer.echo(f"{images:,} images of {source} copied: {name}")


@collections.command(cls=Command)
def drop(
    collection: Named,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    redis: options.RedisUrl = None,
) -> None:
    """Drop a collection: its images, vectors, tables, failures and decisions. Files stay.

    Whoever searches or ingests into it is told that it is gone. After an interruption, run the same
    command again to remove what is left.
    """
    from simdist.index.collection import Collection
    from simdist.index.dropping import begun
    from simdist.index.dropping import drop as run
    from simdist.store import open_store

    if not yes and not sys.stdin.isatty():
        raise UsageError("drop asks before it drops, and nobody can answer here: add --yes")
    with open_store(Settings.resolve(redis_url=redis)) as store:
        if not yes and not begun(store, collection):
            images = Collection.open(store, collection).count()
            if not typer.confirm(f"Drop {collection} with its {images:,} images?", err=True):
                typer.echo("Nothing is dropped", err=True)
                return
        with Monitor(unit="keys") as monitor:
            run(store, collection, on_progress=monitor.count)
    typer.echo(f"{collection} is dropped")
