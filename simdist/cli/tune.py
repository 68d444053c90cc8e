"""`simdist tune`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import console, print_json, show, table
from simdist.errors import UsageError
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from simdist.index.collection import Collection
    from simdist.index.tuning import Point, Tuning

# Recalls whose numbers of probes are pointed out.
WISHES = (0.90, 0.95, 0.99)
_BAR = 28


def tune(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure with the questions in this file, words, one a line, in place of stored "
            "images: for a collection that is searched by words.",
        ),
    ] = None,
    as_json: options.AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plot recall against cost (.png or .svg).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
) -> None:
    """Measure what each recall costs, so that it can be asked for.

    The exact answers for some stored images are compared with what the hash tables find at each
    number of probes. Run it again when the collection has changed a lot.
    """
    from simdist.index.collection import Collection
    from simdist.index.tuning import tune as measure
    from simdist.plots import check_plot, draw_tuning
    from simdist.store import open_store

    if plot is not None:
        check_plot(plot)
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor(unit="rows") as monitor:
        opened = Collection.open(store, collection)
        asked = None if texts is None else _embedded(texts, opened, model, weights)
        tuning = measure(opened.partitions, asked=asked, on_progress=monitor.count)
    if plot is not None:
        draw_tuning(tuning, plot, title=collection)
    if as_json:
        print_json(asdict(tuning))
    else:
        show_tuning(tuning, collection, asked="of them" if texts is None else "questions")
    if plot is not None:
        typer.echo(f"Plot: {plot}", err=as_json)


def _embedded(
    texts: Path, opened: Collection, model: str | None, weights: Path | None
) -> NDArray[np.float32]:
    from simdist.embedding import Embedder, load_model, require_words

    require_words(opened.model_id)
    try:
        lines = texts.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the questions in {texts}: {error}") from error
    asked = [line.strip() for line in lines if line.strip()]
    if not asked:
        raise UsageError(f"{texts} has no questions: write one on each line")
    # Its licence was accepted when the collection was made.
    loaded = load_model(model or opened.model, weights=weights, accept_licence=True)
    opened.require_model(loaded.id)
    return Embedder(loaded).embed_texts(asked)


def show_tuning(tuning: Tuning, collection: str, *, asked: str = "of them") -> None:
    """Print what was measured: a table that is a plot as well, for the probes double each time."""
    out = console()
    out.print(
        f"Recall@10 of {collection}, {tuning.images:,} images, measured with "
        f"{tuning.queries:,} {asked}:",
        markup=False,
    )
    rows = table("probes", "rows read", "recall", "at least", "", right=_NUMBERS)
    for point, wish in _shown(tuning):
        note = f" --recall {wish:.2f}" if wish else ""
        rows.add_row(
            f"{point.probes:,}",
            _percent(point.rows_read),
            f"{point.recall:.3f}",
            f"{point.bound:.3f}",
            _bar(point.recall) + note,
        )
    show(out, rows)


_NUMBERS = ("probes", "rows read", "recall", "at least")


def _shown(tuning: Tuning) -> list[tuple[Point, float | None]]:
    """The points to show, each with the highest of the usual recalls for which it is chosen."""
    chosen = {tuning.probes_for(wish): wish for wish in WISHES}
    counts = {tuning.points[-1].probes, *chosen}
    # Powers of two, and those half as large again.
    counts |= {factor << shift for shift in range(32) for factor in (1, 3)}
    return [(point, chosen.get(point.probes)) for point in tuning.points if point.probes in counts]


def _bar(recall: float) -> str:
    # Where the output cannot have blocks, plain characters do.
    block = "\N{FULL BLOCK}"
    try:
        block.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        block = "#"
    return block * round(_BAR * recall)


def _percent(share: float) -> str:
    """Two digits that count: 0.038 %, 1.9 %, 87 %."""
    percent = 100 * share
    digits = 0 if percent >= 10 else 1 if percent >= 1 else 2 if percent >= 0.1 else 3
    return f"{percent:.{digits}f} %"
