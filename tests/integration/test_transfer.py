"""Collections as files: there and back, bit by bit; and embeddings of other programs."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from simdist.errors import CollectionError, ModelMismatchError, SourceError, UsageError
from simdist.index import blocks
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.dropping import drop
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.sources.output import OutputFolder
from simdist.store import Store, connect, layout
from simdist.transfer import exporting, importing
from simdist.transfer.columns import as_columns, as_records
from simdist.transfer.embeddings import import_embeddings
from simdist.transfer.exporting import export
from tests.collections import DIM, Killed, create, ref, vectors
from tests.command_line import CommandLine
from tests.conftest import ROOT
from tests.index_contents import contents
from tests.object_store import ObjectStore
from tests.servers import empty, on_every_server, running, valkey

ODD = [
    ImageRef("file:///a.jpg", "1", 1, None),
    ImageRef("file:///b.jpg", "1", 1, ""),
    ImageRef("file:///c.jpg", "1", 1, "äöü \N{SNOWMAN}", metadata={"a": [1, {"b": None}]}),
    ImageRef("x" * 3000, "1", 1, "y" * 3000, depth=3, look=bytes(range(256))),
    ImageRef("file:///d.tar#e", "1", 99, None, offset=7, depth=2, version="v", look=b"\0"),
]


def stored(collection: Collection) -> dict[str, tuple[bytes, bytes, bytes]]:
    """All that is kept of each image, as it is kept."""
    found = {}
    for partition in collection.partitions:
        for block in partition.blocks.packed(0, partition.state().rows):
            for record in block[2]:
                uri = layout.unpack_uri(record)
                one = partition.find(layout.uri_digest(uri))
                assert one is not None
                found[uri] = (one[0].tobytes(), one[1], one[2])
    return found


def full(store: Store, count: int = 700, **options: Any) -> Collection:
    collection = create(store, **options)
    collection.add(vectors(count), [ref(i, label=f"l{i % 7}") for i in range(count)])
    collection.add(vectors(len(ODD), seed=5), ODD)
    collection.delete([ref(3).uri, ref(4).uri])
    collection.add(-vectors(6)[5:], [ref(5, version=1)])
    amend(collection, [ref(6).uri], Amendment("new", metadata={"x": 1}))
    return collection


def test_records_are_columns_and_back() -> None:
    texts = [b"", b"a", "ä".encode() * 100]
    uris = [f"u{i}".encode() for i in range(30)]
    labels = [[None, "", "a", "ü" * 50][i % 4] for i in range(30)]
    metadata = [[{}, {"a": "ä"}][i % 2] for i in range(30)]
    places, looks = [texts[i % 2] for i in range(30)], [texts[i % 3] for i in range(30)]
    records = layout.pack_records(uris, labels, metadata, places, looks)
    columns = as_columns(records)
    assert columns["label"].to_pylist() == labels
    assert as_records(columns) == (records, uris)
    for some in (slice(7, 19), slice(0, 0)):
        parts = {name: column[some] for name, column in columns.items()}
        assert as_records(parts) == (records[some], uris[some])


@pytest.mark.slow
@on_every_server
def test_there_and_back(store: Store, tmp_path: Path) -> None:
    collection = full(store, partitions=2)
    made = export(collection, str(tmp_path / "out"))
    assert made.images == len(collection)
    assert [part.epoch for part in made.partitions] == [
        partition.state().epoch for partition in collection.partitions
    ]
    expected, hits = stored(collection), Searcher(collection).search(vectors(20)[19], n=50)
    where = str(tmp_path / "out")
    found = import_embeddings(where, store=store, name="again").added
    assert (found.added, found.replaced, found.unchanged) == (made.images, 0, 0)
    again = Collection.open(store, "again")
    assert stored(again) == expected
    assert contents(again) == sorted(expected)
    assert Searcher(again).search(vectors(20)[19], n=50) == hits
    # Once more, and beside what is there.
    again.delete([ref(8).uri])
    again.add(vectors(1), [ref(5000)])
    found = import_embeddings(where, store=store, name="again").added
    assert (found.added, found.replaced, found.unchanged) == (1, 0, made.images - 1)
    assert stored(again).keys() == expected.keys() | {ref(5000).uri}
    # What is there becomes what the files say.
    amend(again, [ref(9).uri], Amendment("other", metadata={"x": 2}))
    again.add(-vectors(11)[10:], [ref(10, version=2)])
    found = import_embeddings(where, store=store, name="again").added
    assert (found.added, found.replaced, found.unchanged) == (0, 2, made.images - 2)
    again.delete([ref(5000).uri])
    assert stored(again) == expected
    # Into other partitions.
    create(store, "three", partitions=3)
    import_embeddings(where, store=store, name="three")
    assert stored(Collection.open(store, "three")) == expected
    other = Collection.create(store, "other", model="m", model_id="m-2", dim=DIM)
    with pytest.raises(ModelMismatchError):
        import_embeddings(where, store=store, name=other.name)
    Collection.create(store, "f", model="m", model_id="m-1", dim=DIM, dtype="float32")
    with pytest.raises(CollectionError, match=f"{DIM} values of float32, the export {DIM} of int8"):
        import_embeddings(where, store=store, name="f")


def test_an_export_of_an_earlier_layout(store: Store, tmp_path: Path) -> None:
    """It has two bytes more of each fingerprint's digest, and centroids in half precision."""
    collection = full(store)
    made = export(collection, str(tmp_path))
    for file in tmp_path.glob("images-*.parquet"):
        table = parquet.read_table(file)
        at = table.schema.get_field_index("fingerprint")
        longer = [value + b"xy" for value in table["fingerprint"].to_pylist()]
        column = pa.array(longer, pa.binary(layout.FINGERPRINT + 2))
        parquet.write_table(table.set_column(at, "fingerprint", column), file)
    [file] = tmp_path.glob("family-*")
    kind, _, data = file.read_bytes().partition(b"\0")
    arrays = dict(np.load(io.BytesIO(data)))
    assert arrays["centroids"].dtype == np.int8
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {"centroids": (arrays["centroids"] / 500).astype(np.float16)})
    file.write_bytes(kind + b"\0" + buffer.getvalue())
    import_embeddings(str(tmp_path), store=store, name="again")
    again = Collection.open(store, "again")
    assert stored(again) == stored(collection)
    for ours, theirs in zip(again.partitions, collection.partitions, strict=True):
        of_ours, of_theirs = (one.families.of(one.state().generation) for one in (ours, theirs))
        np.testing.assert_array_equal(
            of_ours.buckets(vectors(200)), of_theirs.buckets(vectors(200))
        )
    found = import_embeddings(str(tmp_path), store=store, name="again").added
    assert found.unchanged == made.images


