"""What others wrote and simdist parses: of each kind well-formed seeds, and how it is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster.service.http.answers import as_json, hit_answer
from simdist.errors import CollectionError, ModelError, SimdistError, SourceError, StoreError
from simdist.index.buckets import unpack_reading
from simdist.search.question import Hit
from simdist.sources import Access, ImageRef, ListingFailure, file_uri, open_source, read_many
from simdist.sources.reference import MEMBER
from simdist.store import layout
from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes
from tests.archives import dataset_of, parquet_of, tar_of
from tests.collections import vectors

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
DIM = 64

# What is parsed together: a file, the files of a folder, the parts of an answer.
Parts = tuple[bytes, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of foreign bytes.

    Attributes:
        seeds: well-formed ones; all of them have as many parts.
        read: parses them, in a folder for files, and checks what came out.
        errors: what may be raised.
    """

    seeds: Callable[[], list[Parts]]
    read: Callable[[Parts, Path], None]
    errors: tuple[type[SimdistError], ...]


def _refs() -> list[ImageRef]:
    """Images as listings make them."""
    return [
        ImageRef("file:///photos/1.jpg", "10-20", 10, None),
        ImageRef("file:///photos/b%20c.jpg", "10-20", 10, "b c", depth=2),
        ImageRef("urn:shop:4711", "x", 0, "caf\u00e9", {"txt": "\u2028 \U0001f600", "n": 1.5}),
        ImageRef("s3://b/a.tar#1.jpg", "x", 7, "", {"a": [{"b": [None, True]}]}, 512, 1),
    ]


def _packed(refs: Sequence[ImageRef]) -> list[bytes]:
    return layout.pack_records(
        [ref.uri.encode() for ref in refs],
        [ref.label for ref in refs],
        [ref.metadata for ref in refs],
        [b"place"[: ref.depth] for ref in refs],
        [b"look"[: 4 * ref.depth] for ref in refs],
    )


def _shown(record: layout.Record) -> None:
    """Check that it can be answered: strict JSON in UTF-8."""
    hit = Hit(record.uri, 0.5, record.label, record.metadata)
    json.loads(as_json(hit_answer(hit)), parse_constant=_no_json)


