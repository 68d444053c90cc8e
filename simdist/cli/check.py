"""`simdist check`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import console, plain, print_json
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    from simdist.index.repair import Repaired
    from simdist.index.rows import Damage


def check(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    mend: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Repair what can be repaired, and take out the images that cannot be read. "
            "Nobody else may write meanwhile.",
        ),
    ] = False,
    as_json: options.AsJson = False,
    redis: options.RedisUrl = None,
) -> None:
    """Check that all that Redis keeps of a collection is whole.

    Searches and writes may continue meanwhile. Each damaged key is named, and the exit code is 1
    if there is one. After '--repair', run the same ingest again: it adds the images that were taken
    out.
    """
    from simdist.index.check import check as look
    from simdist.index.collection import Collection
    from simdist.index.repair import repair
    from simdist.index.rows import Damage
    from simdist.ingest.failures import forget_damaged
    from simdist.store import open_store

    repaired = None
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor(unit="rows") as monitor:
        opened = Collection.open(store, collection)
        checkups = look(opened, on_progress=monitor.count)
        damages = [damage for checkup in checkups for damage in checkup.damages]
        if failures := forget_damaged(opened, only_count=not mend):
            key = opened.partitions[0].keys.failures
            damages.append(Damage(key, f"{failures} of the failures cannot be read"))
        if mend and damages:
            monitor.say("repairing")
            repaired = repair(opened, checkups)
    if as_json:
        print_json(
            {
                "damages": [asdict(damage) for damage in damages],
                "repaired": asdict(repaired) if repaired else None,
            }
        )
    else:
        _show(damages, repaired, collection)
    if damages and (repaired is None or repaired.left):
        raise typer.Exit(1)


def _show(damages: list[Damage], repaired: Repaired | None, collection: str) -> None:
    out = console()
    for damage in damages:
        out.print(plain(f"{damage.key}: {damage.what}"))
    if not damages:
        out.print(f"{collection}: no damage found")
    elif repaired is None:
        out.print(f"Repair what can be repaired with: simdist check -c {collection} --repair")
    else:
        if repaired.lost:
            out.print(f"Repaired; {repaired.lost:,} images were lost: run the same ingest again")
        else:
            out.print("Repaired; no image was lost")
        for damage in repaired.left:
            out.print(plain(f"Not repaired: {damage.key}: {damage.what}"))
