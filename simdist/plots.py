"""Figures as pictures: recall against cost, and an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simdist.errors import OutputError, UsageError
from simdist.evaluation import Evaluation
from simdist.index.tuning import Tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_BLUE, _INK, _FAINT = "#1668c7", "#1a1a1a", "#6b6b6b"
# Probes that are named beside their points.
_NAMED = tuple(4**power for power in range(12))


def check_plot(path: Path) -> None:
    """Raise a UsageError if no plot can be written there: better before the work than after it."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the plot's name must end in {', '.join(SUFFIXES)}, not {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}: make it first")


def draw_tuning(tuning: Tuning, path: Path, *, title: str) -> None:
    """Draw recall over the share of rows that are read, and name some numbers of probes.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    points = tuning.points
    shares = [100 * point.rows_read for point in points]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        shares,
        [point.bound for point in points],
        [point.recall for point in points],
        color=_BLUE,
        alpha=0.2,
        linewidth=0,
        label="down to the bound that is relied on",
    )
    axes.plot(
        shares,
        [point.recall for point in points],
        "o-",
        color=_BLUE,
        markersize=3,
        label=f"mean of {tuning.queries:,} queries",
    )
    for point, share in zip(points, shares, strict=True):
        if point.probes in _NAMED:
            axes.annotate(
                f"{point.probes:,}",
                (share, point.recall),
                xytext=(6, -10),
                textcoords="offset points",
                fontsize=8,
                color=_FAINT,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("rows read by a query (the numbers at the points: probes)", color=_INK)
    axes.set_ylabel("recall@10", color=_INK)
    axes.set_title(f"{title}: {tuning.images:,} images", color=_INK)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    _write(figure, path, dpi=150)


# Categories whose names fit beside their bars.
_NAMED_CATEGORIES = 40


def draw_evaluation(evaluation: Evaluation, path: Path, *, title: str) -> None:
    """Draw precision by rank, and precision@k by category; the collection must have labels.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    ranks = range(1, evaluation.k + 1)
    left.plot(ranks, evaluation.precision_at, "o-", color=_BLUE, markersize=4)
    left.set_xlabel("hits looked at", color=_INK)
    left.set_ylabel("share with the query's label", color=_INK)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.grid(alpha=0.3)
    ordered = sorted(evaluation.categories.items(), key=lambda item: item[1].precision)
    heights = range(len(ordered))
    right.barh(heights, [scores.precision for _, scores in ordered], height=0.9, color=_BLUE)
    names = [name if name.isprintable() else repr(name) for name, _ in ordered]
    if len(ordered) <= _NAMED_CATEGORIES:
        # A dollar sign would begin a formula.
        right.set_yticks(heights, [name.replace("$", r"\$") for name in names], fontsize=7)
    else:
        right.set_yticks([])
        right.set_ylabel(f"{len(ordered):,} categories", color=_INK)
    right.set_xlim(0, 1)
    right.set_xlabel(f"precision@{evaluation.k}", color=_INK)
    right.grid(alpha=0.3, axis="x")
    figure.suptitle(f"{title}: {evaluation.queries:,} queries, {evaluation.images:,} images")
    _write(figure, path, dpi=110)


def _write(figure: Figure, path: Path, *, dpi: int) -> None:
    try:
        figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
