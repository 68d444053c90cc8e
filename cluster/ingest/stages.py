"""The stages that run in Ray's workers: fetch and decode, embed; and how they share a cluster."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, islice
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.embedding.memory import tune_process
from simdist.errors import ImageError, SimdistError, UsageError
from simdist.images.limits import Pixels
from simdist.ingest.failures import Failure
from simdist.ingest.shards import Shard, Work
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.sources import ImageRef, read_many

if TYPE_CHECKING:
    from simdist.embedding import Model, Preprocessing

# Embeddings that an actor remembers, by the bytes of their images: 84 MB of 1,280 numbers each.
REMEMBERED = 16_384


@dataclass(frozen=True)
class Placement:
    """How the stages share a cluster.

    Attributes:
        shard_size: images in a shard.
        actors: embedding actors.
        actor_gpus: GPUs that each of them holds.
        actor_cpus: logical CPUs that each of them holds.
        decoders: decoding tasks that there is room for.
        decoder_cpus: logical CPUs that each of them holds.
    """

    shard_size: int
    actors: int
    actor_gpus: int
    actor_cpus: float
    decoders: int
    decoder_cpus: float

    @classmethod
    def of(
        cls, resources: Mapping[str, float], *, gpus: int | None = None, actors: int | None = None
    ) -> Placement:
        """One actor for each GPU; without any, one single-threaded actor for each CPU.

        Measured: n actors of one thread embed 1.15 times what one actor of n threads does. They
        hold half of the CPUs between them, so that decoding always finds room beside them.

        Args:
            resources: what the cluster has.
            gpus: use so many, also if they are yet to come; 0 for none.
            actors: so many, where they have no GPUs.
        """
        cpus = max(1, int(resources.get("CPU", 1)))
        if gpus is None:
            gpus = 0 if actors else int(resources.get("GPU", 0))
        if gpus:
            return cls(256, gpus, actor_gpus=1, actor_cpus=0, decoders=cpus, decoder_cpus=1)
        return cls(
            16, actors or cpus, actor_gpus=0, actor_cpus=0.5, decoders=cpus, decoder_cpus=0.5
        )

    @property
    def actors_decode(self) -> bool:
        """Whether actors fetch and decode their own shards: where they have no GPUs.

        On a CPU the network is nearly all of the work. Decoders beside it take no load off it,
        and cost a copy of all pixels (measured: docs/performance.md).
        """
        return not self.actor_gpus

    @property
    def shards_ahead(self) -> int:
        """Shards that may be decoding or wait for an actor: enough that none ever waits for one.

        This is the pipeline's backpressure, and with `shard_size` the bound of its memory.
        """
        return 2 * self.decoders + self.actors


def check_workers(*, gpus: int | None, actors: int | None) -> None:
    """Raise a UsageError if both are to be used: each GPU has one actor."""
    if gpus and actors:
        raise UsageError("each GPU has one actor: give a number of GPUs or of actors, not both")


def decode_shard(shard: Shard, *, preprocessing: Preprocessing) -> tuple[Shard, Pixels]:
    """Fetch and decode, side by side; an image that cannot be becomes a failure.

    Returns:
        The shard as it is now, and the (n, size, size, 3) pixels of its `refs`. Apart, so that the
        driver can look at the one and leave the other where it is.
    """
    return _decode_fetched(shard, read_many(shard.refs, shard.access), preprocessing)


def _decode_fetched(
    shard: Shard, fetched: Iterable[bytes | Exception], preprocessing: Preprocessing
) -> tuple[Shard, Pixels]:
    refs: list[ImageRef] = []
    digests: list[bytes] = []
    tiny: list[bool] = []
    failures = list(shard.failures)
    size = preprocessing.size
    pixels = np.empty((len(shard.refs), size, size, 3), dtype=np.uint8)
    start, decoding = time.monotonic(), 0.0
    for ref, data in zip(shard.refs, fetched, strict=True):
        read = time.monotonic()
        outcome = _decode(ref, data, preprocessing, gps=shard.gps)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            pixels[len(refs)], facts = outcome
            refs.append(ref.with_facts(facts))
            digests.append(_digest(data))
            tiny.append(isinstance(data, bytes) and is_tiny(data))
        decoding += time.monotonic() - read
    pixels, printing = pixels[: len(refs)], time.monotonic()
    looks = [
        TINY if is_small else look for is_small, look in zip(tiny, prints_of(pixels), strict=True)
    ]
    seen = tuple(replace(ref, look=look) for ref, look in zip(refs, looks, strict=True))
    decoding += time.monotonic() - printing
    work = Work(fetch=time.monotonic() - start - decoding, decode=decoding)
    return Shard(seen, tuple(failures), work=work, digests=tuple(digests)), pixels


def _begin_to_fetch(shard: Shard) -> Iterator[bytes | Exception]:
    """Fetch a shard; the requests are under way when this returns, and the first is answered."""
    fetched = read_many(shard.refs, shard.access)
    return chain(list(islice(fetched, 1)), fetched)


def _digest(data: bytes | Exception) -> bytes:
    """What stands for an image's bytes."""
    return blake2b(data if isinstance(data, bytes) else b"", digest_size=16).digest()


