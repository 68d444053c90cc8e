"""An evaluation, drawn."""

from __future__ import annotations

from pathlib import Path

from simdist.errors import SourceError
from simdist.evaluation import Evaluation

_BLUE, _INK, _FAINT = "#1668c7", "#1a1a1a", "#6b6b6b"
# Categories whose names fit beside their bars.
_NAMED = 40


def draw_evaluation(evaluation: Evaluation, path: Path, *, title: str) -> None:
    """Draw precision by rank, and precision@k by category; the collection must have labels.

    Raises:
        SourceError: the file cannot be written.
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
    places = range(len(ordered))
    right.barh(places, [scores.precision for _, scores in ordered], height=0.9, color=_BLUE)
    names = [name if name.isprintable() else repr(name) for name, _ in ordered]
    if len(ordered) <= _NAMED:
        # A dollar sign would begin a formula.
        right.set_yticks(places, [name.replace("$", r"\$") for name in names], fontsize=7)
    else:
        right.set_yticks([])
        right.set_ylabel(f"{len(ordered):,} categories", color=_INK)
    right.set_xlim(0, 1)
    right.set_xlabel(f"precision@{evaluation.k}", color=_INK)
    right.grid(alpha=0.3, axis="x")
    figure.suptitle(f"{title}: {evaluation.queries:,} queries, {evaluation.images:,} images")
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error.strerror or error}") from error
