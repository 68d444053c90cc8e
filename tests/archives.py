"""Archives of photographs, as people have them: tar shards, Parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def tar_of(members: Mapping[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive of these members, in their order."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def shard_of(photos: Sequence[Path]) -> bytes:
    """A WebDataset shard: each photograph with its label and some metadata."""
    members = {}
    for number, photo in enumerate(photos):
        members[f"{number:04}.jpg"] = photo.read_bytes()
        members[f"{number:04}.cls"] = photo.parent.name.encode()
        members[f"{number:04}.json"] = json.dumps({"name": photo.stem}).encode()
    return tar_of(members)


def parquet_of(columns: Mapping[str, Sequence[object]], *, row_group: int = 4) -> bytes:
    """A Parquet file of small row groups."""
    data = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), data, row_group_size=row_group)
    return data.getvalue()


def dataset_of(photos: Sequence[Path]) -> bytes:
    """Images in a Parquet file, as Hugging Face's datasets have them."""
    return parquet_of(
        {
            "image": [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos],
            "label": [photo.parent.name for photo in photos],
            "name": [photo.stem for photo in photos],
        }
    )
