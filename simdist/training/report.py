"""A training's report: `report.md` with pictures, in the bundle's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.embedding.embedder import Embedder
from simdist.embedding.model import Model
from simdist.search.contact_sheet import contact_sheet, write_picture
from simdist.search.query import Query
from simdist.search.question import Hit
from simdist.sources import ImageRef
from simdist.training.learner import Data

if TYPE_CHECKING:
    from simdist.training.job import Trained

REPORT, CURVES, NEIGHBOURS = "report.md", "curves.png", "neighbours.jpg"
# Images that are looked at for the report: validation images, and training images to find.
_CHECKED, _FOUND = 2000, 1000
_SHOWN, _PAIRS = 5, 10
_BLUE, _INK, _FAINT = "#1668c7", "#1a1a1a", "#9a9a9a"


def write_report(
    folder: Path,
    model: Model,
    data: Data,
    refs: Sequence[ImageRef],
    *,
    trained: Trained,
    losses: Sequence[float],
    device: str,
) -> None:
    """Write the report of a training.

    Args:
        refs: the images of `data`.
        losses: of each training batch.
    """
    generator = np.random.default_rng(0)
    checked = _drawn(generator, data.validation, _CHECKED)
    found = _drawn(generator, data.training, _FOUND)
    embedder = Embedder(model, device=device, full_precision=True)
    vectors, scores = embedder.classify(data.pixels[np.concatenate([checked, found])])
    asked, stored = vectors[: len(checked)], vectors[len(checked) :]
    predicted = scores[: len(checked)].argmax(axis=1)
    _draw_curves(folder / CURVES, trained, losses)
    best = np.argsort(-(asked @ stored.T), axis=1)
    searches = []
    for number in _drawn(generator, np.arange(len(checked)), _SHOWN):
        query = refs[checked[number]]
        hits = [
            Hit(near.uri, float(score), near.label, {})
            for near, score in (
                (refs[found[one]], asked[number] @ stored[one]) for one in best[number][:_SHOWN]
            )
        ]
        searches.append((Query(query.uri, query.uri, None), hits))
    write_picture(contact_sheet(searches), folder / NEIGHBOURS)
    confused = Counter(
        (model.classes[true], model.classes[other])
        for true, other in zip(data.labels[checked], predicted, strict=True)
        if true != other
    )
    alike = float((data.labels[found[best[:, 0]]] == data.labels[checked]).mean())
    text = _text(model, trained, confused, checked=len(checked), found=len(found), alike=alike)
    (folder / REPORT).write_text(text, encoding="utf-8", errors="replace")


def _drawn(generator: np.random.Generator, of: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if len(of) <= count:
        return of
    return np.sort(generator.choice(of, count, replace=False))


def _draw_curves(path: Path, trained: Trained, losses: Sequence[float]) -> None:
    """Losses and accuracy over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = trained.epochs
    ends = np.arange(1, len(epochs) + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.linspace(0, len(epochs), len(losses), endpoint=False)
    left.plot(at, losses, color=_FAINT, linewidth=0.6, label="a training batch")
    left.plot(ends, [e.training_loss for e in epochs], "o-", color=_INK, label="training")
    left.plot(ends, [e.validation_loss for e in epochs], "o-", color=_BLUE, label="validation")
    left.set_ylabel("loss")
    left.legend(frameon=False)
    right.plot(ends, [100 * e.accuracy for e in epochs], "o-", color=_BLUE)
    right.set_ylabel("validation accuracy, %")
    border = sum(epoch.phase == 0 for epoch in epochs)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if 0 < border < len(epochs):
            axes.axvline(border, color=_FAINT, linestyle=":")
    figure.savefig(path, dpi=110)


def _text(
    model: Model,
    trained: Trained,
    confused: Counter[tuple[str, str]],
    *,
    checked: int,
    found: int,
    alike: float,
) -> str:
    parts, best = trained.split, trained.epochs[trained.best]
    lines = [
        f"# {model.id}",
        "",
        f"{model.backbone}, trained on {len(parts.training):,} images of {len(parts.classes):,} "
        f"categories, checked with {len(parts.validation):,}; {len(parts.test):,} are left for "
        "testing. The bundle has the weights after the epoch with the lowest validation loss, "
        f"number {trained.best + 1}: accuracy {best.accuracy:.3f}.",
        "",
        f"Of {checked:,} validation images, {alike:.1%} have an image of their own category as "
        f"their nearest among {found:,} training images.",
        "",
        *_epochs(trained),
        "",
        f"![Losses and accuracy]({CURVES})",
        "",
    ]
    if any(epoch.phase == 0 for epoch in trained.epochs):
        lines += ["To the left of the dotted line only the head was trained.", ""]
    lines += ["## Most confused", "", *_confusions(confused), ""]
    lines += [
        "## Neighbours",
        "",
        "Validation images, and the training images whose embeddings are nearest.",
        "",
        f"![Validation images and their neighbours]({NEIGHBOURS})",
        "",
    ]
    if trained.left_out:
        lines += ["## Left out", "", "These images could not be read:", ""]
        lines += [f"- {_cell(uri)}: {_cell(why)}" for uri, why in trained.left_out.items()]
        lines.append("")
    return "\n".join(lines)


def _epochs(trained: Trained) -> list[str]:
    return [
        "| epoch | trained | training loss | validation loss | accuracy | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {number} | {'everything' if epoch.phase else 'head'} | {epoch.training_loss:.4f} "
            f"| {epoch.validation_loss:.4f} | {epoch.accuracy:.4f} | {epoch.seconds:.0f} |"
            for number, epoch in enumerate(trained.epochs, 1)
        ),
    ]


def _confusions(confused: Counter[tuple[str, str]]) -> list[str]:
    if not confused:
        return ["Every validation image was put into its own category."]
    return [
        "| category | taken for | images |",
        "| --- | --- | --- |",
        *(
            f"| {_cell(true)} | {_cell(other)} | {count} |"
            for (true, other), count in confused.most_common(_PAIRS)
        ),
    ]


def _cell(text: str) -> str:
    """Text that is no Markdown."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    for sign in "\\|<*_`[":
        plain = plain.replace(sign, "\\" + sign)
    return plain