def test_the_files_can_be_read_by_others(store: Store, tmp_path: Path) -> None:
    collection = full(store)
    export(collection, str(tmp_path))
    [file] = tmp_path.glob("images-*.parquet")
    table = parquet.read_table(file)
    values = np.stack([np.frombuffer(one, np.int8) for one in table["values"].to_pylist()])
    whole = values * table["scale"].to_numpy()[:, None]
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-3)
    at = table["uri"].to_pylist().index(ref(6).uri)
    assert table["label"][at].as_py() == "new"
    assert json.loads(table["metadata"][at].as_py()) == {"x": 1}


def test_a_collection_without_images(store: Store, tmp_path: Path) -> None:
    create(store)
    made = export(Collection.open(store, "test"), str(tmp_path))
    assert made.images == 0
    import_embeddings(str(tmp_path), store=store, name="again")
    assert len(Collection.open(store, "again")) == 0


def test_the_licence_of_the_weights_goes_along(store: Store, tmp_path: Path) -> None:
    made = Collection.create(
        store, "test", model="m", model_id="m-1", dim=DIM, licence="cc-by-nc-4.0"
    )
    made.add(vectors(5), [ref(i) for i in range(5)])
    export(made, str(tmp_path))
    import_embeddings(str(tmp_path), store=store, name="again")
    copy(store, "test", "copied")
    for name in ("again", "copied"):
        assert Collection.open(store, name).licence == "cc-by-nc-4.0"


def die_after(count: int, method: Any, *, only: tuple[str, ...] = ()) -> Any:
    """The same method, whose process dies when it is called once more than so often."""
    left = iter(range(count))

    def dying(*rest: Any, **options: Any) -> Any:
        if (not only or rest[1].name in only) and next(left, None) is None:
            raise Killed
        return method(*rest, **options)

    return dying


