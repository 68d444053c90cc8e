"""Joining and starting Ray, and how the stages share what it has."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.ingest.pipeline import Pipeline
from cluster.ingest.stages import Placement
from cluster.runtime import ray_session
from simdist.embedding import Model
from simdist.errors import ClusterError, UsageError
from simdist.settings import Settings


def settings(address: str | None) -> Settings:
    return Settings.resolve(ray_address=address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "[::1]:1"])
def test_nothing_answers(address: str) -> None:
    with pytest.raises(ClusterError, match="no Ray cluster answers at") as caught:
        ray_session(settings(address)).__enter__()
    assert address in str(caught.value)


@pytest.mark.parametrize("noted", [None, "127.0.0.1:1"])
def test_auto_without_a_cluster(monkeypatch: pytest.MonkeyPatch, noted: str | None) -> None:
    """Nor where Ray has kept a note of one that is gone."""
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: noted)
    with pytest.raises(ClusterError, match="no Ray cluster answers on this machine"):
        ray_session(settings("auto")).__enter__()


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "host:port", "ray://host:10001"])
def test_addresses_that_can_never_work(address: str) -> None:
    with pytest.raises(UsageError):
        ray_session(settings(address)).__enter__()


def test_another_kind_of_server_is_not_mistaken_for_a_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClusterError, match="no Ray cluster answers"):
            ray_session(settings(f"127.0.0.1:{server.getsockname()[1]}")).__enter__()
        thread.join()


def test_only_a_ray_that_was_started_here_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(KeyboardInterrupt), ray_session(settings(None)):
        with ray_session(settings(None)):
            assert ray.is_initialized()
        assert ray.is_initialized()
        raise KeyboardInterrupt
    assert not ray.is_initialized()


def test_each_actor_holds_a_gpu_of_its_own(model: Model) -> None:
    """Ray's GPUs are logical: it hands out those that it was told of."""
    import ray

    try:
        ray.init(
            "local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level=logging.CRITICAL
        )
        with Pipeline(Placement.of({"CPU": 2, "GPU": 2}), model) as pipeline:
            ids = [
                ray.get(actor.__ray_call__.remote(lambda _: ray.get_gpu_ids()))
                for actor in pipeline._loading.values()
            ]
    finally:
        ray.shutdown()
    assert sorted(ids) == [[0], [1]]


@pytest.mark.parametrize("cpus", [1, 2, 64])
def test_without_gpus_every_cpu_embeds_and_decoding_finds_room(cpus: int) -> None:
    placement = Placement.of({"CPU": cpus})
    assert placement.actors == cpus
    assert placement.actors * placement.actor_cpus + placement.decoder_cpus <= cpus


def test_with_gpus_there_is_one_actor_each() -> None:
    placement = Placement.of({"CPU": 16, "GPU": 4})
    assert (placement.actors, placement.actor_gpus, placement.decoders) == (4, 1, 16)
    assert (
        placement.actors * placement.actor_cpus + placement.decoders * placement.decoder_cpus <= 16
    )


def test_a_placement_uses_the_given_numbers() -> None:
    cluster = {"CPU": 8.0, "GPU": 4.0}
    assert (Placement.of(cluster).actors, Placement.of(cluster).actor_gpus) == (4, 1)
    assert (Placement.of(cluster, gpus=2).actors, Placement.of(cluster, gpus=2).actor_gpus) == (
        2,
        1,
    )
    # More than there are: they are waited for.
    assert Placement.of(cluster, gpus=6).actors == 6
    for placement, actors in (
        (Placement.of(cluster, gpus=0), 8),
        (Placement.of(cluster, actors=3), 3),
        (Placement.of({"CPU": 8.0}), 8),
        (Placement.of({"CPU": 8.0}, actors=1), 1),
    ):
        assert (placement.actors, placement.actor_gpus, placement.actors_decode) == (
            actors,
            0,
            True,
        )


# Becomes another user, and says which of the files it gets at, and what the head of Ray answers.
_STRANGER = """
import json, os, sys
from ray._raylet import GcsClient
os.setgroups([]); os.setgid(65534); os.setuid(65534)
address, *paths = sys.argv[1:]
reached = [path for path in paths if os.path.lexists(path)]
try:
    answer = str(GcsClient(address).internal_kv_keys(b"", namespace=None, timeout=10))
except Exception as error:
    answer = type(error).__name__
print(json.dumps([reached, answer]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_other_users_reach_neither_files_nor_ports_of_a_ray_that_was_started_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the environment says of tokens, for another cluster."""
    import ray

    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("HOME", str(tmp_path))
    with ray_session(settings(None), cpus=1):
        node: Any = ray._private.worker._global_node
        folder = Path(node.get_session_dir_path())
        paths = [folder, *folder.rglob("*")]
        stranger = subprocess.run(
            [sys.executable, "-c", _STRANGER, node.gcs_address, *map(str, paths)],
            env=os.environ | {"RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert folder / "sockets/raylet" in paths
    assert json.loads(stranger.stdout) == [[], "AuthenticationError"]
    assert not folder.exists()
    # Nor is there a token that outlives it, where others may read it.
    assert not list(tmp_path.iterdir())
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_temporary_folder_with_a_long_name_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sockets, whose names are limited, would not fit."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with ray_session(settings(None), cpus=1):
        assert not list(long.iterdir())
