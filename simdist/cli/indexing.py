"""How an ingest looks on a terminal: its progress, and what it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from simdist.cli.progress import Monitor
from simdist.cli.render import console, duration, short_uri
from simdist.ingest.duplicates import OnDuplicate

# Exit codes: nothing could be indexed; some of it could not.
NOTHING, INCOMPLETE = 1, 3
SHOWN_KINDS = 10

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
    text = counts + rate + (f"  {duration(left)} left" if left else "")
    return f"{text}\n{progress.waits_for}" if progress.waits_for else text


def show_summary(
    summary: Summary, collection: str, on_duplicate: OnDuplicate | None = None
) -> None:
    """Print what an ingest did."""
    out = console()
    if summary.listed == 0:
        out.print("No images found: simdist looks for .jpg, .png, .heic, .webp, .tif and others.")
        _show_passed_over(summary)
        out.print("Name archives and lists yourself: 'SOURCE/*.tar', .zip, .parquet, .csv or .txt.")
        return
    pruned = f", {summary.pruned:,} pruned" if summary.pruned else ""
    out.print(
        f"{summary.listed:,} listed: {summary.added:,} added, {summary.replaced:,} replaced, "
        f"{summary.skipped + summary.unchanged:,} skipped, {summary.failed:,} failed{pruned} "
        f"in {duration(summary.seconds)}"
    )
    if summary.repeated:
        out.print(f"Named more than once: {summary.repeated:,} entries; the last counts")
    _show_passed_over(summary)
    if on_duplicate:
        _show_duplicates(summary, collection, on_duplicate)
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
    if summary.licence:
        out.print(f"The model's weights are under the licence: {summary.licence}", markup=False)
    if not summary.indexed:
        out.print("Nothing was indexed: fix what is named above, then run the same command again.")
        return
    out.print(f"Next: simdist search IMAGE --collection {collection} --out similar.png")


def _show_passed_over(summary: Summary) -> None:
    counts = sorted(summary.passed_over.items(), key=lambda item: (-item[1], item[0]))
    if not counts:
        return
    shown = ", ".join(f"{count:,} {what}" for what, count in counts[:SHOWN_KINDS])
    rest = sum(count for _, count in counts[SHOWN_KINDS:])
    more = f" and {rest:,} more" if rest else ""
    left_out = any(what.startswith(("hidden", "system", "folders with")) for what, _ in counts)
    hint = "; --hidden takes what is hidden" if left_out else ""
    console().print(f"Passed over: {shown}{more}{hint}", markup=False)


def _show_duplicates(summary: Summary, collection: str, action: OnDuplicate) -> None:
    out = console()
    what = {"report": "indexed like others", "skip": "left out", "link": "linked in their metadata"}
    done = f", {what[action]}" if summary.duplicates else ""
    out.print(f"The same pictures as others: {summary.duplicates:,} images{done}")
    for copy in summary.copies:
        pair = f"{short_uri(copy.uri)} is {short_uri(copy.duplicate_of)} ({copy.score:.2f})"
        out.print(f"  {pair}", markup=False)
    if summary.duplicates > len(summary.copies):
        more = f"  ... and {summary.duplicates - len(summary.copies):,} more"
        hint = "" if action is OnDuplicate.skip else f": simdist duplicates -c {collection} --same"
        out.print(more + hint)


def end_with_code(summaries: Sequence[Summary]) -> None:
    """End the command with a code that says if images could not be indexed, or none could."""
    if not any(summary.indexed for summary in summaries):
        raise typer.Exit(NOTHING)
    if any(summary.failed for summary in summaries):
        raise typer.Exit(INCOMPLETE)
