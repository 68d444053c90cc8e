"""The stages of the pipeline that run in Ray's workers: list, fetch and decode, embed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from cluster.shards import Failure, Shard, from_table, to_table
from simdist.collection import Collection
from simdist.embedding import Embedder
from simdist.errors import ImageError, SimdistError
from simdist.images import Pixels, decode
from simdist.sources import ImageRef, ListingFailure, list_folder, read_bytes
from simdist.store.connection import connect

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.actor import ActorHandle

    from simdist.embedding.model import Model

# References in one question to the store ("which of these do you have?").
PAGE = 1000


@dataclass(frozen=True)
class Plan:
    """How the stages share a cluster.

    Attributes:
        shard: images in a shard.
        actors: embedding actors.
        actor_gpus: GPUs that each of them holds.
        actor_cpus: logical CPUs that each of them holds.
        decode_cpus: logical CPUs that a decoding task holds.
    """

    shard: int
    actors: int
    actor_gpus: int
    actor_cpus: float
    decode_cpus: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Plan:
        """One actor for each GPU; without any, one single-threaded actor for each CPU.

        Measured: n actors of one thread embed 1.15 times what one actor of n threads does. They
        hold half of the CPUs between them, so that decoding always finds room beside them.
        """
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        if gpus:
            return cls(shard=256, actors=gpus, actor_gpus=1, actor_cpus=0, decode_cpus=1)
        actors = max(1, cpus)
        return cls(shard=16, actors=actors, actor_gpus=0, actor_cpus=0.5, decode_cpus=0.5)


@dataclass(frozen=True)
class Count:
    """What the listing has come to so far."""

    listed: int = 0
    skipped: int = 0
    done: bool = False


class Tally:
    """An actor that tells the driver how far the listing has come."""

    def __init__(self) -> None:
        self._count = Count()

    def write(self, count: Count) -> None:
        self._count = count

    def read(self) -> Count:
        return self._count


class Listing(Datasource):  # type: ignore[misc]
    """The images below a folder that a collection does not have yet, as shards of references."""

    def __init__(
        self, folder: Path, *, store_url: str, collection: str, shard: int, tally: ActorHandle[Any]
    ) -> None:
        super().__init__()
        self._folder = folder
        self._store_url = store_url
        self._collection = collection
        self._shard = shard
        self._tally = tally

    @property
    def supports_distributed_reads(self) -> bool:
        # The driver's machine has the folder and can reach the store; others may not.
        return False

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        return [ReadTask(self._read, BlockMetadata(None, None, None, None))]

    def _read(self) -> Iterator[pa.Table]:
        collection = Collection.open(connect(self._store_url), self._collection)
        count = Count()
        entries = list_folder(self._folder)
        # The first page is short, so that the first shards leave at once.
        size = self._shard
        while page := list(islice(entries, size)):
            size = PAGE
            shards, count = self._sift(page, collection, count)
            self._tally.write.remote(count)
            for shard in shards:
                yield to_table([shard])
        ray.get(self._tally.write.remote(Count(count.listed, count.skipped, done=True)))

    def _sift(
        self, page: list[ImageRef | ListingFailure], collection: Collection, count: Count
    ) -> tuple[list[Shard], Count]:
        refs = [entry for entry in page if isinstance(entry, ImageRef)]
        failures = tuple(
            Failure.of(entry.uri, "list", entry.reason)
            for entry in page
            if isinstance(entry, ListingFailure)
        )
        known = collection.known(refs) if refs else np.empty(0, dtype=np.bool_)
        missing = tuple(ref for ref, is_known in zip(refs, known, strict=True) if not is_known)
        shards = [Shard(failures=failures)] if failures else []
        shards += [
            Shard(missing[start : start + self._shard])
            for start in range(0, len(missing), self._shard)
        ]
        skipped = len(refs) - len(missing)
        return shards, Count(count.listed + len(page), count.skipped + skipped)


def decode_shards(table: pa.Table, *, size: int) -> pa.Table:
    """References -> pixels: fetch and decode; an image that cannot be becomes a failure."""
    return to_table(_decode(shard, size) for shard in from_table(table))


def _decode(shard: Shard, size: int) -> Shard:
    refs: list[ImageRef] = []
    pixels: list[Pixels] = []
    failures = list(shard.failures)
    for ref in shard.refs:
        outcome = _decode_one(ref.uri, size)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            refs.append(ref)
            pixels.append(outcome)
    return Shard(tuple(refs), tuple(failures), b"".join(memoryview(p).cast("B") for p in pixels))


def _decode_one(uri: str, size: int) -> Pixels | Failure:
    try:
        data = read_bytes(uri)
    except ImageError as error:  # too large to be read
        return Failure.of(uri, "decode", error)
    except SimdistError as error:
        return Failure.of(uri, "fetch", error)
    # Whatever else a reader raises is this image's misfortune, not the job's.
    except Exception as error:
        return Failure.of(uri, "fetch", f"{type(error).__name__}: {error}")
    try:
        return np.ascontiguousarray(decode(data, size=size))
    except ImageError as error:
        return Failure.of(uri, "decode", error)
    except Exception as error:
        return Failure.of(uri, "decode", f"{type(error).__name__}: {error}")


class EmbedShards:
    """Pixels -> embeddings: an actor that keeps the model on its device."""

    def __init__(self, model: ray.ObjectRef[Model]) -> None:
        # An error here would reach the driver as a dead actor; from a call it arrives as it is.
        self._embedder: Embedder | SimdistError
        tune_process()
        try:
            self._embedder = Embedder(ray.get(model))
        except SimdistError as error:
            self._embedder = error

    def __call__(self, table: pa.Table) -> pa.Table:
        if isinstance(self._embedder, SimdistError):
            raise self._embedder
        embedder = self._embedder
        return to_table(_embed(shard, embedder) for shard in from_table(table))


def _embed(shard: Shard, embedder: Embedder) -> Shard:
    if not shard.refs:
        return Shard(failures=shard.failures)
    size = embedder.model.preprocessing.size
    pixels = np.frombuffer(shard.values, dtype=np.uint8).reshape(-1, size, size, 3)
    vectors = embedder.embed(pixels)
    # Half precision can overflow, and a picture may leave every feature at zero.
    well = np.isfinite(vectors).all(axis=1) & (np.abs(vectors).max(axis=1) > 0)
    failures = tuple(
        Failure.of(ref.uri, "embed", "the network gives no usable embedding for it")
        for ref, is_well in zip(shard.refs, well, strict=True)
        if not is_well
    )
    refs = tuple(ref for ref, is_well in zip(shard.refs, well, strict=True) if is_well)
    return Shard(refs, shard.failures + failures, vectors[well].tobytes())


def embeddings(shard: Shard, dim: int) -> NDArray[np.float32]:
    """The (n, dim) float32 embeddings of an embedded shard."""
    return np.frombuffer(shard.values, dtype=np.float32).reshape(-1, dim)


def tune_process() -> None:
    """Set up a process that embeds on the CPU: one thread, and memory that is kept.

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
