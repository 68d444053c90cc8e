"""The plot of `bench.index`: recall against queries a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.index_measure import Row

# What is told apart: simdist's families by shades of one strong colour, the graphs, the scans.
STYLES = {
    "simdist-kmeans": ("#c1121f", "o"),
    "simdist-hyperplanes": ("#f4772e", "s"),
    "simdist-gaussian": ("#f2b134", "D"),
    "vector-sets": ("#1d3557", "^"),
    "hnswlib": ("#2a7fb8", "v"),
    "faiss-hnsw": ("#67b7d1", "<"),
    "faiss-ivf": ("#2a9d5c", ">"),
    "faiss-lsh": ("#8d6cab", "P"),
    "exact": ("#333333", "*"),
    "lshash3": ("#8a8a8a", "X"),
}
TICKS = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1)
# Where the stretched axis ends: beyond 1, so that 1 is on it.
END = 1.01


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """A line a system, through those settings that no other one beats in both respects."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, axes = pyplot.subplots(figsize=(10, 6), layout="constrained")
    for system, (colour, marker) in STYLES.items():
        points = _front(row for row in rows if row.system == system)
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                markersize=10 if marker == "*" else 6,
                linewidth=2.4 if system.startswith("simdist") else 1.4,
                label=system,
            )
    axes.set_yscale("log")
    axes.set_xscale("function", functions=(_stretched, _straight))
    axes.set_xlim(max(0, min(row.recall_at_10 for row in rows) - 0.05), 1.002)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("recall@10, all neighbours")
    axes.set_ylabel("queries a second, one at a time (1 / median wait)")
    axes.set_title(f"{title}: up and to the right is better", loc="left")
    axes.grid(visible=True, which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _stretched(recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearer to 1, the wider: half as many missed is as far anywhere."""
    missed: NDArray[np.float64] = -np.log(np.maximum(END - recall, 1e-9))
    return missed


def _straight(stretched: NDArray[np.float64]) -> NDArray[np.float64]:
    recall: NDArray[np.float64] = END - np.exp(-stretched)
    return recall


def _front(rows: Iterable[Row]) -> list[tuple[float, float]]:
    """(recall, queries a second), the least recall first, each faster than all of more recall."""
    front: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (-row.recall_at_10, row.search_p50_ms)):
        rate = 1e3 / row.search_p50_ms
        if not front or rate > front[-1][1]:
            front.append((row.recall_at_10, rate))
    return front[::-1]
