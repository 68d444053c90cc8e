"""A shard: the images that travel through the pipeline together, as one row of a Ray dataset.

One row, not one per image, so that the pipeline and not Ray decides how many images a task
gets. Every stage has the same columns, so that no block can disagree with another on a type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from simdist.sources import ImageRef

if TYPE_CHECKING:
    import pyarrow as pa

Stage = Literal["list", "fetch", "decode", "embed"]


@dataclass(frozen=True)
class Failure:
    """An image that could not be indexed: where it got stuck, and why."""

    uri: str
    stage: Stage
    reason: str

    @classmethod
    def of(cls, uri: str, stage: Stage, reason: object) -> Failure:
        """A failure whose reason is text that can be printed and encoded, on one line."""
        text = str(reason).encode("utf-8", "backslashreplace").decode()
        return cls(uri, stage, " ".join(text.split())[:500] or "no reason given")


@dataclass(frozen=True)
class Shard:
    """Some images on their way through the pipeline.

    Attributes:
        refs: the images that are well so far.
        failures: those that are not.
        values: what is known of `refs`, one after the other: nothing, pixels, or embeddings.
    """

    refs: tuple[ImageRef, ...] = ()
    failures: tuple[Failure, ...] = ()
    values: bytes | memoryview = b""


def to_table(shards: Iterable[Shard]) -> pa.Table:
    """Shards -> rows."""
    import pyarrow as pa

    schema = _schema()
    rows = list(shards)
    return pa.Table.from_arrays(
        [
            pa.array([[asdict(ref) for ref in shard.refs] for shard in rows], schema[0].type),
            pa.array([[asdict(bad) for bad in shard.failures] for shard in rows], schema[1].type),
            pa.array([shard.values for shard in rows], schema[2].type),
        ],
        schema=schema,
    )


def from_table(table: pa.Table) -> Iterator[Shard]:
    """Rows -> shards, whose values are not copied."""
    for row in range(table.num_rows):
        values = table["values"][row].as_buffer()
        yield Shard(
            refs=tuple(ImageRef(**ref) for ref in table["refs"][row].as_py()),
            failures=tuple(Failure(**bad) for bad in table["failures"][row].as_py()),
            values=memoryview(values) if values else b"",
        )


def _schema() -> pa.Schema:
    import pyarrow as pa

    ref = pa.struct(
        {
            "uri": pa.string(),
            "fingerprint": pa.string(),
            "size": pa.int64(),
            "label": pa.string(),
        }
    )
    failure = pa.struct({"uri": pa.string(), "stage": pa.string(), "reason": pa.string()})
    return pa.schema(
        {"refs": pa.list_(ref), "failures": pa.list_(failure), "values": pa.large_binary()}
    )
