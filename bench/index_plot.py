"""The plot of `bench.index`: recall against the CPU time of a query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.index_measure import Row

# By what they are: hash tables in warm colours, graphs in cold ones, inverted lists in greens,
# scans in greys. The order is the legend's.
SOLID, DASHED, DOTTED = "-", (0, (5, 2)), (0, (1, 1.5))
STYLES = {
    "simdist-kmeans": ("#d00000", "o", SOLID),
    "simdist-hyperplanes": ("#f4772e", "s", SOLID),
    "simdist-gaussian": ("#f2b134", "D", SOLID),
    "lshash3": ("#8c564b", "X", SOLID),
    "symphonyqg": ("#111111", "p", SOLID),
    "glass": ("#b5179e", "h", SOLID),
    "svs": ("#7209b7", "d", SOLID),
    "hnswlib": ("#1f6fd6", "v", SOLID),
    "usearch": ("#00b4d8", "<", SOLID),
    "faiss-hnsw": ("#8fb8de", "^", SOLID),
    "vector-sets": ("#1d3557", ">", SOLID),
    "lancedb": ("#7f8fa9", "H", SOLID),
    "rabitqlib-ivf": ("#1b7f3b", "P", DASHED),
    "scann": ("#7cb518", "8", DASHED),
    "faiss-ivf": ("#2ec4a0", "X", DASHED),
    "faiss-lsh": ("#8a8a8a", "s", DOTTED),
    "exact": ("#333333", "*", DOTTED),
}
TICKS = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998, 1)
# What finds less is not drawn where anything finds more: the eye shall rest on .9 to 1.
LEAST = 0.8
# Where the stretched axis ends: beyond 1, so that 1 is on it.
END = 1.005


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """A line a system, through those settings that no other one beats in both respects."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    least = LEAST if any(row.recall_at_10 >= LEAST for row in rows) else 0
    figure, axes = pyplot.subplots(figsize=(11, 6.5), layout="constrained")
    for system, (colour, marker, line) in STYLES.items():
        points = _front(row for row in rows if row.system == system)
        if not points:
            continue
        drawn = [point for point in points if point[1] >= least]
        axes.plot(
            [time for time, _ in drawn],
            [recall for _, recall in drawn],
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=11 if marker == "*" else 6,
            linewidth=2.8 if system == "simdist-kmeans" else 1.4,
            zorder=3 if system == "simdist-kmeans" else 2,
            label=system if drawn else f"{system} (below {least:g})",
        )
    axes.set_xscale("log")
    axes.set_yscale("function", functions=(_stretched, _straight))
    axes.set_ylim(least, 1.0005)
    ticks = [tick for tick in TICKS if tick >= least]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("CPU time of a query, one at a time, in ms")
    axes.set_ylabel("recall@10, all neighbours")
    axes.set_title(f"{title}: up and to the left is better", loc="left")
    axes.grid(visible=True, which="major", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, handlelength=3.5)
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
    """(CPU ms, recall), the least first, each taking less time than all of more recall."""
    front: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (-row.recall_at_10, row.search_cpu_ms)):
        if not front or row.search_cpu_ms < front[-1][0]:
            front.append((row.search_cpu_ms, row.recall_at_10))
    return front[::-1]
