"""`simdist plan`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.render import (
    console,
    memory,
    print_json,
    show,
    table,
)
from simdist.errors import UsageError

if TYPE_CHECKING:
    from simdist.planning import Plan, Workload

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
_MOST = 10**12


def plan(
    *,
    images: Annotated[
        str, typer.Option(metavar="N", help="Number of images: 250000, 100M or 1.5G.")
    ],
    dim: Annotated[
        int, typer.Option(metavar="N", min=2, max=16384, help="Length of an embedding.")
    ] = 512,
    uri_bytes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=4096, help="Bytes of a URI, its label and its metadata."
        ),
    ] = 60,
    megapixels: Annotated[
        float,
        typer.Option(metavar="X", min=0.001, max=80, help="Size of an image before it is resized."),
    ] = 1.0,
    qps: Annotated[
        float, typer.Option(metavar="X", min=0, help="Queries per second, each by an image.")
    ] = 0.0,
    gpus: Annotated[
        int, typer.Option(metavar="N", min=0, help="GPUs for embedding; 0: CPUs embed.")
    ] = 0,
    gpu_rate: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=1,
            help="Images that one GPU embeds per second. The default is an assumption: "
            "measure yours with 'make bench-network'.",
        ),
    ] = 1000.0,
    node_memory: Annotated[
        int, typer.Option(metavar="GB", min=1, help="Memory of each Redis server.")
    ] = 64,
    bits: Annotated[
        int,
        typer.Option(
            metavar="N", help="Bits of each value that stay in Redis: 8, or 4, 2 or 1 (offload)."
        ),
    ] = 8,
    as_json: options.AsJson = False,
) -> None:
    """Estimate memory, servers and hours for a collection.

    Also the workers, for a number of queries per second. The estimate comes from measured
    constants, which docs/scale.md names: memory is right to within a tenth, times to within a
    factor of two on another machine. No server is contacted.
    """
    from simdist.planning import Workload
    from simdist.planning import plan as planned

    workload = Workload(
        images=_count(images),
        dim=dim,
        uri_bytes=uri_bytes,
        megapixels=megapixels,
        queries_per_s=qps,
        gpus=gpus,
        images_per_gpu_s=gpu_rate,
        node_bytes=node_memory * 10**9,
        bits=_checked_bits(bits),
    )
    made = planned(workload)
    if as_json:
        print_json({"workload": asdict(workload), "plan": asdict(made)})
        return
    rows = table("for", "it takes", "because")
    for row in _redis(workload, made) + _ingest(workload, made) + _queries(workload, made):
        rows.add_row(*row)
    show(console(), rows)


def _checked_bits(bits: int) -> int:
    from simdist.planning import WHOLE
    from simdist.vectors.codes import BITS

    if bits not in (WHOLE, *BITS):
        raise UsageError(f"of each value 8, 4, 2 or 1 bits stay in Redis, not {bits}")
    return bits


def _redis(workload: Workload, made: Plan) -> list[tuple[str, str, str]]:
    files = (
        "files",
        memory(round(made.file_bytes)),
        f"simdist offload FOLDER --bits {workload.bits}: vectors and records",
    )
    return [
        (
            "Redis",
            f"{memory(round(made.redis_bytes))} on {_many(made.nodes, 'server')}",
            f"{made.bytes_an_image:.0f} bytes an image; a server fills two thirds of "
            f"{memory(workload.node_bytes)}; as many again for replicas",
        ),
        (
            "the collection",
            f"--expect {workload.images}"
            + (f" --partitions {made.partitions}" if made.nodes > 1 else ""),
            f"{made.buckets:,} buckets{' each' if made.nodes > 1 else ''}",
        ),
        *([files] if made.file_bytes else []),
    ]


def _ingest(workload: Workload, made: Plan) -> list[tuple[str, str, str]]:
    fetching = (
        "fetching, decoding",
        f"{_hours(made.fetch_decode_hours)} of a core",
        f"images of {workload.megapixels:g} megapixels",
    )
    if made.ingest_hours is None or made.decode_cores is None:
        embedding = [("embedding", f"{_hours(made.embed_hours)} of a core", "EfficientNet-Lite0")]
    else:
        embedding = [
            (
                "embedding",
                f"{_hours(made.embed_hours)} of a GPU: {_hours(made.ingest_hours)} in all",
                f"{_many(workload.gpus, 'GPU')} at {workload.images_per_gpu_s:g} images/s "
                "(--gpu-rate)",
            ),
            (
                "the GPUs' decoding",
                _many(math.ceil(made.decode_cores), "core"),
                "or the GPUs wait",
            ),
        ]
    writing = (
        "writing",
        f"{_hours(made.write_hours)} of a core",
        "client and server together",
    )
    return [fetching, *embedding, writing]


def _queries(workload: Workload, made: Plan) -> list[tuple[str, str, str]]:
    query = (
        "a query",
        f"{_milliseconds(made.query_ms)} of a warm worker",
        f"{made.rows_a_query:,.0f} vectors scored for recall .95",
    )
    cache = (
        "a warm worker",
        f"{memory(round(made.cache_bytes))} (--cache-memory)",
        f"it keeps all vectors; a query of a cold one reads {memory(round(made.cold_bytes))}"
        if made.parts == 1
        else f"one of {made.parts} parts (--parts); cold ones read "
        f"{memory(round(made.cold_bytes))} for a query",
    )
    if not workload.queries_per_s:
        return [query, cache]
    return [
        query,
        cache,
        (
            f"{workload.queries_per_s:g} queries/s",
            f"{_many(made.query_workers, 'query worker')}"
            + (" of each part" if made.parts > 1 else "")
            + ", a core each",
            "each busy for three fifths of the time"
            + ("; as many again answer HTTP" if made.parts > 1 else ""),
        ),
        (
            "their images",
            f"{_many(made.embed_cores, 'core')}, or a GPU",
            "EfficientNet-Lite0 on CPUs",
        ),
    ]


def _count(text: str) -> int:
    """250000, 250_000, 100M or 1.5G."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        count = float(digits) * (_UNITS[unit] if unit else 1)
    except (KeyError, ValueError):
        count = 0.0
    if not 1 <= count <= _MOST:
        raise UsageError(f"--images {text}: give a number from 1 to 1000G, as 250000, 100M or 1.5G")
    return round(count)


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' * (count != 1)}"


def _milliseconds(number: float) -> str:
    return f"{number:.2g} ms" if number < 100 else f"{number:,.0f} ms"


def _hours(hours: float) -> str:
    if hours < 1:
        return _many(max(1, round(60 * hours)), "minute")
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours / 24:,.1f} days"
