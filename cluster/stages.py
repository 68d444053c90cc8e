"""The stages that run in Ray's workers: fetch and decode, embed; and how they share a cluster."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cluster.shards import Failure, Shard
from simdist.errors import ImageError, SimdistError
from simdist.images import Pixels, decode
from simdist.sources import ImageRef, read_many

if TYPE_CHECKING:
    from simdist.embedding.model import Model


@dataclass(frozen=True)
class Plan:
    """How the stages share a cluster.

    Attributes:
        shard: images in a shard.
        actors: embedding actors.
        actor_gpus: GPUs that each of them holds.
        actor_cpus: logical CPUs that each of them holds.
        decoders: decoding tasks that there is room for.
        decoder_cpus: logical CPUs that each of them holds.
    """

    shard: int
    actors: int
    actor_gpus: int
    actor_cpus: float
    decoders: int
    decoder_cpus: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Plan:
        """One actor for each GPU; without any, one single-threaded actor for each CPU.

        Measured: n actors of one thread embed 1.15 times what one actor of n threads does. They
        hold half of the CPUs between them, so that decoding always finds room beside them.
        """
        gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
        if gpus:
            return cls(256, gpus, actor_gpus=1, actor_cpus=0, decoders=cpus, decoder_cpus=1)
        return cls(16, cpus, actor_gpus=0, actor_cpus=0.5, decoders=cpus, decoder_cpus=0.5)

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

        This is the pipeline's backpressure, and with `shard` the bound of its memory.
        """
        return 2 * self.decoders + self.actors


def decode_shard(shard: Shard, *, size: int) -> tuple[Shard, Pixels]:
    """Fetch and decode, side by side; an image that cannot be becomes a failure.

    Returns:
        The shard as it is now, and the (n, size, size, 3) pixels of its `refs`. Apart, so that the
        driver can look at the one and leave the other where it is.
    """
    refs: list[ImageRef] = []
    failures = list(shard.failures)
    pixels = np.empty((len(shard.refs), size, size, 3), dtype=np.uint8)
    fetched = read_many(shard.refs, shard.access)
    for ref, data in zip(shard.refs, fetched, strict=True):
        outcome = _decode(ref.uri, data, size)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            pixels[len(refs)] = outcome
            refs.append(ref)
    return Shard(tuple(refs), tuple(failures)), pixels[: len(refs)]


def _decode(uri: str, data: bytes | Exception, size: int) -> Pixels | Failure:
    if isinstance(data, ImageError):  # too large to be read
        return Failure.of(uri, "decode", data)
    if isinstance(data, SimdistError):
        return Failure.of(uri, "fetch", data)
    # Whatever else a reader raises is this image's misfortune, not the job's.
    if isinstance(data, Exception):
        return Failure.of(uri, "fetch", f"{type(data).__name__}: {data}")
    try:
        return decode(data, size=size)
    except ImageError as error:
        return Failure.of(uri, "decode", error)
    except Exception as error:
        return Failure.of(uri, "decode", f"{type(error).__name__}: {error}")


class EmbedActor:
    """Pixels -> embeddings: a Ray actor that keeps the model on its device."""

    def load(self, model: Model) -> None:
        """Put the model on the device.

        Not in the constructor: what that raises reaches the driver as a dead actor and no more.

        Raises:
            ModelError: its weights or its tap do not fit its backbone.
        """
        from simdist.embedding import Embedder

        tune_process()
        self._embedder = Embedder(model)

    def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
        """Embed a shard; without its pixels, fetch and decode it first.

        Returns:
            The shard as it is now, and the (n, dim) float32 embeddings of its `refs`.
        """
        if pixels is None:
            shard, pixels = decode_shard(shard, size=self._embedder.model.preprocessing.size)
        return shard, self._embedder.embed(pixels)


def tune_process() -> None:
    """Set up a process that embeds on a CPU: one thread, and memory that is kept.

    glibc gives a layer's output back to the kernel each time and takes it anew, page fault by page
    fault: without this a network is 1.5 times slower.
    """
    import torch

    torch.set_num_threads(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_trim_threshold, m_mmap_max = -1, -4
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)
