"""What a service is told when it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.ingest.stages import Placement
from cluster.service.app import application
from cluster.service.config import (
    READ_TOKENS_VARIABLE,
    TOKENS_FILE_VARIABLE,
    WRITE_TOKENS_VARIABLE,
    ServiceConfig,
    Tokens,
    require_tokens,
    token_digest,
)
from simdist.errors import UsageError
from simdist.settings import REDIS_URL_VARIABLE

ONE, TWO, THREE = "one-token-of-many", "two-tokens-of-many", "three-tokens-of-many"


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (READ_TOKENS_VARIABLE, WRITE_TOKENS_VARIABLE, TOKENS_FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_tokens_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the shop\nread {ONE}\n\nwrite  {TWO} \nread {THREE}\n")

    tokens = Tokens.resolve(file)
    assert tokens.read == (token_digest(ONE), token_digest(THREE))
    assert tokens.write == (token_digest(TWO),)


def test_tokens_come_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"read {ONE}\n")
    monkeypatch.setenv(READ_TOKENS_VARIABLE, f"{TWO}, {THREE}")
    monkeypatch.setenv(WRITE_TOKENS_VARIABLE, f"{ONE},")
    tokens = Tokens.resolve(file)
    assert sorted(tokens.read) == sorted(map(token_digest, (ONE, TWO, THREE)))
    assert tokens.write == (token_digest(ONE),)


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, given = tmp_path / "named", tmp_path / "given"
    named.write_text(f"read {ONE}\n")
    given.write_text(f"read {TWO}\n")
    monkeypatch.setenv(TOKENS_FILE_VARIABLE, str(named))
    assert Tokens.resolve().read == (token_digest(ONE),)
    assert Tokens.resolve(given).read == (token_digest(TWO),)
    named.unlink()
    with pytest.raises(UsageError, match=r"cannot read the tokens in .*named"):
        Tokens.resolve()


def test_without_tokens_there_are_none() -> None:
    assert not Tokens.resolve()


def test_no_token_is_kept() -> None:
    tokens = Tokens((token_digest(ONE),), (token_digest(TWO),))
    config = ServiceConfig(redis_url="redis://localhost", tokens=tokens)
    assert ONE not in repr(config)
    assert TWO not in repr(config)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("read short\n", "at least 16 characters"),
        ("admin a-token-that-is-long\n", "line 1 of .* is neither"),
        ("a-token-that-is-long-enough\n", "line 1 of .* is neither"),
        (f"read {ONE}\nwrite\n", "line 2 of .* is neither"),
        ("read \n", "line 1 of .* is neither"),
        (b"read \xff\xfe\n", "cannot read the tokens"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=reason) as caught:
        Tokens.resolve(file)
    assert "a-token-that-is-long" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the tokens in .*nowhere"):
        Tokens.resolve(tmp_path / "nowhere")


def test_listening_beyond_loopback_requires_tokens() -> None:
    with pytest.raises(UsageError, match="needs tokens: give a file"):
        require_tokens(Tokens())
    with pytest.raises(UsageError, match="needs tokens"):
        ServiceConfig(redis_url="redis://localhost")
    require_tokens(Tokens((token_digest(ONE),)))
    assert not ServiceConfig(redis_url="redis://localhost", loopback=True).tokens


def test_only_a_service_of_this_machine_may_fetch_from_it() -> None:
    with pytest.raises(UsageError, match="only a service of its own machine"):
        ServiceConfig(
            redis_url="redis://localhost",
            tokens=Tokens((token_digest(ONE),)),
            fetch_loopback=True,
        )


@pytest.mark.parametrize("workers", [(0, 1), (2, 1), (-1, -1), (0, 0)])
def test_impossible_numbers_of_workers(workers: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="2:16"):
        ServiceConfig(redis_url="redis://localhost", loopback=True, workers=workers)


def test_a_serve_config_file_says_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READ_TOKENS_VARIABLE, ONE)
    config = ServiceConfig.of(
        {
            "redis_url": "redis://redis:6379",
            "collections": ["photos", "others"],
            "workers": [2, 16],
            "cache_memory": 4_000_000_000,
            "deadline": 5,
        }
    )
    assert config.collections == ("photos", "others")
    assert config.workers == (2, 16)
    assert config.deadline == 5.0
    assert config.tokens.read == (token_digest(ONE),)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_embedder_may_be_promised_a_gpu(gpu: bool) -> None:
    """Before there is one: nobody asks a cluster."""
    bound: Any = application(ServiceConfig("redis://x", model="resnet34", loopback=True, gpu=gpu))
    _, embedder, *_ = bound._bound_deployment.init_args
    options = embedder._bound_deployment.ray_actor_options
    assert options is not None
    assert options["num_gpus"] == int(gpu)


def test_on_two_cores_an_ingest_finds_room_beside_four_workers() -> None:
    config = ServiceConfig("redis://x", model="resnet34", loopback=True, gpu=False, workers=(1, 4))
    bound: Any = application(config)._bound_deployment
    _, embedder, _, finder = bound.init_args
    others = (embedder._bound_deployment, finder._bound_deployment)
    each = [one.ray_actor_options["num_cpus"] for one in (bound, *others)]
    held = 4 * each[0] + each[1] + each[2]
    assert held + Placement.of({"CPU": 2}).actor_cpus <= 2


def test_the_redis_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READ_TOKENS_VARIABLE, ONE)
    monkeypatch.setenv(REDIS_URL_VARIABLE, "redis://environment")
    assert ServiceConfig.of({}).redis_url == "redis://environment"
    assert ServiceConfig.of({"redis_url": "redis://file"}).redis_url == "redis://file"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "needs the setting 'redis_url'"),
        ({"redis_url": "redis://x", "worker": 2}, "no setting 'worker', only .*'workers'"),
        ({"redis_url": "redis://x", "tokens": {}}, "no setting 'tokens'"),
        ({"redis_url": 5}, "the setting redis_url of the service"),
        ({"redis_url": "redis://x", "workers": "two"}, "the setting workers of the service"),
        ({"redis_url": "redis://x", "workers": [1, 2, 3]}, "the setting workers"),
        ({"redis_url": "redis://x", "gpu": "perhaps"}, "the setting gpu of the service"),
        ({"redis_url": "redis://x", "deadline": "soon"}, "the setting deadline of the service"),
        ({"redis_url": "redis://x", "collections": []}, "name a collection"),
        ({"redis_url": "redis://x", "parts": 0}, "one part or several"),
        ({"redis_url": "redis://x", "workers": [3, 2]}, "2:16"),
    ],
)
def test_a_bad_serve_config_file_is_refused(
    arguments: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(READ_TOKENS_VARIABLE, ONE)
    monkeypatch.delenv(REDIS_URL_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=reason):
        ServiceConfig.of(arguments)


@pytest.mark.parametrize("place", ["/data/photos", "file:///data/photos/", "s3://bucket/photos"])
def test_places_whose_pictures_are_shown(place: str) -> None:
    config = ServiceConfig("redis://h", loopback=True, thumbnails_from=(place,))
    assert config.thumbnails_from == (place,)


@pytest.mark.parametrize("place", ["photos", "", "http://example.org/photos", "s3://"])
def test_a_place_that_cannot_be_shown_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match=r"neither an absolute path|names? no|does not name"):
        ServiceConfig("redis://h", loopback=True, thumbnails_from=(place,))