def _no_json(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def _record_seeds() -> list[Parts]:
    records = _packed(_refs() * 20)[: layout.BLOCK]
    full = b"".join(len(record).to_bytes(4, "little") for record in records)
    dead = bytearray(full)
    dead[7] = 0x80
    few = b"".join(len(record).to_bytes(4, "little") for record in records[:4])
    return [
        (full + b"".join(records),),
        (bytes(dead) + b"".join(records),),
        *[(few.ljust(4 * layout.BLOCK, b"\0") + b"".join(records[:4]),)] * 4,
    ]


def _read_records(parts: Parts, _: Path) -> None:
    # Most with right lengths: no reader would look further.
    block = parts[0] if len(parts[0]) % 4 == 0 else _with_lengths(parts[0])
    records = layout.unpack_records(block)
    assert len(records) == layout.BLOCK
    for record in records:
        if record:
            _shown(layout.unpack_record(record))


def _with_lengths(block: bytes) -> bytes:
    """A block whose lengths make up what there is."""
    lengths = np.frombuffer(block[: 4 * layout.BLOCK].ljust(4 * layout.BLOCK, b"\0"), "<u4").copy()
    left = max(0, len(block) - 4 * layout.BLOCK)
    for number, length in enumerate(lengths.tolist()):
        lengths[number] = min(length % layout.DEAD, left) | length & layout.DEAD
        left -= min(length % layout.DEAD, left)
    lengths[-1] += left
    return lengths.tobytes() + block[4 * layout.BLOCK :]


def _reading_seeds() -> list[Parts]:
    seeds: list[Parts] = []
    for dtype in ("int8", "float32"):
        codec = Codec.of(dtype, DIM)
        packed = codec.pack(vectors(6))
        packed[2] = 0
        sizes, dead = (np.array(some, "<u4").tobytes() for some in ([4, 2], [2, 7]))
        for rows in ([0, 1, 2, 3, 4, 5], [9, 3, 4, 0, 1, 2]):
            begin = (b"\n", dead, sizes, np.array(rows, "<u4").tobytes())
            seeds.append((dtype.encode(), *begin, b"", b"", packed.tobytes()))
            if dtype == "int8":
                coded = Codes.of(codec, 4).pack(packed)
                for count in (4, 6):
                    are_codes = b"\1" * count + b"\0" * (6 - count)
                    both = coded[:count].tobytes(), packed[count:].tobytes()
                    seeds.append((b"codes", *begin, are_codes, *both))
    return seeds


def _read_reading(parts: Parts, _: Path) -> None:
    dtype, known, *read, coded, whole = parts
    codec = Codec.of("float32" if dtype[:1] == b"f" else "int8", DIM)
    bits = 4 if dtype[:1] == b"c" else 0
    known_rows = int.from_bytes(known[:4], "little") % 20
    reply = [bytes(16), known_rows, bits, *read, [coded], [whole[:5], whole[5:]]]
    reading = unpack_reading(reply, np.array([0, 5]), codec=codec, limit=100)
    assert reading.dead.max(initial=0) < max(known_rows, 1)
    assert len(reading.known) == len(reading.complete) == len(reading.ends)
    # The compiled loops check no bounds.
    assert (np.diff(reading.ends, prepend=0) >= 0).all()
    assert reading.ends.max(initial=0) == len(reading.rows) == len(reading.inverse_lengths)
    assert reading.rows.max(initial=0) < max(known_rows, 1)
    stored = Codes.of(codec, bits) if bits else codec
    assert reading.vectors.shape == (len(reading.rows), stored.width)
    values = stored.unpack(reading.vectors)[0]
    assert np.isfinite(reading.inverse_lengths).all()
    assert values.dtype.kind != "f" or np.isfinite(values).all()


def _family_seeds() -> list[Parts]:
    from simdist.hashing import FAMILIES, dump_family, fit_family

    some = vectors(300)
    return [
        (dump_family(fit_family(some, kind=kind, images=300, size=5)),) for kind in sorted(FAMILIES)
    ]


def _read_family(parts: Parts, _: Path) -> None:
    from simdist.hashing import load_family

    family = load_family(parts[0], dim=DIM)
    queries = vectors(3, seed=2)
    assert family.probes(queries, 4).max() < family.size
    assert family.buckets(queries).max() < family.size


def _list(data: bytes, path: Path) -> list[ImageRef]:
    """The images that a file lists, as an ingest takes them: each can be indexed and answered."""
    path.write_bytes(data)
    refs = []
    for entry in open_source(str(path)).entries:
        assert entry.uri.isascii()
        if isinstance(entry, ListingFailure):
            assert entry.reason
        elif entry.flaw() is None:
            [record] = _packed([entry])
            stored = layout.unpack_record(record)
            assert (stored.uri, stored.label) == (entry.uri, entry.label)
            _shown(stored)
            refs.append(entry)
    return refs


def _read_images(refs: Sequence[ImageRef], path: Path) -> None:
    """Read those that lie in the file itself, as an ingest and a thumbnail do."""
    own = [ref for ref in refs if ref.uri.startswith(file_uri(path) + MEMBER)][:20]
    for found in read_many(own, Access()):
        if not isinstance(found, bytes | SimdistError):
            raise found


def _tar_seeds() -> list[Parts]:
    members = {
        "a/1.jpg": _photo(0),
        "a/1.cls": b"fish",
        "a/1.json": b'{"name": "caf\\u00e9", "deep": [[1, 2.5, null]]}',
        "b.jpg": _photo(1),
        "b.txt": "\u00fcber".encode(),
        f"{'long/' * 40}c.seg.png": _photo(2),
    }
    short = {name: data for name, data in members.items() if len(name) < 100}
    return [
        (tar_of(short),),
        (tar_of(members, tarfile.GNU_FORMAT),),
        (tar_of(members, tarfile.PAX_FORMAT),),
        (tar_of(short, tarfile.PAX_FORMAT) * 2,),
    ]


def _read_tar(parts: Parts, folder: Path) -> None:
    path = folder / "shard.tar"
    # Half of them with right checksums: no reader would look further.
    data = _checked(parts[0]) if len(parts[0]) % 2 else parts[0]
    _read_images(_list(data, path), path)


def _checked(data: bytes) -> bytes:
    """A tar with right checksums in what may be headers."""
    tar = bytearray(data)
    for at in range(0, len(tar) - 511, 512):
        if tar[at + 257 : at + 262] == b"ustar":
            tar[at + 148 : at + 156] = b" " * 8
            tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])
    return bytes(tar)


