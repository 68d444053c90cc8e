"""Photographs found by what they show: on the command line, in Python, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import simdist
from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.search.question import Example, Question
from simdist.store import connect
from tests.browser.conftest import browser, chromium, context, page
from tests.command_line import CommandLine
from tests.conftest import PHOTOS
from tests.servers import running, valkey
from tests.service import Service, index_photos, running_service
from tests.towers import write_towers

# Fixtures.
__all__ = ["browser", "chromium", "context", "page"]

NAMES = sorted(folder.name for folder in PHOTOS.iterdir())
# The tower of words has seen so many photographs of each category; it has to find others.
SEEN = 8


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> str:
    """A model that reads words."""
    folder = tmp_path_factory.mktemp("towers") / "pair"
    shown = {name: embedder.embed_files(sorted((PHOTOS / name).iterdir())[:SEEN]) for name in NAMES}
    write_towers(folder, shown)
    return f"open_clip:local-dir:{folder}"


@pytest.fixture(scope="module")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, towers: str, embedder: Embedder, small_ray: None
) -> Iterator[str]:
    """A server with two collections, whose models read words, and none."""
    with running(valkey(), tmp_path_factory.mktemp("valkey")) as server:
        simdist.ingest(PHOTOS, collection="words", model=towers, redis=server.url)
        index_photos(server.url, embedder)
        yield server.url


@pytest.fixture(scope="module")
def service(redis_url: str, towers: str) -> Iterator[Service]:
    with running_service(redis_url, "--collection", "words", "--collection", "photos") as started:
        yield started


def said(name: str) -> str:
    return f"a photo of a {name.replace('-', ' ')}"


def test_ray_embeds_as_this_process_does(redis_url: str, towers: str) -> None:
    embedder = Embedder.load(towers)
    opened = Collection.open(connect(redis_url), "words")
    assert opened.model_id == embedder.model.id
    assert opened.count() == len(list(PHOTOS.glob("*/*")))
    photo = min((PHOTOS / NAMES[0]).iterdir())
    stored = opened.get(photo.as_uri())
    assert stored is not None
    [vector] = embedder.embed_files([photo])
    assert vector @ stored.vector > 0.999


def test_what_words_say_is_found(redis_url: str, cli: CommandLine, tmp_path: Path) -> None:
    options = ("-c", "words", "--redis", redis_url, "-n", str(SEEN + 5))
    asked = [word for name in NAMES for word in ("--text", said(name))]
    found = json.loads(cli.run("search", *asked, *options, "--json").out)
    assert [answer["query"] for answer in found] == [said(name) for name in NAMES]
    for name, answer in zip(NAMES, found, strict=True):
        seen = {photo.as_uri() for photo in sorted((PHOTOS / name).iterdir())[:SEEN]}
        others = [hit for hit in answer["hits"] if hit["uri"] not in seen]
        assert name in [hit["label"] for hit in others[:5]]
    sheet = tmp_path / "found.png"
    assert cli.run("search", *asked[:2], *options, "--out", str(sheet)).code == 0
    assert sheet.stat().st_size > 0


def test_every_way_finds_the_same(redis_url: str, service: Service, cli: CommandLine) -> None:
    text = said(NAMES[1])
    options = ("-c", "words", "-n", "7", "--json", "--text", text)
    [here] = json.loads(cli.run("search", *options, "--redis", redis_url).out)
    [there] = json.loads(cli.run("search", *options, "--server", service.url).out)
    with simdist.Client(service.url) as client:
        hits = client.search(text=text, n=7, collection="words")
        both = client.ask(
            Question(
                like=[Example(text=text)],
                unlike=[Example(text=said(NAMES[2]))],
                n=7,
                collection="words",
            )
        )
    raw = service.post("/v1/search", json={"text": text, "n": 7, "collection": "words"}).json()
    expected = [hit["uri"] for hit in here["hits"]]
    assert [hit["uri"] for hit in there["hits"]] == expected
    assert [hit.uri for hit in hits] == expected
    assert [hit["uri"] for hit in raw["hits"]] == expected
    scores = [hit["score"] for hit in here["hits"]]
    assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-3)
    assert NAMES[1] in [hit.label for hit in both[:5]]


def test_which_collections_read_words_is_said(service: Service) -> None:
    served = service.get("/v1/collections").json()["collections"]
    assert {one["name"]: one["words"] for one in served} == {"words": True, "photos": False}


def test_where_none_are_read_it_is_said(redis_url: str, service: Service, cli: CommandLine) -> None:
    told = cli.fail("search", "--text", "a fish", "-c", "photos", "--redis", redis_url, code=2)
    assert "reads no words" in told
    refused = service.post("/v1/search", json={"text": "a fish", "collection": "photos"})
    assert refused.status_code == 422
    assert "reads no words" in refused.json()["detail"]
    for text in ("", "  ", "x" * 1001):
        assert service.post("/v1/search", json={"text": text}).status_code == 422
        assert "1 to 1,000 characters" in cli.fail("search", "--text", text, code=2)


def test_images_are_embedded_by_the_model_of_each_collection(service: Service) -> None:
    """The service began with one of them."""
    photo = min((PHOTOS / NAMES[0]).iterdir())
    for name in ("words", "photos", "words"):
        found = service.post(
            "/v1/search",
            data=photo.read_bytes(),
            params={"collection": name, "n": 1},
            headers={"Content-Type": "image/jpeg"},
        )
        assert found.status_code == 200, found.text
        assert found.json()["hits"][0]["uri"] == photo.as_uri()


def test_recall_is_measured_with_words(redis_url: str, cli: CommandLine, tmp_path: Path) -> None:
    options = ("-c", "words", "--redis", redis_url)
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(map(said, NAMES)) + "\n\n")
    told = cli.run("tune", *options, "--texts", str(questions))
    assert "measured with 5 questions" in told.out, told
    tuned = json.loads(cli.run("tune", *options, "--texts", str(questions), "--json").out)
    assert tuned["queries"] == len(NAMES)
    assert tuned["points"][-1]["recall"] == 1
    photos = ("-c", "photos", "--redis", redis_url)
    assert "reads no words" in cli.fail("tune", *photos, "--texts", str(questions), code=2)
    for text, message in (("\n", "has no questions"), (None, "cannot read the questions")):
        (tmp_path / "none.txt").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "none.txt").write_text(text)
        assert message in cli.fail("tune", *options, "--texts", str(tmp_path / "none.txt"), code=2)


def test_words_beside_images(redis_url: str, cli: CommandLine) -> None:
    photo = str(min((PHOTOS / NAMES[0]).iterdir()))
    options = ("-c", "words", "--redis", redis_url, "--json", "-n", "5")
    each = json.loads(cli.run("search", photo, "--text", said(NAMES[1]), *options).out)
    assert [answer["query"] for answer in each] == [photo, said(NAMES[1])]
    [together] = json.loads(
        cli.run("search", "--like", photo, "--text", said(NAMES[0]), *options).out
    )
    labels = [hit["label"] for hit in together["hits"]]
    assert labels.count(NAMES[0]) >= 3


def test_the_pair_is_that_of_the_installation(towers: str, embedder: Embedder) -> None:
    """The same network under other names finds the same."""
    photos = sorted((PHOTOS / NAMES[0]).iterdir())[:4]
    pixels = np.stack([embedder.model.preprocessing.pixels(one.read_bytes()) for one in photos])
    own = Embedder(embedder.model, full_precision=True).embed(pixels)
    pair = Embedder(Embedder.load(towers).model, full_precision=True).embed(pixels)
    assert np.abs(own - pair).max() < 1e-4


def test_words_are_asked_on_the_page(page: Page, service: Service, tmp_path: Path) -> None:
    page.goto(service.url)
    field = page.get_by_role("textbox", name="Words, or the address of an image")
    expect(field).to_be_visible()
    field.fill(said(NAMES[1]))
    field.press("Enter")
    hits = page.get_by_role("list").get_by_role("link")
    expect(hits).to_have_count(24)
    first = service.post("/v1/search", json={"text": said(NAMES[1]), "n": 1}).json()["hits"][0]
    expect(hits.first).to_contain_text(f"{first['score']:.3f}")
    expect(page.locator("#asked-name")).to_have_text(said(NAMES[1]))
    expect(page.locator("#asked-image")).to_be_hidden()
    # The address asks the same again; the other collection reads none.
    page.reload()
    expect(hits).to_have_count(24)
    page.goto(service.url)
    page.get_by_label("Collection").select_option("photos")
    page.get_by_role("textbox", name="Address of an image", exact=True).fill("a fish")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("That is no address of an image")
