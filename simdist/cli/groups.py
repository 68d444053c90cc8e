"""Groups of duplicates on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from simdist.cli.progress import Monitor
from simdist.cli.render import console, short_uri, show, table

if TYPE_CHECKING:
    from simdist.joining.duplicates import Duplicate, Duplicates

# Groups that are shown.
_SHOWN = 10


def show_thresholds(found: Duplicates, name: str, report: Path | None, monitor: Monitor) -> None:
    """Print what each threshold finds, and write pairs of all scores to a page."""
    from simdist.joining.report import write_report
    from simdist.joining.thresholds import sample_pairs, steps

    if report is not None:
        title = f"{name}: pairs by score"
        write_report(found, sample_pairs(found), report, title=title, on_progress=monitor.count)
    monitor.pause()
    rows = table("threshold", "groups", "images in them", "largest", right=_NUMBERS)
    for step in steps(found):
        least = f"{step.threshold:.2f}"
        rows.add_row(least, f"{step.groups:,}", f"{step.images:,}", f"{step.largest:,}")
    show(console(), rows)
    if report is not None:
        typer.echo(f"Written: {report}")


_NUMBERS = ("threshold", "groups", "images in them", "largest")


def print_groups(
    found: Duplicates,
    groups: Sequence[Sequence[Duplicate]],
    name: str,
    *,
    as_json: bool,
    list_files: bool,
) -> None:
    """Print groups in the form that was asked for."""
    if as_json:
        for group in groups:
            for one in group:
                typer.echo(json.dumps(asdict(one)))
    elif list_files:
        _list_files(groups)
    else:
        _show(found, groups, name)


def _show(found: Duplicates, groups: Sequence[Sequence[Duplicate]], name: str) -> None:
    """Print how many there are, and the largest groups."""
    out = console()
    kinds = Counter(one.kind for group in groups for one in group if not one.representative)
    epochs = " + ".join(f"{epoch:,}" for epoch in found.epochs)
    out.print(
        f"{name}: {found.images:,} images as of epoch {epochs}, {len(groups):,} groups of "
        f"duplicates: {kinds['same']:,} the same as their representative, {kinds['similar']:,} "
        "similar",
        markup=False,
    )
    for count, what in (
        (found.flat, "are blank or shade off evenly, and in no group"),
        (found.tiny, "are tiny, and in no group"),
        (found.unprinted, "have no print, and are compared by their embeddings only"),
    ):
        if count:
            out.print(f"{count:,} images {what}", markup=False)
    if not groups:
        return
    largest = sorted(groups, key=lambda group: (-len(group), group[0].group))[:_SHOWN]
    if len(largest) < len(groups):
        out.print(f"The {len(largest)} largest groups:", markup=False)
    rows = table("group", "score", "kind", "keep", "image", right=("group", "score"))
    for group in largest:
        for one in group:
            kind = "" if one.representative else one.kind
            mark = "keep" if one.keep else ""
            rows.add_row(str(one.group), f"{one.score:.3f}", kind, mark, short_uri(one.uri))
    show(out, rows)


def _list_files(groups: Sequence[Sequence[Duplicate]]) -> None:
    from simdist.joining.removing import file_names

    others = 0
    for name in file_names(removed(groups)):
        if name is None:
            others += 1
        else:
            typer.echo(name)
    if others:
        typer.echo(f"{others:,} more are not files of their own on this machine", err=True)


def removed(groups: Sequence[Sequence[Duplicate]]) -> list[str]:
    """The URIs of those that are not kept."""
    return [one.uri for group in groups for one in group if not one.keep]