def _archive_seeds() -> list[Parts]:
    members = {"a/1.jpg": _photo(0), "a/1.cls": b"fish", "b.jpg": _photo(1), "b.txt": b"text"}
    seeds: list[Parts] = [
        (pack(tar_of(members)),) for pack in (gzip.compress, bz2.compress, lzma.compress)
    ]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        seeds.append((data.getvalue(),))
    return seeds


def _read_archives(parts: Parts, folder: Path) -> None:
    for name in ("archive.zip", "archive.tgz"):
        _read_images(_list(parts[0], folder / name), folder / name)


def _list_seeds() -> list[Parts]:
    return [
        (b"url,label,title\r\nhttps://a.example/1.jpg,fish,One\r\nhttps://a.example/2.jpg,,\r\n",),
        (b'\xef\xbb\xbfpath,note\na.jpg,"two\nlines, ""quoted"""\n../b%20c.jpg,x\n~/d.jpg,\n',),
        ("uri\ns3://bucket/\u00fc.jpg\nfile:///etc/passwd\nfile:///a.tar#1.jpg\n".encode(),),
        (b"https://a.example/1.jpg\n\n  photos/2.jpg \r\ns3://bucket/a.tar#1.jpg\n",),
        (b"file:///photos/3.jpg\n~/4.jpg\ngs://bucket/5.jpg\naz://c/6.jpg\nlast",),
    ]


def _read_lists(parts: Parts, folder: Path) -> None:
    _list(parts[0], folder / "list.txt")
    _list(parts[0], folder / "list.csv")


def _table_seeds() -> list[Parts]:
    photos = [_photo(number) for number in range(6)]
    label = pa.array(["a", "b", None, "a", "a", "b"]).dictionary_encode()
    odd = {
        "image": pa.array(photos),
        "label": label,
        "when": pa.array(range(6), pa.timestamp("ns", "Europe/Berlin")),
        "day": pa.array([1, -700_000, 3, None, 5, 6], pa.date32()),
        "span": pa.array(range(6), pa.duration("us")),
        "price": pa.array(range(6), pa.int64()).cast(pa.decimal128(21, 2)),
        "deep": pa.array([[{"x": [1.5, None]}], [], None, [{"x": None}], [], []]),
        "pairs": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int32())),
        "code": pa.array([b"abcd"] * 6, pa.binary(4)),
        "half": pa.array(np.arange(6, dtype=np.float16)),
    }
    named = {
        "url": [f"https://a.example/{number}.jpg" for number in range(50)],
        "label": ["fish"] * 50,
        "note": [f"a text with the number {number}" for number in range(50)],
    }
    return [
        (dataset_of([_photo_file(number) for number in range(2)]),),
        (parquet_of({"image": photos, "caption": ["x"] * 6}),),
        (_table(odd, compression="none", use_dictionary=False),),
        (_table(odd, compression="zstd", data_page_version="2.0", row_group_size=2),),
        (_table(named, compression="snappy"),),
        (_table(named, use_dictionary=False, column_encoding={"note": "DELTA_BYTE_ARRAY"}),),
        (_table(named, use_dictionary=False, column_encoding={"note": "DELTA_LENGTH_BYTE_ARRAY"}),),
    ]


def _table(columns: object, **options: object) -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table(columns), data, **options)
    return data.getvalue()


def _read_table(parts: Parts, folder: Path) -> None:
    path = folder / "table.parquet"
    _read_images(_list(parts[0], path), path)


def _saved_seeds() -> list[Parts]:
    rows = [values.tolist() for values in vectors(6)]
    odd = [*rows[:2], None, rows[0][:3], [], [None, *rows[0][1:]]]
    uris = [f"urn:shop:{number}" for number in range(6)]
    texts = ['{"a": [1, {"b": null}]}', "", None, "{}", "[1]", '{"b": "\\u00fc"}']
    long, fixed = pa.large_list(pa.float64()), pa.list_(pa.float16(), DIM)
    halves = np.asarray(rows, np.float16)
    return [
        (_table({"uri": uris, "vector": rows, "metadata": texts}),),
        (_table({"uri": uris, "vector": pa.array(odd, pa.list_(pa.float32())), "label": uris}),),
        (_table({"uri": uris, "vector": pa.array(rows, long), "model": list("aabbaa")}),),
        (
            _table(
                {
                    "uri": uris,
                    "vector": pa.FixedSizeListArray.from_arrays(
                        pa.array(halves.ravel()), type=fixed
                    ),
                    "fingerprint": ["x"] * 6,
                },
                compression="none",
                use_dictionary=False,
                row_group_size=2,
            ),
        ),
    ]


