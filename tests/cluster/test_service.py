"""The service, started as a user starts it: the same answers each way, and all the rest."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image

import simdist
from cluster.service.http.answers import image_id
from simdist.embedding import Embedder
from simdist.errors import ServiceError, UnknownCollectionError, UnknownImageError, UsageError
from simdist.images.parts import Part
from simdist.search.question import Example, Hit, Question
from simdist.search.searcher import Searcher
from simdist.sources import file_uri
from simdist.store import connect
from tests import web_site
from tests.command_line import CommandLine
from tests.conftest import PHOTOS, QUERIES
from tests.servers import eventually, running, valkey
from tests.service import COLLECTION, Service, index_photos, running_service

FISH = QUERIES / "fish.jpg"
HORSES = file_uri(PHOTOS / "animals" / "horses.jpg")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Service]:
    """A service of the example photographs, on a Valkey of its own."""
    with running(valkey(), tmp_path_factory.mktemp("service")) as server:
        index_photos(server.url, embedder)
        with running_service(server.url, SIMDIST_FETCH_LOOPBACK="1") as started:
            yield started


@pytest.fixture
def client(service: Service) -> Iterator[simdist.Client]:
    with simdist.Client(service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def searcher(service: Service) -> Iterator[Searcher]:
    store = connect(service.redis_url)
    yield Searcher(simdist.Collection.open(store, COLLECTION))
    store.close()


def assert_same(hits: Sequence[Hit], others: Sequence[Hit]) -> None:
    """The same images with the same scores; embedded apart, the last bits may differ."""
    assert [hit.uri for hit in hits] == [hit.uri for hit in others]
    assert [hit.label for hit in hits] == [hit.label for hit in others]
    scores, expected = ([hit.score for hit in some] for some in (hits, others))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


class TestSameAnswers:
    """As in this process, for every way to ask."""

    def test_by_upload(
        self, client: simdist.Client, searcher: Searcher, embedder: Embedder
    ) -> None:
        expected = searcher.search(embedder.embed_files([FISH])[0], n=7)
        assert_same(client.search(image=FISH, n=7), expected)
        assert_same(client.search(image=FISH.read_bytes(), n=7), expected)

    def test_by_address(
        self, client: simdist.Client, searcher: Searcher, embedder: Embedder
    ) -> None:
        with web_site.serve_folder(QUERIES) as address:
            hits = client.search(url=f"{address}/fish.jpg", n=7)
        assert_same(hits, searcher.search(embedder.embed_files([FISH])[0], n=7))

    def test_by_uri_and_id(
        self, service: Service, client: simdist.Client, searcher: Searcher
    ) -> None:
        image = searcher.collection.get(HORSES)
        assert image is not None
        expected = searcher.search(image.vector, n=7)
        assert client.search(uri=HORSES, n=7) == expected
        [first, *_] = service.post("/v1/search", json={"uri": HORSES}).json()["hits"]
        by_id = service.post("/v1/search", json={"id": first["id"], "n": 7}).json()["hits"]
        assert [hit["uri"] for hit in by_id] == [hit.uri for hit in expected]

    def test_by_vector(self, client: simdist.Client, searcher: Searcher) -> None:
        vectors = np.random.default_rng(1).normal(size=(3, 1280)).astype(np.float32)
        expected = searcher.search_many(vectors, n=7)
        assert [client.search(vector=vector, n=7) for vector in vectors] == expected
        assert client.search_many(vectors, n=7) == expected

    def test_by_vectors_as_json_and_as_bytes(self, service: Service) -> None:
        vectors = np.random.default_rng(2).normal(size=(3, 1280)).astype("<f4")
        numbers = vectors.tolist()
        expected = service.post("/v1/search", json={"vector": numbers[0], "n": 3}).json()
        assert len(expected["hits"]) == 3
        queries = {"queries": [{"vector": vector, "n": 3} for vector in numbers]}
        batch = service.post("/v1/search/batch", json=queries).json()
        assert batch["results"][0] == expected
        raw = {"Content-Type": "application/octet-stream"}
        for one, many in (
            (vectors[0].tobytes(), vectors.tobytes()),
            map(_saved, (vectors[0], vectors)),
        ):
            found = service.post("/v1/search?n=3", data=one, headers=raw)
            assert found.json() == expected
            found = service.post("/v1/search/batch?n=3", data=many, headers=raw)
            assert found.json() == batch

    def test_by_an_image_as_people_send_it(
        self, service: Service, searcher: Searcher, embedder: Embedder
    ) -> None:
        expected = searcher.search(embedder.embed_files([FISH])[0], n=3)
        data, coded = FISH.read_bytes(), base64.b64encode(FISH.read_bytes()).decode()
        curl = {"Content-Type": "application/x-www-form-urlencoded"}
        for request in (
            {"data": data, "headers": curl},
            {"data": data},
            {"files": {"file": ("fish.jpg", data, "image/jpeg")}},
            {"json": {"image": coded}},
            {"json": {"image": f"data:image/jpeg;base64,{coded}"}},
        ):
            answer = service.post("/v1/search?n=3", **request)
            assert answer.status_code == 200, answer.text
            assert [hit["uri"] for hit in answer.json()["hits"]] == [hit.uri for hit in expected]

    def test_by_several_examples(
        self,
        service: Service,
        client: simdist.Client,
        cli: CommandLine,
        searcher: Searcher,
        embedder: Embedder,
    ) -> None:
        fish = embedder.embed_files([FISH])[0]
        tool, other = (hit.uri for hit in searcher.search(fish, n=154)[-2:])
        expected = searcher.ask(
            Question(
                like=[Example(vector=fish, weight=2), Example(uri=HORSES)],
                unlike=[Example(uri=tool), Example(uri=other)],
                n=7,
            )
        )
        like = [Example(image=FISH.read_bytes(), weight=2), Example(uri=HORSES)]
        unlike = [Example(id=image_id(tool)), Example(uri=other)]
        found = client.search(like=like, unlike=unlike, n=7)
        assert_same(found, expected)
        assert HORSES not in {hit.uri for hit in found}
        options = ("--server", service.url, "-c", COLLECTION, "--json", "-n", "7")
        answer = cli.run(
            *("search", "--like", str(FISH), "--like", str(FISH), "--like", HORSES),
            *("--unlike", tool, "--unlike", other, *options),
        )
        assert answer.code == 0, answer.err
        [said] = json.loads(answer.out)
        assert_same([Hit(**fields) for fields in said["hits"]], expected)
        with pytest.raises(UnknownImageError, match="not indexed"):
            client.search(like=[Example(uri=HORSES), Example(uri="urn:nowhere")])
        with pytest.raises(ServiceError, match="not an image"):
            client.search(like=[Example(uri=HORSES), Example(image=b"no image")])

    def test_by_a_part_of_an_image(
        self, service: Service, client: simdist.Client, searcher: Searcher, embedder: Embedder
    ) -> None:
        crop, data = "0.25,0.1,0.5,0.6", FISH.read_bytes()
        [part] = embedder.embed_images([Part.parse(crop).cut(data)])
        expected = searcher.search(part, n=5)
        assert_same(client.search(image=FISH, crop=crop, n=5), expected)
        answer = service.post(f"/v1/search?n=5&crop={crop}", data=data)
        assert [hit["uri"] for hit in answer.json()["hits"]] == [hit.uri for hit in expected]
        coded = {"image": base64.b64encode(data).decode(), "crop": crop}
        for asked in (coded, {"like": [coded]}):
            answer = service.post("/v1/search", json=asked | {"n": 5})
            assert [hit["uri"] for hit in answer.json()["hits"]] == [hit.uri for hit in expected]
        for wrong in ("0,0,2,2", "1,1,1,1", "0,0,1"):
            refused = service.post(f"/v1/search?crop={wrong}", data=data)
            assert refused.status_code == 422, refused.text
        assert service.post("/v1/search", json={"uri": HORSES, "crop": crop}).status_code == 422

    def test_pages_and_groups(self, service: Service, cli: CommandLine, searcher: Searcher) -> None:
        question = {"uri": HORSES, "n": 6, "recall": 1}
        first = service.post("/v1/search", json=question).json()
        more = service.post("/v1/search", json=question | {"after": first["next"]}).json()
        both = searcher.ask(Question(uri=HORSES, n=12, recall=1))
        assert [hit["uri"] for hit in first["hits"] + more["hits"]] == [hit.uri for hit in both]
        assert service.post("/v1/search?offset=6", json=question).json() == more
        options = ("--server", service.url, "-c", COLLECTION, "-n", "6", "--recall", "1", "--json")
        answer = cli.run("search", HORSES, "--after", first["next"], *options)
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)[0]["next"] == more["next"]
        answer = cli.run("search", HORSES, "--group-by", "label", "--group-size", "2", *options)
        labels = [hit["label"] for hit in json.loads(answer.out)[0]["hits"]]
        assert len(set(labels)) == 5
        assert labels[::2] == labels[1::2]
        many = {"queries": [question | {"n": 10_000}] * 7}
        refused = service.post("/v1/search/batch", json=many)
        assert refused.status_code == 422
        assert "64,000" in refused.json()["detail"]

    def test_on_the_command_line(
        self, service: Service, cli: CommandLine, searcher: Searcher, embedder: Embedder
    ) -> None:
        answer = cli.run("search", str(FISH), "--server", service.url, "-c", COLLECTION, "--json")
        assert answer.code == 0, answer.err
        [found] = json.loads(answer.out)
        hits = [Hit(**fields) for fields in found["hits"]]
        assert_same(hits, searcher.search(embedder.embed_files([FISH])[0]))


class TestHowToSearch:
    def test_options(self, client: simdist.Client) -> None:
        every = client.search(image=FISH, n=154)
        assert len(every) == 154
        enough = client.search(image=FISH, n=154, min_score=every[9].score)
        assert enough == every[:10]
        tools = client.search(image=FISH, n=3, label="tools")
        assert tools == [hit for hit in every if hit.label == "tools"][:3]

    def test_a_recall_that_was_not_measured(self, client: simdist.Client) -> None:
        with pytest.raises(ServiceError, match="tune the collection") as caught:
            client.search(uri=HORSES, recall=0.9)
        assert caught.value.status == 409

    def test_batches_answer_what_they_can(self, service: Service) -> None:
        queries = [{"uri": HORSES, "n": 1}, {"uri": "file:///nowhere.jpg"}]
        results = service.post("/v1/search/batch", json={"queries": queries}).json()["results"]
        assert results[0]["hits"][0]["uri"] == HORSES
        assert results[1]["error"]["status"] == 404

    def test_bytes_that_are_no_vectors(self, service: Service) -> None:
        refused = {
            ("/v1/search", bytes(5119)): "5,119 bytes where a vector, 1,280 float32 numbers",
            ("/v1/search", bytes(5120)): "not finite or of length zero",
            ("/v1/search", _saved(np.ones(1280))): "float64; save little-endian float32",
            ("/v1/search?n=0", np.ones(1280, "<f4").tobytes()): "query.n: Input should be greater",
            ("/v1/search?m=1", np.ones(1280, "<f4").tobytes()): "query.m: Extra inputs are not",
            ("/v1/search/batch", bytes(65 * 5120)): "there may be 64",
            ("/v1/search/batch", FISH.read_bytes()): "not a body of vectors",
        }
        for (path, body), said in refused.items():
            raw = {"Content-Type": "application/octet-stream"}
            answer = service.post(path, data=body, headers=raw)
            assert (answer.status_code, answer.json()["status"]) == (422, 422), path
            assert said in answer.json()["detail"]
        image = service.post("/v1/search/batch", data=b"", headers={"Content-Type": "image/jpeg"})
        assert (
            image.json()["detail"]
            == "send application/json, or vectors as application/octet-stream"
        )

    def test_options_of_the_address_count_where_json_says_nothing(self, service: Service) -> None:
        queries = {"queries": [{"uri": HORSES}, {"uri": HORSES, "n": 2}]}
        results = service.post("/v1/search/batch?n=1", json=queries).json()["results"]
        assert [len(result["hits"]) for result in results] == [1, 2]
        [hit] = service.post("/v1/search?n=1", json={"uri": HORSES}).json()["hits"]
        assert hit["uri"] == HORSES

    def test_invalid_requests(
        self, service: Service, client: simdist.Client, tmp_path: Path
    ) -> None:
        with pytest.raises(UnknownImageError, match="is not indexed"):
            client.search(uri="file:///nowhere.jpg")
        with pytest.raises(UnknownCollectionError, match="is not served here"):
            client.search(uri=HORSES, collection="other")
        with pytest.raises(UnknownCollectionError, match="is not served here"):
            client.delete(HORSES, collection="other")
        with (
            simdist.Client(f"{service.url}/elsewhere") as lost,
            pytest.raises(ServiceError, match="no such address") as caught,
        ):
            lost.delete(HORSES)
        assert caught.value.status == 404
        with pytest.raises(ServiceError, match="not an image of a known format"):
            client.search(image=b"no image")
        with pytest.raises(ServiceError, match="is needed"):
            client.search(vector=[1, 2, 3])
        with pytest.raises(ServiceError, match="does not lead to a public address"):
            client.search(url="http://10.0.0.1/a.jpg")
        with pytest.raises(UsageError, match="one of"):
            client.search()
        with pytest.raises(simdist.SimdistError, match="No such file"):
            client.search(image=tmp_path / "none.jpg")


class TestImages:
    def test_record_and_thumbnail(self, service: Service) -> None:
        [hit] = service.post("/v1/search", json={"uri": HORSES, "n": 1}).json()["hits"]
        path = f"/v1/images/{hit['id']}"
        record = service.get(path).json()
        assert (record["uri"], record["label"]) == (HORSES, "animals")
        small = service.get(path + "/thumbnail")
        assert small.headers["Content-Type"] == "image/webp"
        assert len(small.content) < 30_000
        again = service.get(path + "/thumbnail", headers={"If-None-Match": small.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert service.get("/v1/images/" + 24 * "0").status_code == 404

    def test_what_is_added_is_said_to_be_a_copy(
        self, service: Service, client: simdist.Client, tmp_path: Path
    ) -> None:
        picture = Image.open(FISH).convert("RGB")
        width, height = picture.size
        picture.resize((width // 2, height // 2)).save(tmp_path / "small.png")
        picture.crop((width // 4, 0, width, height * 3 // 4)).save(tmp_path / "part.png")
        client.add("urn:test:original", FISH)
        # An answer may be a second behind.
        eventually(lambda: client.search(uri="urn:test:original")[0].uri == "urn:test:original")
        png, jpeg = ({"Content-Type": f"image/{form}"} for form in ("png", "jpeg"))
        for name, kind in (("small", "same"), ("part", "similar")):
            data = (tmp_path / f"{name}.png").read_bytes()
            uri = {"uri": f"urn:test:{name}"}
            answer = service.post("/v1/images", params=uri, data=data, headers=png).json()
            copies = {copy["uri"]: copy["kind"] for copy in answer["duplicates"]}
            assert copies["urn:test:original"] == kind
            assert all(0.96 <= copy["score"] <= 1 for copy in answer["duplicates"])
        # As an ingest does, or nobody could say which of two is larger.
        added = service.get(f"/v1/images/{image_id('urn:test:small')}").json()["metadata"]
        assert added["format"] == "PNG"
        assert (added["width"], added["height"]) == (width // 2, height // 2)
        tools = (PHOTOS / "tools" / "claw-hammer-red.jpg").read_bytes()
        uri = {"uri": "urn:test:tool"}
        answer = service.post("/v1/images", params=uri, data=tools, headers=jpeg).json()
        assert answer["duplicates"] == []
        for name in ("original", "small", "part", "tool"):
            assert client.delete(f"urn:test:{name}")

    def test_add_replace_and_delete(self, client: simdist.Client) -> None:
        name = "urn:test:fish"
        tools = PHOTOS / "tools" / "claw-hammer-red.jpg"
        assert client.add(name, FISH, label="new") == "added"
        assert client.add(name, FISH, label="new") == "unchanged"
        # An answer may be a second behind.
        eventually(lambda: client.search(uri=name)[0].uri == name)
        [same, *_] = client.search(uri=name)
        assert same.label == "new"
        assert same.score == pytest.approx(1, abs=1e-4)
        assert client.add(name, tools, label="new") == "replaced"
        # It and the photograph itself, which is indexed too, are as similar as can be.
        both = {name, file_uri(tools)}
        eventually(lambda: {hit.uri for hit in client.search(uri=name, n=2)} == both)
        assert client.delete(name)
        assert not client.delete(name)
        with pytest.raises(UnknownImageError):
            client.search(uri=name)

    def test_add_by_address(self, client: simdist.Client) -> None:
        with web_site.serve_folder(QUERIES) as address:
            assert client.add(f"{address}/fish.jpg") == "added"
            eventually(lambda: client.search(image=FISH, n=1)[0].score > 0.999)
            assert client.delete(f"{address}/fish.jpg")


class TestTheServiceItself:
    def test_collections(self, client: simdist.Client) -> None:
        [only] = client.collections()
        assert (only["name"], only["dim"], only["recalls"]) == (COLLECTION, 1280, [])
        assert only["images"] == 154

    def test_health(self, service: Service) -> None:
        assert service.get("/healthz").json() == {"status": "ok"}
        assert service.get("/readyz").json() == {"status": "ready"}

    def test_whoever_asks_whether_it_is_ready_costs_redis_next_to_nothing(
        self, service: Service
    ) -> None:
        def pings() -> int:
            return int(store.call("INFO", "commandstats")["cmdstat_ping"]["calls"])

        with closing(connect(service.redis_url)) as store, requests.Session() as session:
            service.get("/readyz")
            before = pings()
            for _ in range(400):
                assert session.get(service.url + "/readyz", timeout=60).ok
            assert pings() - before < 100

    def test_metrics(self, service: Service) -> None:
        service.post("/v1/search", json={"uri": HORSES})
        text = service.get("/metrics").text
        assert 'simdist_requests_total{route="/v1/search",status="200",worker=' in text
        assert 'simdist_stage_seconds_bucket{le="0.001",stage="search",worker=' in text
        assert f'simdist_searches_total{{collection="{COLLECTION}",recall="default",' in text

    def test_the_page(self, service: Service) -> None:
        page = service.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]

    def test_its_workers_do_not_step_back_behind_other_work(self, service: Service) -> None:
        workers = service.processes("ServeReplica")
        assert len(workers) == 2
        assert {worker.nice() for worker in workers} == {psutil.Process().nice()}

    def test_nothing_listens_beyond_this_machine(self, service: Service) -> None:
        listening = list(_listening(service))
        assert len(listening) > 5
        assert [place for place in listening if not place[1].is_loopback] == []


@pytest.mark.parametrize(
    "place",
    [
        "http://10.0.0.1/a.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://192.168.0.1:8080/",
        "//172.16.0.1/",
        "http://100.64.0.1/",
        "http://[fd00::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[fec0::1]/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.jpg",
        "gopher://127.0.0.1/",
        "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
        "s3://bucket/a.jpg",
        "http://[",
    ],
)
@pytest.mark.parametrize("path", ["/v1/search", "/v1/images"])
def test_redirects_are_not_followed(service: Service, path: str, place: str) -> None:
    with web_site.serve() as site:
        answer = service.post(path, json={"url": f"{site.url}/to?{place}"})
        assert len(site.requests) == 1
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_service_without_tokens_speaks_of_none(service: Service) -> None:
    text = service.get("/v1/openapi.json").text
    assert "securitySchemes" not in text
    for methods in json.loads(text)["paths"].values():
        for operation in methods.values():
            assert not {"401", "403", "429"}.intersection(operation["responses"])


def test_no_service(cli: CommandLine) -> None:
    message = cli.fail("search", str(FISH), "--server", "http://127.0.0.1:1")
    assert "start one, or correct the address (simdist serve)" in message
    assert "not the address" in cli.fail("search", str(FISH), "--server", "x", code=2)


def test_a_client_is_not_sent_to_web_pages() -> None:
    with simdist.Client("http://127.0.0.1:1") as client, pytest.raises(ServiceError) as caught:
        client.collections()
    assert caught.value.status == 0
    assert isinstance(caught.value.__cause__, requests.ConnectionError)


def _saved(array: NDArray[Any]) -> bytes:
    """The bytes of a NumPy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _listening(
    service: Service,
) -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    for process in [psutil.Process(service.process.pid), *service.processes()]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                address = ipaddress.ip_address(connection.laddr.ip)
                mapped = getattr(address, "ipv4_mapped", None)
                yield process.name(), mapped or address