def _decode(
    ref: ImageRef, data: bytes | Exception, preprocessing: Preprocessing, *, gps: bool
) -> tuple[Pixels, dict[str, Any]] | Failure:
    if isinstance(data, ImageError):  # too large to be read
        return Failure.of(ref, "decode", data)
    if isinstance(data, SimdistError):
        return Failure.of(ref, "fetch", data)
    # Whatever else a reader raises is this image's misfortune, not the job's.
    if isinstance(data, Exception):
        return Failure.of(ref, "fetch", f"{type(data).__name__}: {data}")
    try:
        return preprocessing.pixels_and_facts(data, gps=gps)
    except ImageError as error:
        return Failure.of(ref, "decode", error)
    except Exception as error:
        return Failure.of(ref, "decode", f"{type(error).__name__}: {error}")


class EmbedActor:
    """Pixels -> embeddings: a Ray actor that keeps the model on its device.

    It has a thread for each of its shards. Where it decodes for itself, it fetches the next one
    while it embeds, and they decode and embed in turn; else it brings the next one's pixels to the
    device meanwhile.
    """

    def load(self, model: Model) -> None:
        """Put the model on the device.

        Not in the constructor: what that raises reaches the driver as a dead actor and no more.

        Raises:
            ModelError: its weights or its tap do not fit its backbone.
        """
        from simdist.embedding import Embedder

        tune_process()
        self._embedder = Embedder(model, for_many=True)
        self._turn = RLock()
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
        """Embed a shard; without its pixels, fetch and decode it first.

        Returns:
            The shard as it is now, and the (n, dim) float32 embeddings of its `refs`.
        """
        if pixels is not None:
            return self._embed_decoded(shard, pixels)
        fetched = _begin_to_fetch(shard)
        with self._turn:
            preprocessing = self._embedder.model.preprocessing
            return self._embed_decoded(*_decode_fetched(shard, fetched, preprocessing))

    def _embed_decoded(self, shard: Shard, pixels: Pixels) -> tuple[Shard, NDArray[np.float32]]:
        """Embed, but the same bytes only once, as far back as this actor remembers."""
        known = {d: row for d in shard.digests if (row := self._known.get(d)) is not None}
        new = {digest: i for i, digest in enumerate(shard.digests) if digest not in known}
        # In full batches: on some CPUs a vector's last bits depend on how many go together.
        rows = [*new.values(), *[0] * (-len(new) % self._embedder.batch)]
        staged = self._embedder.stage(pixels[rows])
        with self._turn:
            start = time.monotonic()
            fresh = self._embedder.embed(staged)[: len(new)]
            known |= dict(zip(new, fresh, strict=True))
            self._known.update(zip(new, fresh, strict=True))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            work = replace(shard.work, embed=time.monotonic() - start)
        vectors = np.stack([known[digest] for digest in shard.digests]) if known else fresh
        return replace(shard, work=work), vectors
