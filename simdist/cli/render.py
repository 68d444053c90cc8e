"""How values look on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from simdist.errors import SimdistError

if TYPE_CHECKING:
    from simdist.index.inventory import Unreadable

# Wide enough that nothing is folded where the output goes to a file or another program.
_PIPED_WIDTH = 4096


def console() -> Console:
    """The console for results: standard output."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2))


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `right` are of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", min_width=1
        )
    return made


def show(out: Console, rows: Table) -> None:
    """Print a table, without the spaces that fill its last column."""
    with out.capture() as capture:
        out.print(rows)
    for line in capture.get().splitlines():
        out.out(line.rstrip(), highlight=False)


def with_unreadable(
    listed: Iterable[dict[str, Any]], unreadable: Iterable[Unreadable]
) -> list[dict[str, Any]]:
    """Collections as JSON objects, and behind them those that cannot be read."""
    return [*listed, *map(asdict, unreadable)]


def show_unreadable(out: Console, unreadable: Sequence[Unreadable]) -> None:
    """Print which collections cannot be read, and what to do."""
    for one in unreadable:
        out.print(plain(f"Cannot be read: {one.problem}"), highlight=False)


def short_uri(uri: str) -> str:
    """A URI for people: a file's path, relative where it is below the working folder.

    What cannot be printed stays percent-encoded.
    """
    from simdist.sources import uri_path

    if not uri.startswith("file:"):
        return uri
    try:
        path = uri_path(uri)
    except SimdistError:
        return uri
    text = str(path)
    if not text.isprintable():
        return uri
    here = Path(os.path.abspath(os.curdir))
    return str(path.relative_to(here)) if path.is_relative_to(here) else text


def plain(text: str) -> str:
    """Text for a table's cell: no markup, and nothing that cannot be printed."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def duration(seconds: float) -> str:
    """2.4 s, 1:05 or 3:07:20."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def memory(size: int) -> str:
    """Bytes as KB, MB, GB or TB."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
