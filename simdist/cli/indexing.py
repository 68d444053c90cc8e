"""How an ingest looks on a terminal: its progress, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from simdist.cli.progress import Monitor
from simdist.cli.render import console, duration, short_uri

if TYPE_CHECKING:
    from simdist.ingest.progress import Progress, Summary


def progress_shower(monitor: Monitor, *, as_json: bool) -> Callable[[Progress], None]:
    """What shows the progress of an ingest."""
    if as_json:
        return lambda progress: monitor.show_object(
            asdict(progress) | {"seconds_left": progress.seconds_left}
        )
    return lambda progress: monitor.show(lambda: _progress_line(progress))


def _progress_line(progress: Progress) -> str:
    counts = (
        f"listed {progress.listed:,}{'' if progress.listing_done else '+'}  "
        f"done {progress.done:,}  skipped {progress.skipped:,}  failed {progress.failed:,}"
    )
    rate = f"  {progress.rate:.1f} images/s" if progress.rate else ""
    left = progress.seconds_left
    return counts + rate + (f"  {duration(left)} left" if left else "")


def show_summary(summary: Summary, collection: str) -> None:
    """Print what an ingest did."""
    out = console()
    if summary.listed == 0:
        out.print(
            "No images found: simdist looks for .jpg, .png, .webp, .gif, .tif and .bmp files."
        )
        out.print("Name archives and lists yourself: 'SOURCE/*.tar', .parquet, .csv or .txt.")
        return
    pruned = f", {summary.pruned:,} pruned" if summary.pruned else ""
    out.print(
        f"{summary.listed:,} listed: {summary.added:,} added, {summary.replaced:,} replaced, "
        f"{summary.skipped + summary.unchanged:,} skipped, {summary.failed:,} failed{pruned} "
        f"in {duration(summary.seconds)}"
    )
    if summary.slowest:
        share = summary.stages[summary.slowest]
        out.print(f"Slowest stage: {summary.slowest}, busy {share:.0%} of the time")
    for failure in summary.failures:
        out.print(f"  {failure.stage}: {short_uri(failure.uri)}: {failure.reason}", markup=False)
    if summary.failed > len(summary.failures):
        out.print(
            f"  ... and {summary.failed - len(summary.failures):,} more: "
            f"simdist failures --collection {collection}"
        )
    if not (summary.added or summary.replaced or summary.unchanged or summary.skipped):
        out.print("Nothing was indexed: fix what is named above, then run the same command again.")
        return
    out.print(f"Next: simdist search IMAGE --collection {collection} --out similar.png")
