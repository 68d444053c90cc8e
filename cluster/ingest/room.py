"""What an ingest waits for on a cluster without room: how much is free, and who has the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress

from cluster.ingest.stages import Placement
from simdist.sources.background import in_background

# Nothing has moved for so long: it is looked why, and then again as often.
PATIENCE_SECONDS = 15.0
# Of a service's workers: what Serve calls their class, before the names of application and kind.
_SERVE = "ServeReplica:"
_SHOWN, _MOST = 4, 10_000
_SECONDS = 5


class Watch:
    """How long nothing has moved, and why."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self.moved()

    def moved(self) -> None:
        """Something has."""
        self._since = self._looked = time.monotonic()
        self._shortage: Future[str | None] | None = None
        self.waits_for: str | None = None

    def look(self) -> float:
        """Find out why nothing moves, in the background; returns for how many seconds."""
        now = time.monotonic()
        if self._shortage and self._shortage.done():
            # What Ray does not answer is not known.
            self.waits_for = None if self._shortage.exception() else self._shortage.result()
            self._shortage = None
        if self._shortage is None and now - self._looked > PATIENCE_SECONDS:
            self._looked = now
            self._shortage = in_background(shortage, self._placement)
        return now - self._since


def shortage(placement: Placement) -> str | None:
    """Why no actor starts, in words for a person; None if there is room for one.

    Asks the cluster, which may take some seconds.
    """
    import ray

    wants = {"CPU": placement.actor_cpus, "GPU": placement.actor_gpus}
    total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    short = [name for name, amount in wants.items() if amount > free.get(name, 0)]
    if not short:
        return None
    [kind, *_] = short
    text = (
        f"waiting for room on the Ray cluster: an embedding actor takes {_amount(wants[kind])} "
        f"{kind}, and {_amount(free.get(kind, 0))} of {_amount(total.get(kind, 0))} are free"
    )
    if holders := _holders(kind):
        text += f" (held by {holders})"
    return f"{text}; stop or shrink what holds them, or add a node"


def _holders(kind: str) -> str:
    """The actors that hold a resource, by their class: those that have most of it first."""
    held: Counter[str] = Counter()
    count: Counter[str] = Counter()
    # Without its dashboard, a cluster does not tell.
    with suppress(Exception):
        from ray.util.state import list_actors

        alive = list_actors(
            filters=[("state", "=", "ALIVE")],
            detail=True,
            limit=_MOST,
            timeout=_SECONDS,
            raise_on_missing_output=False,
        )
        for actor in alive:
            amount = (actor.required_resources or {}).get(kind, 0)
            if amount:
                name = str(actor.class_name).removeprefix(_SERVE)
                held[name] += amount
                count[name] += 1
    shown = [f"{count[name]} {name}: {_amount(total)}" for name, total in held.most_common(_SHOWN)]
    more = len(held) - len(shown)
    return ", ".join(shown) + (f", and {more} other kinds" if more > 0 else "")


def _amount(number: float) -> str:
    return f"{round(number, 2):g}"