@pytest.mark.slow
def test_what_is_killed_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export at any file, import at any batch; what changes in between is as it is in the end."""
    monkeypatch.setattr(exporting, "FILE_ROWS", 100)
    monkeypatch.setattr(blocks, "_BLOCKS", 1)
    monkeypatch.setattr(importing, "_ROWS", 100)
    for survived in range(100):
        empty(store)
        collection, out = full(store, partitions=2), str(tmp_path / str(survived))
        killed = 0
        try:
            with monkeypatch.context() as patch:
                patch.setattr(OutputFolder, "put", die_after(survived, OutputFolder.put))
                export(collection, out)
        except Killed:
            killed += 1
            if survived:
                with pytest.raises(SourceError, match="is not whole"):
                    import_embeddings(out, store=store, name="again")
            # Some that are in files are gone by the time that it goes on.
            collection.delete([ref(i).uri for i in range(0, 700, 10)])
            collection.add(-vectors(13)[12:], [ref(12, version=9)])
            export(collection, out)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(
                    Store, "run", die_after(survived, Store.run, only=("insert", "commit"))
                )
                import_embeddings(out, store=store, name="again")
        except Killed:
            killed += 1
            import_embeddings(out, store=store, name="again")
        assert stored(Collection.open(store, "again")) == stored(collection)
        if not killed:
            assert survived > 10
            return
    raise AssertionError("it never ends")


def test_a_collection_that_has_lost_whole_blocks(store: Store, tmp_path: Path) -> None:
    count = 3 * layout.BLOCK
    original = create(store)
    original.add(vectors(count), [ref(i) for i in range(count)])
    for kept in (range(layout.BLOCK, 2 * layout.BLOCK), range(0)):
        gone = [ref(i).uri for i in range(count) if i not in kept]
        original.delete(gone)
        place = str(tmp_path / str(len(kept)))
        assert export(original, place).images == len(kept)
        import_embeddings(place, store=store, name=f"imported-{len(kept)}")
        assert contents(Collection.open(store, f"imported-{len(kept)}")) == contents(original)


@pytest.mark.slow
def test_an_export_is_of_one_moment(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writes pairs of images, and replaces both at once: no export has one of two pairs."""
    monkeypatch.setattr(exporting, "FILE_ROWS", 128)
    with closing(connect(valkey_url)) as store:
        empty(store)
        collection = full(store, 300)
        begun, done = threading.Event(), threading.Event()

        def write() -> None:
            with closing(connect(valkey_url)) as mine:
                opened, number = Collection.open(mine, "test"), 0
                while not done.is_set():
                    number += 1
                    pair = [ImageRef(f"pair:{side}", str(number), 1, str(number)) for side in "ab"]
                    opened.add(vectors(2, seed=number), pair)
                    opened.add(vectors(1, seed=number), [ref(9000 + number)])
                    opened.delete([ref(9000 + number - 20).uri])
                    begun.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert begun.wait(60)
            made = [export(collection, str(tmp_path / str(turn))) for turn in range(3)]
        finally:
            done.set()
            thread.join()
        epochs = [one.partitions[0].epoch for one in made]
        assert epochs == sorted(set(epochs))
        for turn in range(3):
            import_embeddings(str(tmp_path / str(turn)), store=store, name="again")
            again = Collection.open(store, "again")
            assert contents(again) == sorted(stored(again))
            assert len(again) == made[turn].images
            labels = {one.label for one in map(again.get, ("pair:a", "pair:b")) if one}
            assert len(labels) == 1
            # Those of a window that moves on, in which there is no gap.
            numbers = [int(Path(one.uri).stem) for one in again.images() if "/9" in one.uri]
            late = sorted(number for number in numbers if number > 9000)
            first = late[0] - 9000
            assert late == list(range(late[0], late[0] + len(late)))
            assert len(late) in (20, 21) or first == 1
            drop(store, "again")


@pytest.mark.usefixtures("s3_credentials")
def test_exports_in_buckets(store: Store, s3: ObjectStore, tmp_path: Path) -> None:
    collection = full(store)
    where = f"s3://{s3.bucket}/backups/shop"
    export(collection, where)
    import_embeddings(where, store=store, name="again")
    assert stored(Collection.open(store, "again")) == stored(collection)
    with pytest.raises(UsageError, match="holds a whole export already"):
        export(collection, where)
    with pytest.raises(UsageError, match="holds no export"):
        import_embeddings(f"s3://{s3.bucket}/other", store=store, name="x")


