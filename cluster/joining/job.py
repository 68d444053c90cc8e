"""The neighbours of all images of a collection, into a folder of Parquet files."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.joining.spread import run_all
from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.joining.folder import Folder
from simdist.joining.job import Job, plan_job
from simdist.joining.plan import Plan, Wanted
from simdist.joining.whole import OnProgress, read_whole
from simdist.settings import Settings
from simdist.sources import local_path


@dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
        plan: what the neighbours follow from.
        images: how many there are.
        found: of how many all neighbours were found anew; 0 where nothing was left to do.
    """

    plan: Plan
    images: int
    found: int


def write_neighbours(
    collection: Collection,
    wanted: Wanted,
    out: str,
    *,
    since: str | None = None,
    settings: Settings,
    on_progress: OnProgress,
) -> Outcome:
    """Find the neighbours of all images as they are at one moment, and write them to a folder.

    The same again after an interruption goes on where it was, unless the collection has changed.

    Args:
        since: a folder of an earlier run: only what has changed since is compared; the outcome is
            the same.

    Raises:
        UsageError: the folder is not one of neighbours.
        CollectionError, StoreError, ClusterError, OutputError: it cannot be read, or written.
    """
    folder = Folder.at(out)
    earlier = Folder(local_path(since)) if since else None
    before = earlier.plan() if earlier else None
    if earlier and before is None:
        raise UsageError(f"{since} holds no finished neighbours: name a folder that does")
    whole = read_whole(collection, on_progress)
    job = plan_job(collection, whole, wanted, on_progress)
    if folder.plan() == job.plan:
        return Outcome(job.plan, len(whole), 0)
    found = len(whole)
    if earlier and before and job.plan.goes_on_from(before):
        known = earlier.known(whole, before)
        job, found = replace(job, known=known), int(known.stale.sum())
    _run(job, folder, len(whole), settings, on_progress)
    folder.finish(job.plan, whole)
    return Outcome(job.plan, len(whole), found)


def _run(
    job: Job, folder: Folder, images: int, settings: Settings, on_progress: OnProgress
) -> None:
    done = folder.begin(job.plan)
    total = len(job.bounds) - 1
    for number, part in run_all(job, done=done, images=images, settings=settings):
        folder.keep(number, part)
        done.add(number)
        on_progress("finding neighbours", images * len(done) // total, images)