def _read_saved(parts: Parts, folder: Path) -> None:
    from simdist.sources.saved import is_saved, read_saved

    path = folder / "saved.parquet"
    path.write_bytes(parts[0])
    is_saved(str(path), Access())
    for batch in read_saved(str(path), Access()):
        assert batch.vectors.dtype == np.float32
        assert len(batch.vectors) == len(batch.refs)
        for ref in batch.refs:
            if ref.flaw() is None:
                [record] = _packed([ref])
                _shown(layout.unpack_record(record))


def _bundle_seeds() -> list[Parts]:
    import torch
    from safetensors.torch import save

    card = {
        "version": 1,
        "id": "",
        "backbone": "resnet18",
        "tap": "avgpool",
        "preprocessing": {"size": 224, "mean": [1, 2.5, 3], "std": [1, 1, 1], "resize": "squash"},
        "about": {"made": "by the tests"},
        "classes": ["a", "b"],
    }
    weights = {"a": torch.ones(2, 3), "b": torch.arange(4), "c": torch.tensor(1.0).half()}
    more = {"a": torch.zeros(0, 3), "b": torch.ones(1, dtype=torch.bool)}
    plain = {**card, "classes": [], "about": {}}
    return [
        (json.dumps(card, indent=2).encode(), save(weights)),
        (json.dumps(plain).encode(), save(more, {"made": "x"})),
    ]


def _read_bundle(parts: Parts, folder: Path) -> None:
    from simdist.embedding import load_model

    (folder / "card.json").write_bytes(parts[0])
    (folder / "weights.safetensors").write_bytes(parts[1])
    model = load_model(str(folder))
    assert model.id.startswith(model.backbone)
    assert model.dim > 0


def _weights_seeds() -> list[Parts]:
    import torch

    plain = {"a": torch.ones(2, 3), "b": torch.arange(4), "c.d": torch.tensor(1.0).half()}
    shared = torch.arange(12.0)
    odd = {"a": shared[::2], "b": shared.view(3, 4).T, "c": torch.ones(2, dtype=torch.complex64)}
    sparse = {"a": torch.eye(3).to_sparse(), "b": torch.empty(3, device="meta")}
    seeds: list[Parts] = []
    for state in (plain, odd, sparse):
        for is_zip in (True, False):
            data = io.BytesIO()
            torch.save(state, data, _use_new_zipfile_serialization=is_zip)
            seeds.append((data.getvalue(),))
    return seeds


def _read_weights(parts: Parts, folder: Path) -> None:
    from simdist.embedding import load_model

    path = folder / "weights.pth"
    path.write_bytes(parts[0])
    model = load_model("resnet18", weights=path)
    assert model.id.startswith("resnet18-")


def _photo_file(number: int) -> Path:
    return sorted(PHOTOS.rglob("*.jpg"))[number]


def _photo(number: int) -> bytes:
    """A photograph, small: what is damaged is rather what lies around it."""
    data = io.BytesIO()
    with Image.open(_photo_file(number)) as photo:
        photo.convert("RGB").resize((24, 16)).save(data, "JPEG")
    return data.getvalue()


KINDS = {
    "records": Kind(_record_seeds, _read_records, (StoreError,)),
    "reading": Kind(_reading_seeds, _read_reading, (StoreError,)),
    "family": Kind(_family_seeds, _read_family, (StoreError, CollectionError)),
    "tar": Kind(_tar_seeds, _read_tar, (SourceError,)),
    "archives": Kind(_archive_seeds, _read_archives, (SourceError,)),
    "lists": Kind(_list_seeds, _read_lists, (SourceError,)),
    "parquet": Kind(_table_seeds, _read_table, (SourceError,)),
    "saved": Kind(_saved_seeds, _read_saved, (SourceError,)),
    "bundle": Kind(_bundle_seeds, _read_bundle, (ModelError,)),
    "weights": Kind(_weights_seeds, _read_weights, (ModelError,)),
}