def test_folders_that_are_something_else(store: Store, tmp_path: Path) -> None:
    collection = full(store)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty, and holds no export"):
        export(collection, str(out))
    export(collection, str(tmp_path / "a"))
    manifest = tmp_path / "a" / "export.json"
    manifest.write_text(manifest.read_text().replace('"whole": true', '"whole": false'))
    other = create(store, "other")
    with pytest.raises(UsageError, match="a part of another collection"):
        export(other, str(tmp_path / "a"))
    for text, message in (
        ("{}", "does not describe"),
        ("[", "does not"),
        ("[" * 10**5, "does not"),
    ):
        manifest.write_text(text)
        with pytest.raises(SourceError, match=message):
            import_embeddings(str(tmp_path / "a"), store=store, name="x")
    for where, message in (("none", "there is no"), ("out/notes.txt", "is neither an export")):
        with pytest.raises((SourceError, UsageError), match=message):
            import_embeddings(str(tmp_path / where), store=store, name="x")


@pytest.mark.slow
def test_damaged_files_are_refused(store: Store, tmp_path: Path) -> None:
    """Cut or with any byte changed: an error of ours, or what was there."""
    collection = full(store, 100)
    export(collection, str(tmp_path))
    [file] = tmp_path.glob("images-*.parquet")
    whole, random = file.read_bytes(), np.random.default_rng(0)
    for turn in range(60):
        data = bytearray(whole)
        if turn % 3:
            for at in random.integers(0, len(data), 3).tolist():
                data[at] ^= int(random.integers(1, 256))
        else:
            del data[int(random.integers(0, len(data))) :]
        file.write_bytes(bytes(data))
        try:
            import_embeddings(str(tmp_path), store=store, name=f"x{turn}")
        except (SourceError, CollectionError, UsageError):
            continue


