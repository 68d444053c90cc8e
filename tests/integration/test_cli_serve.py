"""What `simdist serve` refuses, before it starts anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from simdist.cli.serve import _opened
from simdist.errors import LayoutError
from simdist.index.collection import Collection
from simdist.store import connect, layout
from tests.command_line import CommandLine
from tests.servers import free_port

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIMDIST_READ_TOKENS", "SIMDIST_WRITE_TOKENS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def photos(cli: CommandLine, valkey_url: str) -> Collection:
    """A collection without an image: none is asked for."""
    store = connect(valkey_url)
    model = "efficientnet-lite0"
    return Collection.create(store, "photos", model=model, model_id=f"{model}-x", dim=8)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_serving_other_machines_requires_tokens(
    cli: CommandLine, photos: Collection, host: str
) -> None:
    said = cli.fail("serve", "-c", "photos", "--host", host, code=2)
    assert "--tokens" in said
    assert "SIMDIST_READ_TOKENS" in said


def test_one_of_another_layout_is_not_served_and_the_others_are(
    photos: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    store = photos.store
    Collection.create(store, "other", model="m", model_id="m-1", dim=8)
    store.call("HSET", layout.Keys("other").meta, "version", layout.VERSION + 1)
    assert [one.name for one in _opened(store, ["photos", "other"])] == ["photos"]
    assert "other cannot be served: the collection 'other' has layout" in capsys.readouterr().err
    with pytest.raises(LayoutError):
        _opened(store, ["other", "photos"])


def test_a_host_name_is_not_an_address(cli: CommandLine, photos: Collection) -> None:
    said = cli.fail("serve", "-c", "photos", "--host", "example.org", code=2)
    assert "'example.org' is not an IP address" in said


def test_an_address_of_another_machine(cli: CommandLine, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"read {TOKEN}\n")
    said = cli.fail("serve", "--host", "192.0.2.1", "--tokens", str(tokens))
    assert "cannot listen at 192.0.2.1" in said
    assert "--host ADDRESS, --port N" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken(cli: CommandLine, photos: Collection, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = cli.fail("serve", "-c", "photos", "--host", host, "--port", str(port))
    assert f"port {port}" in said
    assert "--port" in said


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_an_impossible_port(cli: CommandLine, port: str) -> None:
    assert "--port" in cli.fail("serve", "--port", port, code=2)


def test_an_unknown_collection(cli: CommandLine, photos: Collection) -> None:
    free = ("--port", str(free_port()))
    said = cli.fail("serve", "-c", "others", "-c", "photos", *free)
    assert "others" in said
    assert "simdist ingest" in said


@pytest.mark.parametrize("workers", ["0", "-1", "two", "2:1", "0:4", "1:2:3", "", ":", "1.5"])
def test_impossible_numbers_of_workers(cli: CommandLine, photos: Collection, workers: str) -> None:
    free = ("--port", str(free_port()))
    said = cli.fail("serve", "-c", "photos", "--workers", workers, *free, code=2)
    assert "2:16" in said


@pytest.mark.parametrize("memory", ["", "much", "1", "4 kg", "-1GB", "1e3MB", "0GB", "0.0MB"])
def test_an_impossible_amount_of_memory(cli: CommandLine, photos: Collection, memory: str) -> None:
    free = ("--port", str(free_port()))
    said = cli.fail("serve", "-c", "photos", "--cache-memory", memory, *free, code=2)
    assert "512MB or 4GB" in said


@pytest.mark.parametrize(
    ("text", "reason"), [("read short\n", "16 characters"), ("nonsense\n", "'read TOKEN'")]
)
def test_bad_tokens(cli: CommandLine, tmp_path: Path, text: str, reason: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(text)
    assert reason in cli.fail("serve", "--tokens", str(tokens), code=2)


def test_workers_on_a_cluster_need_a_redis_that_every_node_reaches(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMDIST_REDIS_URL")
    said = cli.fail("serve", "--ray-address", "127.0.0.1:6379", code=2)
    assert "--redis" in said
