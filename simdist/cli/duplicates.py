"""`simdist duplicates`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.groups import print_groups, removed, show_thresholds
from simdist.cli.options import DECISIONS, REMOVING
from simdist.cli.options import WHICH_DUPLICATES as WHICH
from simdist.cli.progress import Monitor
from simdist.errors import UsageError
from simdist.joining.keeping import Keep
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    from simdist.index.collection import Collection
    from simdist.joining.duplicates import Duplicate, Duplicates


def duplicates(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    same: Annotated[
        bool,
        typer.Option(
            "--same",
            help="Only the same picture: other bytes, size or form, or lightly cropped.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    similar: Annotated[
        bool,
        typer.Option(
            "--similar",
            help="Also parts of a picture, and similar shots; the default.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=0,
            max=1,
            help="All that score so much.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    thresholds: Annotated[
        bool,
        typer.Option(
            "--thresholds",
            help="Show how many groups each threshold would give; the report shows pairs of all "
            "scores, to choose by looking.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    turned: Annotated[
        bool,
        typer.Option(
            "--turned",
            help="Also pictures that are mirrored, or turned by quarters.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a line for each image (.jsonl, .csv or .parquet).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            help="Write a page that shows the groups side by side.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a line of JSON for each image.", rich_help_panel=options.OUTPUT
        ),
    ] = False,
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="Which image of a group to keep; by default its representative.",
            rich_help_panel=REMOVING,
        ),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Delete the others from the index. No file is deleted, ever.",
            rich_help_panel=REMOVING,
        ),
    ] = False,
    list_files: Annotated[
        bool,
        typer.Option(
            "--list-files",
            help="Print the paths of the others, and nothing else, for your own rm.",
            rich_help_panel=REMOVING,
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Delete without asking.", rich_help_panel=REMOVING),
    ] = False,
    apart: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI,URI",
            help="These two are not duplicates. Repeatable.",
            rich_help_panel=DECISIONS,
        ),
    ] = None,
    keep_this: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI",
            help="Always keep this one. Repeatable.",
            rich_help_panel=DECISIONS,
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX",
            help="Always keep what lies in this folder or begins with this URI. Repeatable.",
            rich_help_panel=DECISIONS,
        ),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Forget all decisions first.", rich_help_panel=DECISIONS),
    ] = False,
    redis: options.RedisUrl = None,
) -> None:
    """Find the near-duplicates of a collection, in groups.

    No image is read. Each group has a representative, and its other images are near that one. The
    same picture in another size or form is told from one that is only similar.
    """
    from simdist.index.collection import Collection
    from simdist.joining.decisions import Decisions, forget_decisions
    from simdist.joining.duplicates import Duplicate, Sought, find_duplicates
    from simdist.joining.writing import check_folder, check_table, write_table
    from simdist.sources import prefix_of, uri_of
    from simdist.store import open_store

    ways = same + similar + thresholds + (threshold is not None)
    _check(ways, thresholds=thresholds, others=delete or list_files or as_json or out is not None)
    if as_json and list_files:
        raise UsageError("--json and --list-files both print on standard output: choose one")
    if delete and not yes and not sys.stdin.isatty():
        raise UsageError("--delete asks before it deletes, and nobody can answer here: add --yes")
    if out is not None:
        check_table(out)
    if report is not None:
        check_folder(report)
    decided = Decisions(
        apart=frozenset(map(_pair, apart or ())),
        keep=frozenset(map(uri_of, keep_this or ())),
        references=tuple(map(prefix_of, reference or ())),
    )
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor() as monitor:
        opened = Collection.open(store, collection)
        if forget:
            monitor.say(f"{forget_decisions(opened):,} decisions forgotten")
        decided.add_to(opened)
        found = find_duplicates(opened, turns=turned, on_progress=monitor.count)
        if thresholds:
            show_thresholds(found, collection, report, monitor)
            return
        sought = Sought.same if same else Sought.similar
        groups = found.groups(sought, threshold=threshold, keep=keep)
        if out is not None:
            write_table((one for group in groups for one in group), Duplicate, out)
        if report is not None:
            from simdist.joining.report import write_report

            write_report(found, groups, report, title=collection, on_progress=monitor.count)
        monitor.pause()
        print_groups(found, groups, collection, as_json=as_json, list_files=list_files)
        for path in (out, report):
            if path is not None:
                typer.echo(f"Written: {path}", err=as_json or list_files)
        if delete:
            _delete(opened, found, groups, yes=yes)


def _check(ways: int, *, thresholds: bool, others: bool) -> None:
    """Check that the options which say what is sought go together."""
    if ways > 1:
        raise UsageError("choose one of --same, --similar, --threshold and --thresholds")
    if thresholds and others:
        raise UsageError("--thresholds finds no groups: it goes with --report only")


def _delete(
    opened: Collection, found: Duplicates, groups: Sequence[Sequence[Duplicate]], *, yes: bool
) -> None:
    from simdist.joining.removing import remove

    others = removed(groups)
    if not others:
        typer.echo("Nothing to delete", err=True)
        return
    question = f"Delete {len(others):,} images from the index of {opened.name}?"
    if not yes and not typer.confirm(question, err=True):
        typer.echo("Nothing is deleted", err=True)
        return
    deleted, changed = remove(opened, found.whole, others)
    typer.echo(f"{deleted:,} images deleted from the index", err=True)
    if changed:
        typer.echo(f"{changed:,} have changed meanwhile, and are left", err=True)


def _pair(given: str) -> tuple[str, str]:
    from simdist.sources import uri_of

    one, comma, other = given.partition(",")
    if not comma or not one or not other:
        raise UsageError(f"--apart needs two URIs with a comma between them, not {given!r}")
    first, second = sorted((uri_of(one), uri_of(other)))
    return first, second
