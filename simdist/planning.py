"""A capacity plan on paper: what so many images and so many queries a second ask for.

Every constant was measured, where its comment says, or is said to be assumed. They are of one kind
of machine (a core of an AMD EPYC with AVX-512): right to a factor of two elsewhere, but for memory,
which is the same everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simdist.hashing.components import COMPONENTS
from simdist.hashing.kmeans import centroids_for
from simdist.settings import MAX_PARTITIONS
from simdist.vectors.codec import Int8Codec
from simdist.vectors.codes import Codes

# Bytes of an image beside its vector and its URI, and of a bucket beside the rows in it: fitted to
# what an embedded server used for 10,000 and 100,000 images (tests/integration/test_planning.py).
RECORD_BYTES, PRINT_BYTES = 9, 290
# Of one whose vector and record are in a file.
MOVED_BYTES = 3
# Bits of a value.
WHOLE = 8
URI_ENTRY_BYTES = 24
ROW_BYTES = 8
OTHER_BYTES = 6
BUCKET_BYTES = 90
# What Redis holds beyond what is asked for, since its allocator gives out memory in steps: 1.23 at
# 100,000 images of 512 features, 1.20 at 30,000 of 1,280; the embedded server 1.05 to 1.14.
FRAGMENTATION = 1.2
# Of a server's memory: the rest is for pages that are copied while it rewrites its file, and for
# connections.
USABLE = 0.65
# So that as many nodes can be added, and partitions moved to them; each is asked for every query.
PARTITIONS_A_NODE = 2
# Client and server together, hashing included: `make bench-index`.
WRITE_CORE_US = 13.0
# `make bench-index`: 20 probes reach recall .95 on real embeddings. Buckets that are probed are a
# fifth larger than the average.
PROBES, CROWDING = 20, 1.2
QUERY_CORE_MS, ROW_CORE_NS = 0.08, 40.0
# `make bench-offload`: what it takes to look at the best once more, by the bits of their codes.
REFINE_CORE_MS = {WHOLE: 0.0, 4: 0.1, 2: 0.2, 1: 0.6}
# Of a row in a worker's cache, beside its vector.
CACHED_BYTES = 24
# `make bench-decoding`: .40 ms for .07 megapixels and 8.2 ms for 3. Fetching: from S3 on the same
# machine (docs/performance.md).
DECODE_CORE_MS, DECODE_CORE_MS_A_MEGAPIXEL, FETCH_CORE_MS = 0.22, 2.66, 0.6
# `make bench-network`, EfficientNet-Lite0 in bfloat16.
EMBED_CORE_MS = 12.0
# `make bench-serve ARGS=--pin`: an answer by image takes a worker 2.9 ms, of which some .1 ms are
# its search; the rest is HTTP, decoding and the way to the embedder.
ANSWER_CORE_MS = 2.8
# Of a core, so that a queue stays short.
BUSY = 0.6


@dataclass(frozen=True)
class Workload:
    """What is to be planned for.

    Attributes:
        images: how many are indexed.
        dim: length of an embedding.
        uri_bytes: length of a URI, label and metadata included.
        megapixels: of an image as it comes.
        queries_per_s: of all clients together, each by an image.
        gpus: how many embed; 0: CPUs do.
        images_per_gpu_s: what one GPU embeds in a second.
        node_bytes: memory of a Redis server.
        bits: of each value that are in Redis; fewer than 8: the rest is in files.
    """

    images: int
    dim: int = 512
    uri_bytes: int = 60
    megapixels: float = 1.0
    queries_per_s: float = 0.0
    gpus: int = 0
    images_per_gpu_s: float = 1000.0
    node_bytes: int = 64_000_000_000
    bits: int = WHOLE


@dataclass(frozen=True)
class Plan:
    """What a workload asks for.

    Attributes:
        bytes_an_image: that the server uses.
        redis_bytes: of all servers, replicas not included, as the operating system sees them.
        file_bytes: of vectors and records that are in files.
        nodes: Redis servers, replicas not included.
        partitions: of the collection.
        buckets: of a partition.
        embed_hours: of a GPU, or of a core where there is none.
        ingest_hours: until all is indexed, with the GPUs that there are; None without any.
        decode_cores: that keep the GPUs busy; None without any.
        fetch_decode_hours, write_hours: of a core.
        rows_a_query: vectors that a query scores for recall .95.
        query_ms: processor time of a query on a warm worker.
        query_workers: of each part, one core each, which answer HTTP and search; with several
            parts as many again do the first.
        embed_cores: that embed the queries' images.
        parts: among which query workers divide the partitions, so that a machine as large as a
            Redis server holds one; 1: each worker has all.
        cache_bytes: of a worker that keeps all vectors of its part.
        cold_bytes: that a query reads from Redis where nothing is kept.
    """

    bytes_an_image: float
    redis_bytes: float
    file_bytes: float
    nodes: int
    partitions: int
    buckets: int
    embed_hours: float
    ingest_hours: float | None
    decode_cores: float | None
    fetch_decode_hours: float
    write_hours: float
    rows_a_query: float
    query_ms: float
    query_workers: int
    embed_cores: int
    parts: int
    cache_bytes: float
    cold_bytes: float


def plan(workload: Workload) -> Plan:
    """What a workload asks for, by arithmetic."""
    nodes = partitions = 1
    while True:
        each = bytes_an_image(
            workload.images,
            dim=workload.dim,
            uri_bytes=workload.uri_bytes,
            partitions=partitions,
            bits=workload.bits,
        )
        redis_bytes = workload.images * each * FRAGMENTATION
        needed = max(1, math.ceil(redis_bytes / (USABLE * workload.node_bytes)))
        if needed <= nodes:
            break
        nodes = needed
        partitions = min(MAX_PARTITIONS, PARTITIONS_A_NODE * nodes)
    buckets = centroids_for(workload.images // partitions)
    rows = rows_a_query(workload.images, partitions=partitions)
    query_ms = (QUERY_CORE_MS + REFINE_CORE_MS[workload.bits]) * partitions
    query_ms += rows * ROW_CORE_NS / 1e6
    record = workload.uri_bytes + RECORD_BYTES + PRINT_BYTES
    width = _width(workload.dim, workload.bits)
    decode_ms = FETCH_CORE_MS + DECODE_CORE_MS + DECODE_CORE_MS_A_MEGAPIXEL * workload.megapixels
    rate = workload.gpus * workload.images_per_gpu_s
    embed_s = 1 / workload.images_per_gpu_s if workload.gpus else EMBED_CORE_MS / 1e3
    busy_cores = workload.queries_per_s / BUSY / 1e3
    cache_bytes = workload.images * (width + CACHED_BYTES)
    parts = min(partitions, math.ceil(cache_bytes / (USABLE * workload.node_bytes)))
    # Their number is one: of those that answer HTTP, and of those of each part.
    worker_ms = ANSWER_CORE_MS + query_ms if parts == 1 else max(ANSWER_CORE_MS, query_ms / parts)
    return Plan(
        bytes_an_image=each,
        redis_bytes=redis_bytes,
        file_bytes=workload.images * (_width(workload.dim, WHOLE) + record)
        if workload.bits < WHOLE
        else 0,
        nodes=nodes,
        partitions=partitions,
        buckets=buckets,
        embed_hours=workload.images * embed_s / 3600,
        ingest_hours=workload.images / rate / 3600 if rate else None,
        decode_cores=rate * decode_ms / 1e3 if rate else None,
        fetch_decode_hours=workload.images * decode_ms / 3.6e6,
        write_hours=workload.images * WRITE_CORE_US / 3.6e9,
        rows_a_query=rows,
        query_ms=query_ms,
        query_workers=math.ceil(busy_cores * worker_ms),
        embed_cores=math.ceil(busy_cores * EMBED_CORE_MS),
        parts=parts,
        cache_bytes=cache_bytes / parts,
        cold_bytes=rows * width,
    )


def _width(dim: int, bits: int) -> int:
    """Bytes of a vector, of each of whose values so many bits are kept."""
    codec = Int8Codec(dim)
    return codec.width if bits == WHOLE else Codes(codec, bits).width


def bytes_an_image(
    images: int, *, dim: int, uri_bytes: int, partitions: int = 1, bits: int = WHOLE
) -> float:
    """Bytes that the server uses for each of so many images, in the default hash tables."""
    each = images / partitions
    buckets = centroids_for(int(each))
    # A byte each: centroids, and the components that they are in.
    family = COMPONENTS * (buckets + dim)
    record = uri_bytes + RECORD_BYTES + PRINT_BYTES if bits == WHOLE else MOVED_BYTES
    return (
        _width(dim, bits)
        + record
        + URI_ENTRY_BYTES
        + ROW_BYTES
        + OTHER_BYTES
        + (family + BUCKET_BYTES * buckets) / max(1.0, each)
    )


def rows_a_query(images: int, *, partitions: int = 1) -> float:
    """Vectors that a query scores in all partitions, for recall .95."""
    each = images / partitions
    probed = PROBES / centroids_for(int(each))
    return partitions * min(each, CROWDING * probed * each)
