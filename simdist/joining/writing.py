"""Tables of records in files: JSON Lines, CSV or Parquet, by suffix; all of it or nothing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdist.errors import OutputError, UsageError
from simdist.sources import local_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_BATCH = 65_536


def check_table(path: Path) -> None:
    """Check, before the work is done, that records can be written to a path.

    Raises:
        UsageError: its suffix names no form, or its folder does not exist.
    """
    if path.suffix.lower() not in _FORMS:
        raise UsageError(f"{path} must end in {', '.join(_FORMS)}")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Check that the folder of a file is there.

    Raises:
        UsageError: it is not.
    """
    if not local_path(str(path)).parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: make it first")


def write_table(
    records: Iterable[DataclassInstance], kind: type[DataclassInstance], path: Path
) -> None:
    """Write records of one kind in the form that the suffix names.

    Raises:
        OutputError: they cannot be written.
    """
    with whole_file(path) as part:
        _FORMS[path.suffix.lower()](records, kind, part)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the other's place when all of it is there.

    Raises:
        OutputError: it cannot be written.
    """
    target = local_path(str(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _write_lines(
    records: Iterable[DataclassInstance], _: type[DataclassInstance], path: Path
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")


def _write_csv(
    records: Iterable[DataclassInstance], kind: type[DataclassInstance], path: Path
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(kind)])
        for record in records:
            writer.writerow(
                [
                    str(value).lower()
                    if value in (True, False) and isinstance(value, bool)
                    else value
                    for value in asdict(record).values()
                ]
            )


def _write_parquet(
    records: Iterable[DataclassInstance], kind: type[DataclassInstance], path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "float": pa.float32(), "bool": pa.bool_(), "str": pa.string()}
    schema = pa.schema([(field.name, types[str(field.type)]) for field in fields(kind)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for record in records:
            batch.append(asdict(record))
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))


_Form = Callable[[Iterable["DataclassInstance"], "type[DataclassInstance]", Path], None]
_FORMS: dict[str, _Form] = {
    ".jsonl": _write_lines,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
