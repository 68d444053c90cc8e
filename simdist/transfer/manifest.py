"""What an export says of itself: which collection, of which moment, whether it is whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from simdist.errors import SourceError
from simdist.sources.output import OutputFolder

NAME = "export.json"
FORMAT = 1
_MOST = 1 << 24


@dataclass(frozen=True)
class ExportedPartition:
    """A partition of an exported collection.

    Attributes:
        born: its mark, in hex: a collection that was made anew has another.
        moment: of its history, in hex: the last that was seen when the export was begun.
        epoch: changes until the moment of which the export is; -1 as long as it is not whole.
        fitted: images that its tables were fitted for; 0 for none.
    """

    born: str
    moment: str
    epoch: int = -1
    fitted: int = 0


@dataclass(frozen=True)
class Manifest:
    """What an export says of itself.

    Attributes:
        collection: what it was called.
        model, model_id, dim, dtype, expect, uri_bits: as in `catalogue.Entry`.
        licence: of the model's weights; empty where nobody says.
        images: in all files, once the export is whole.
        whole: whether everything is there.
    """

    collection: str
    model: str
    model_id: str
    dim: int
    dtype: str
    expect: int
    uri_bits: int
    partitions: tuple[ExportedPartition, ...]
    images: int = 0
    whole: bool = False
    format: int = field(default=FORMAT)
    licence: str = ""

    def write(self, folder: OutputFolder) -> None:
        """Write it.

        Raises:
            OutputError: it cannot be written.
        """
        folder.put(NAME, json.dumps(asdict(self), indent=2).encode())

    @classmethod
    def read(cls, folder: OutputFolder) -> Manifest:
        """That of an export.

        Raises:
            SourceError: there is none, or it cannot be read, or a newer simdist wrote it.
        """
        try:
            value: Any = json.loads(folder.read(NAME, limit=_MOST))
            manifest = TypeAdapter(cls).validate_python(value)
            marks = [part.born + part.moment for part in manifest.partitions]
            bytes.fromhex("".join(marks))
        except (ValueError, RecursionError, ValidationError) as error:
            raise SourceError(f"{folder.uri}/{NAME} does not describe an export") from error
        if manifest.format != FORMAT or not manifest.partitions:
            raise SourceError(
                f"{folder.uri}/{NAME} has the format {manifest.format}, this simdist reads {FORMAT}"
            )
        return manifest