class TestOfOtherPrograms:
    DATA = vectors(500)

    def check(self, store: Store, uris: list[str], name: str = "x") -> Collection:
        collection = Collection.open(store, name)
        assert contents(collection) == sorted(uris)
        for number in (0, 17, 499):
            hits = Searcher(collection).search(self.DATA[number], n=1)
            assert hits[0].uri == uris[number]
        return collection

    def test_arrays(self, store: Store, tmp_path: Path) -> None:
        array, names = tmp_path / "a.npy", tmp_path / "uris.txt"
        np.save(array, self.DATA.astype(np.float16))
        uris = [f"https://example.com/{i} ä.jpg" for i in range(500)]
        names.write_text("\n".join(uris))
        with pytest.raises(UsageError, match="give a list of their URIs"):
            import_embeddings(str(array), store=store, name="x", model="clip")
        with pytest.raises(UsageError, match="does not say which model"):
            import_embeddings(str(array), store=store, name="x", uris=names)
        import_embeddings(str(array), store=store, name="x", uris=names, model="clip")
        self.check(store, [uri.replace(" ä", "%20%C3%A4") for uri in uris])
        names.write_text("one\n")
        with pytest.raises(SourceError, match="1 URIs for the 500 vectors"):
            import_embeddings(str(array), store=store, name="x", uris=names, model="clip")
        np.save(array, np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(SourceError, match=r"not a \.npy file of numbers"):
            import_embeddings(str(array), store=store, name="x", uris=names, model="clip")

    def test_vectors_without_length(self, store: Store, tmp_path: Path) -> None:
        data = self.DATA.copy()
        data[3], data[4, 5] = 0, np.nan
        np.save(tmp_path / "a.npy", data)
        (tmp_path / "uris.txt").write_text("\n".join(f"u:{i}" for i in range(500)))
        done = import_embeddings(
            str(tmp_path / "a.npy"),
            store=store,
            name="x",
            uris=tmp_path / "uris.txt",
            model="clip",
        )
        assert (done.added.added, done.unusable) == (498, 2)

    def test_clip_retrieval(self, store: Store, tmp_path: Path) -> None:
        import pyarrow as pa

        (tmp_path / "img_emb").mkdir()
        (tmp_path / "metadata").mkdir()
        for part in range(2):
            rows = range(250 * part, 250 * part + 250)
            np.save(tmp_path / f"img_emb/img_emb_{part}.npy", self.DATA[rows])
            table = {"image_path": [f"{i:09}" for i in rows], "caption": [f"c{i}" for i in rows]}
            parquet.write_table(pa.table(table), tmp_path / f"metadata/metadata_{part}.parquet")
        import_embeddings(str(tmp_path), store=store, name="x", model="clip")
        collection = self.check(store, [f"{i:09}" for i in range(500)])
        found = collection.get("000000007")
        assert found is not None
        assert found.metadata == {"caption": "c7"}

    @pytest.mark.parametrize("kind", ["IndexFlatIP", "IndexFlatL2", "IndexIDMap"])
    def test_faiss(self, store: Store, tmp_path: Path, kind: str) -> None:
        import faiss

        ids = np.arange(500) + 7 * (kind == "IndexIDMap")
        if kind == "IndexIDMap":
            index = faiss.IndexIDMap(faiss.IndexFlatL2(DIM))
            index.add_with_ids(self.DATA, ids)
        else:
            index = getattr(faiss, kind)(DIM)
            index.add(self.DATA)
        path = tmp_path / "a.faiss"
        faiss.write_index(index, str(path))
        import_embeddings(str(path), store=store, name="x", model="clip")
        self.check(store, [f"faiss:{number}" for number in ids])
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(SourceError, match="is damaged"):
            import_embeddings(str(path), store=store, name="y", model="clip")
        faiss.write_index(faiss.IndexHNSWFlat(DIM, 4), str(path))
        with pytest.raises(SourceError, match="no flat index of FAISS"):
            import_embeddings(str(path), store=store, name="y", model="clip")


@pytest.mark.slow
def test_the_commands(cli: CommandLine, valkey_url: str, tmp_path: Path) -> None:
    with closing(connect(valkey_url)) as store:
        count = len(full(store))
    result = cli.run("export", str(tmp_path / "out"), "-c", "test")
    assert result.code == 0, result.err
    assert result.out.startswith(f"{count} images of test as of change ")
    result = cli.run("import", str(tmp_path / "out"), "-c", "again")
    assert result.out == f"{count} added, 0 replaced, 0 unchanged: again\n"
    assert "holds a whole export" in cli.fail("export", str(tmp_path / "out"), "-c", "test", code=2)
    assert "there is no collection" in cli.fail("export", str(tmp_path / "x"), "-c", "none")
    assert "there is no" in cli.fail("import", str(tmp_path / "none"), "-c", "x")


LSHASH3 = ROOT / ".venv-lshash3" / "bin" / "python"
# The real lshash3: indexes what it reads, in Redis or in memory, whose tables it prints.
INDEX = """
import json, sys
from lshash.lshash import LSHash
work = json.load(sys.stdin)
lsh = LSHash(6, work["dim"], 2, storage_config=work["storage"])
for number, point in enumerate(work["points"]):
    lsh.index(point, extra_data={"n": number} if number % 2 else None)
if not work["storage"]:
    print(json.dumps([table.storage for table in lsh.hash_tables]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_lshash3(store: Store, tmp_path: Path, kind: str) -> None:
    points = (3 * vectors(200)).tolist()
    with running(valkey(), tmp_path / "valkey") as server:
        storage = {"redis": {"host": "127.0.0.1", "port": server.port}} if kind == "redis" else None
        work = {"dim": DIM, "points": points, "storage": storage}
        printed = subprocess.run(
            [LSHASH3, "-c", INDEX],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        (tmp_path / "tables.json").write_text(printed)
        where = server.url if kind == "redis" else str(tmp_path / "tables.json")
        done = import_embeddings(where, store=store, name="points")
    assert done.added.added == 200
    collection = Collection.open(store, "points")
    assert collection.partitions[0].codec.dtype == np.float32
    [hit] = Searcher(collection).search(points[7], n=1)
    assert hit.metadata == {"extra": {"n": 7}}
    found = collection.get(hit.uri)
    assert found is not None
    # With the length that the point has.
    [whole] = collection.partitions[0].rows(np.array([0], np.uint32))
    assert whole is not None
    values, scale = collection.partitions[0].codec.unpack(whole[0][None])
    assert np.linalg.norm(values) == pytest.approx(3, rel=1e-5)
    assert scale[0] == pytest.approx(1 / 3, rel=1e-5)
