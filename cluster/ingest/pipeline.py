"""The pipeline seen from the driver: what runs where, how far ahead, and what if it dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np

from cluster.ingest.room import Watch
from cluster.ingest.stages import EmbedActor, Placement, decode_shard
from simdist.embedding.model import Model
from simdist.errors import ClusterError, SimdistError
from simdist.ingest.failures import Failure
from simdist.ingest.listing import Listing
from simdist.ingest.shards import Embedded, Shard, Work

TICK_SECONDS = 0.5
# Nothing has moved for so long: the cluster has no room for a stage, or a stage hangs.
STALL_SECONDS = 600.0
# Shards at an actor: one that it embeds, and one that is on its way meanwhile.
ACTOR_SHARDS = 2
# Actors that may be lost in a row, for each that there should be, before that is taken for a fault.
ACTOR_LOSSES = 3


def actor_class(placement: Placement, actor: type[EmbedActor]) -> Any:
    """What embeds, as a Ray actor."""
    import ray

    remote: Any = ray.remote
    return remote(
        num_cpus=placement.actor_cpus,
        num_gpus=placement.actor_gpus,
        max_restarts=0,
        max_concurrency=ACTOR_SHARDS,
    )(actor)


class Pipeline:
    """Decoding tasks and embedding actors on a Ray cluster, and the shards that they have."""

    def __init__(
        self, placement: Placement, model: Model, *, actor: type[EmbedActor] | None = None
    ) -> None:
        """Start the actors.

        Args:
            actor: what embeds in place of `EmbedActor` (`bench.scaling`).
        """
        import ray

        self._placement = placement
        self._model = model
        # What words are embedded by is not for images.
        self._weights = ray.put(replace(model, text=None))
        # Ray tries a decoder whose process was killed once more; then `_isolate` takes over.
        decoder: Any = ray.remote(num_cpus=placement.decoder_cpus, num_returns=2, max_retries=1)
        self._decode: Any = decoder(decode_shard).remote
        self._actor_class = actor_class(placement, actor or EmbedActor)
        # What is under way, by Ray's reference to the outcome. Pixels are known here by reference
        # only: they go from the decoder straight to the actor.
        self._loading: dict[Any, Any] = {}
        self._decoding: dict[Any, tuple[Shard, Any]] = {}
        self._embedding: dict[Any, tuple[Any, Shard, Any]] = {}
        # What actors may take: with pixels, or (None) to fetch and decode by themselves.
        self._ready: deque[tuple[Shard, Any]] = deque()
        self._again: deque[Shard] = deque()
        # How many shards each loaded actor has.
        self._load: dict[Any, int] = {}
        self._losses_left = ACTOR_LOSSES * placement.actors
        self._watch = Watch(placement)
        for _ in range(placement.actors):
            self._start_actor()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        if ray.is_initialized():
            for actor in [*self._loading.values(), *self._load]:
                ray.kill(actor)
            for task in self._decoding:
                ray.cancel(task)

    def embed(self, listing: Listing) -> Iterator[Embedded | None]:
        """Embed what a listing finds.

        Yields:
            Shards as they are done, and None whenever none was for `TICK_SECONDS`.

        Raises:
            SimdistError: the listing or a stage raised it.
            ClusterError: Ray lost a part of the work.
        """
        import ray

        self._watch.moved()
        while True:
            self._submit(listing)
            if not (self._decoding or self._ready or self._embedding):
                more = listing.more(seconds=TICK_SECONDS)
                if more is False:
                    return
                if more is None:
                    yield None
                self._watch.moved()
                continue
            pending = [*self._loading, *self._decoding, *self._embedding]
            done, _ = ray.wait(pending, timeout=TICK_SECONDS)
            if done:
                self._watch.moved()
            elif self._watch.look() > STALL_SECONDS:
                why = self.waits_for or "is the cluster full?"
                raise _lost(f"nothing moved for {STALL_SECONDS:.0f} s: {why}")
            else:
                yield None
            for ref in done:
                if (embedded := self._finish(ref)) is not None:
                    yield embedded

    @property
    def waits_for(self) -> str | None:
        """Why nothing moves, in words for a person; None while something does."""
        return self._watch.waits_for

    @property
    def queues(self) -> dict[str, int]:
        """How many shards are decoding, ready for an actor, or at one."""
        return {
            "decoding": len(self._decoding),
            "ready": len(self._ready),
            "embedding": len(self._embedding),
        }

    def _submit(self, listing: Listing) -> None:
        """Give the decoders, then the actors, as many shards as they may have."""
        while len(self._decoding) + len(self._ready) < self._placement.shards_ahead:
            if self._again:
                self._start_decoding(self._again.popleft())
            elif (shard := listing.take(self._placement.shard_size)) is None:
                break
            elif self._placement.actors_decode:
                self._ready.append((shard, None))
            else:
                self._start_decoding(shard)
        while self._ready and self._load:
            actor = min(self._load, key=self._load.__getitem__)
            if self._load[actor] >= ACTOR_SHARDS:
                break
            shard, pixels = self._ready.popleft()
            self._embedding[actor.embed.remote(shard, pixels)] = actor, shard, pixels
            self._load[actor] += 1

    def _start_decoding(self, shard: Shard) -> None:
        outcome, pixels = self._decode(shard, preprocessing=self._model.preprocessing)
        self._decoding[outcome] = shard, pixels

    def _finish(self, ref: Any) -> Embedded | None:
        """Take note of an outcome; a shard that is at its end is returned."""
        if ref in self._loading:
            self._finish_loading(ref)
            return None
        if ref in self._decoding:
            return self._finish_decoding(ref)
        return self._finish_embedding(ref)

    def _start_actor(self) -> None:
        actor = self._actor_class.remote()
        self._loading[actor.load.remote(self._weights)] = actor

    def _finish_loading(self, ref: Any) -> None:
        actor = self._loading.pop(ref)
        if _outcome(ref) is _DIED:
            self._replace_actor()
        else:
            self._load[actor] = 0

    def _replace_actor(self) -> None:
        if not self._losses_left:
            raise _lost("embedding actors keep dying; if memory is short, free some")
        self._losses_left -= 1
        self._start_actor()

    def _finish_decoding(self, ref: Any) -> Embedded | None:
        shard, pixels = self._decoding.pop(ref)
        outcome = _outcome(ref)
        if outcome is _DIED:
            return self._isolate(shard)
        if outcome.refs:
            self._ready.append((outcome, pixels))
            return None
        return self._unembedded(outcome.failures, outcome.work)

    def _isolate(self, shard: Shard) -> Embedded | None:
        """Find the image that kills its decoder: each gets a task of its own."""
        if len(shard.refs) > 1:
            self._again += [Shard((ref,), access=shard.access, gps=shard.gps) for ref in shard.refs]
            return self._unembedded(shard.failures)
        killer = Failure.of(shard.refs[0], "decode", "the process that decodes it dies")
        return self._unembedded((*shard.failures, killer))

    def _finish_embedding(self, ref: Any) -> Embedded | None:
        actor, shard, pixels = self._embedding.pop(ref)
        outcome = _outcome(ref)
        if outcome is _DIED:
            if pixels is None:
                # One of its images may have killed the actor: decoded apart, that comes out.
                self._again.append(shard)
            else:
                self._ready.appendleft((shard, pixels))
            # Of an actor's shards, the first to come back reports its death.
            if self._load.pop(actor, None) is not None:
                self._replace_actor()
            return None
        # A result may come in after the news that its actor has died since.
        if actor in self._load:
            self._load[actor] -= 1
        self._losses_left = ACTOR_LOSSES * self._placement.actors
        embedded, vectors = outcome
        return Embedded(embedded.refs, embedded.failures, vectors, embedded.work)

    def _unembedded(self, failures: tuple[Failure, ...], work: Work | None = None) -> Embedded:
        return Embedded((), failures, np.empty((0, self._model.dim), np.float32), work or Work())


_DIED = object()


def _outcome(ref: Any) -> Any:
    """What a task returned, or `_DIED` if its process or its machine did.

    Raises:
        SimdistError: the task raised it.
        ClusterError: Ray failed otherwise.
    """
    import ray
    from ray.exceptions import (
        ActorDiedError,
        ActorUnavailableError,
        NodeDiedError,
        OutOfMemoryError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )

    try:
        return ray.get(ref)
    except (
        ActorDiedError,
        ActorUnavailableError,
        NodeDiedError,
        OutOfMemoryError,
        WorkerCrashedError,
    ):
        return _DIED
    except RayTaskError as error:
        if isinstance(error.cause, SimdistError):
            raise error.cause from error
        raise _lost(_first_line(error.cause)) from error
    except RayError as error:
        raise _lost(type(error).__name__) from error


def _first_line(error: BaseException) -> str:
    name = type(error).__name__
    return next((f"{name}: {line[:200]}" for line in str(error).splitlines() if line), name)


def _lost(reason: str) -> ClusterError:
    return ClusterError(
        f"Ray lost a part of the work ({reason}); what was indexed so far is safe: "
        "run the same command again to go on"
    )
