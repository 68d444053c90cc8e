"""Redis as deploy/redis/ sets it up: simdist may do there what it does, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from simdist.errors import StoreError
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.dropping import drop
from simdist.index.inventory import describe_all
from simdist.index.names import remove_alias, rename, set_alias
from simdist.index.rehash import rehash
from simdist.index.tuning import tune
from simdist.ingest.failures import (
    Failure,
    forget,
    keep,
    kept,
)
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, connection
from tests.collections import create, ref, vectors
from tests.command_line import CommandLine
from tests.deployed import DeployedServer, deployed_cluster, password, set_up
from tests.servers import Server, started, valkey, wait_for_data

pytestmark = pytest.mark.slow

# Sent to clusters only; ASKING only while a partition moves.
BAD = Failure("file:///bad.jpg", "decode", "not an image")
OF_CLUSTERS = {"asking", "cluster|slots", "command"}
USERS = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"


@pytest.fixture(params=["redis7", "valkey", "cluster"])
def servers(
    request: pytest.FixtureRequest, deployed: DeployedServer, tmp_path: Path
) -> Iterator[list[DeployedServer]]:
    """Empty servers: Redis 7 and its replica, Valkey, which has no TLS here, or a Redis Cluster."""
    etc = deployed.etc
    with ExitStack() as stack:
        if request.param == "cluster":
            yield stack.enter_context(deployed_cluster(tmp_path, etc))
            return
        tls = request.param == "redis7"
        binary = deployed.binary if tls else valkey()
        first = DeployedServer(binary, tmp_path / "data", etc=etc, tls=tls)
        stack.enter_context(started(first))
        follow = ("--replicaof", f"127.0.0.1 {first.port}")
        second = DeployedServer(binary, tmp_path / "replica", follow, etc=etc, tls=tls)
        stack.enter_context(started(second))
        wait_for_data(second)
        yield [first, second]


def test_simdist_may_do_what_it_does_and_no_more(servers: list[DeployedServer]) -> None:
    clustered = servers[0].configuration == "cluster.conf"
    with closing(connect(servers[0].url)) as store:
        use(store, replicas=0 if clustered else 1)
    for server in servers:
        assert server.ask("ACL", "LOG") == [], "something was refused"
    # Not as the server says it: many of a category it calls all but some.
    [rules] = re.findall("^user simdist .*$", USERS.read_text(), re.MULTILINE)
    allowed = set(re.findall(r"\+(\S+)", rules))
    unused = allowed - set().union(*map(commands, servers))
    assert unused <= ({"asking", "wait"} if clustered else OF_CLUSTERS)
    with closing(connect(servers[0].url_of("search"))) as store:
        only_search(store)


def use(store: Store, *, replicas: int) -> None:
    """Do all that simdist does with a store."""
    collection = create(store, partitions=3)
    refs = [ref(i) for i in range(600)]
    data = vectors(600)
    collection.add(data[:400], refs[:400], replicas=replicas)
    collection.add(data, refs, replicas=replicas)
    assert collection.known(refs).all()
    assert collection.delete([refs[5].uri]) == 1
    keep(collection, [BAD], source="photos")
    assert [failure.failure for failure in kept(collection)] == [BAD]
    forget(collection, [BAD.uri])
    rehash(collection, kind="hyperplanes")
    tune(collection.partitions)
    assert Searcher(collection).search(vectors(600)[7], n=1, recall=0.9)[0].uri == refs[7].uri
    record = collection.get(refs[3].uri)
    assert record is not None
    assert record.label == "things"
    [described], [] = describe_all(store)
    assert described.images == 599
    assert store.used_memory() > 0
    create(store, "old")
    rename(store, "old", "new")
    set_alias(store, "live", "new")
    remove_alias(store, "live")
    drop(store, "new")
    amend(collection, [refs[6].uri], Amendment("new"))
    assert len(copy(store, "test", "copy")) == 599
    drop(store, "copy")
    store.call("PING")  # as a service's /readyz does


def only_search(store: Store) -> None:
    """What the user `search` may do, and what it may not."""
    collection = Collection.open(store, "test")
    assert Searcher(collection).search(vectors(600)[7], n=1, recall=0.9)[0].uri == ref(7).uri
    assert collection.get(ref(3).uri) is not None
    assert [described.images for described in describe_all(store)[0]] == [599]
    assert kept(collection) == []
    store.call("PING")
    for write in (
        lambda: collection.add(vectors(1, seed=9), [ref(0, version=1)]),
        lambda: collection.delete([ref(0).uri]),
        lambda: keep(collection, [BAD], source="photos"),
        lambda: create(store, "other"),
        lambda: rehash(collection),
        lambda: tune(collection.partitions),
        lambda: rename(store, "test", "new"),
        lambda: drop(store, "test"),
    ):
        with pytest.raises(StoreError, match="does not let this user do that"):
            write()


def commands(server: Server) -> set[str]:
    """What a server has been asked to do."""
    return {name.removeprefix("cmdstat_") for name in server.ask("INFO", "commandstats")}


@pytest.mark.parametrize(
    ("user", "command"),
    [
        *(("simdist", command) for command in ("FLUSHALL", "KEYS *", "SCAN 0", "DBSIZE")),
        *(("simdist", command) for command in ("CONFIG GET requirepass", "ACL LIST", "SHUTDOWN")),
        *(("simdist", command) for command in ("GET other", "SET other 1", "DEL other", "BGSAVE")),
        *(("simdist", command) for command in ("CLIENT LIST", "MONITOR", "PUBLISH simdist: 1")),
        *(("search", command) for command in ("SET simdist:x 1", "DEL simdist:x", "GET other")),
        *(("search", command) for command in ("EVAL return 0", "SCRIPT LOAD return")),
        *(("replication", command) for command in ("GET simdist:x", "CONFIG GET dir", "INFO")),
        *(("admin", command) for command in ("FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "KEYS *")),
    ],
)
def test_forbidden_commands_are_refused(deployed: DeployedServer, user: str, command: str) -> None:
    url = deployed.url_of(user)
    # Not by `connect`, for not all of them may ask for INFO.
    with (
        closing(Store(url, redis.Redis.from_url(url))) as store,
        pytest.raises(StoreError, match="does not let this user do that"),
    ):
        store.call(*command.split())


@pytest.mark.parametrize("script", ["'FLUSHALL'", "'GET', 'other'", "'PUBLISH', 'simdist:', 'x'"])
def test_a_script_may_do_no_more_than_its_user(deployed: DeployedServer, script: str) -> None:
    with (
        closing(connect(deployed.url)) as store,
        pytest.raises(StoreError, match="does not let this user do that"),
    ):
        store.call("EVAL", f"return redis.call({script})", 1, "simdist:x")


def test_who_only_searches_is_told_who_brings_the_scripts(
    deployed: DeployedServer, cli: CommandLine
) -> None:
    """A server that was started again has forgotten them."""
    with closing(connect(deployed.url)) as store:
        collection = create(store, "forgotten", partitions=2)
        collection.add(vectors(300), [ref(i) for i in range(300)])
    with closing(connect(deployed.url_of("search"))) as store:
        searcher = Searcher(Collection.open(store, "forgotten"))
        assert searcher.search(vectors(300)[7], n=1)[0].uri == ref(7).uri
        deployed.ask("SCRIPT", "FLUSH")
        fresh = Searcher(Collection.open(store, "forgotten"))
        with pytest.raises(
            StoreError,
            match="brings the scripts of searches by asking for the collections' figures",
        ):
            fresh.search(vectors(300)[7], n=1)
        # It says what it can by itself.
        assert cli.run("status", "--redis", deployed.url_of("search")).code == 0
        with pytest.raises(StoreError):
            fresh.search(vectors(300)[7], n=1)
        assert cli.run("status", "--redis", deployed.url).code == 0
        assert fresh.search(vectors(300)[7], n=1)[0].uri == ref(7).uri


def test_who_is_refused_is_told_why(
    deployed: DeployedServer,
    valkey_tcp: int,
    cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
    port, secret = deployed.port, password(deployed.etc, "simdist")
    trust = f"ssl_ca_certs={deployed.ca}"
    other = set_up(tmp_path / "other")
    for url, message in (
        (f"rediss://localhost:{port}?{trust}", "refuses this user: give its name and password"),
        (f"rediss://simdist@localhost:{port}?{trust}", "refuses this user"),
        (f"rediss://simdist:hunter2@localhost:{port}?{trust}", "refuses this user"),
        (f"rediss://nobody:hunter2@localhost:{port}?{trust}", "refuses this user"),
        (f"rediss://simdist:{secret}@localhost:{port}/1?{trust}", "does not let this user do that"),
        (f"rediss://simdist:{secret}@localhost:{port}", "a certificate that is not trusted (self"),
        (f"rediss://localhost:{port}?ssl_ca_certs={other}/ca/ca.crt", "is not trusted (self"),
        (f"rediss://127.0.0.2:{port}?{trust}", "is not trusted (IP address mismatch"),
        (f"rediss://localhost:{port}?ssl_ca_certs=/nowhere", "correct the files that its URL"),
        (f"rediss://localhost:{port}?ssl_ca_certs={__file__}", "correct the files"),
        (f"redis://simdist:{secret}@localhost:{port}", "if it wants TLS, use rediss://"),
        (f"rediss://localhost:{valkey_tcp}?{trust}", "if it has none, use redis://"),
    ):
        said = cli.fail("status", "--redis", url)
        assert message in said, url
        assert secret not in said
        assert "hunter2" not in said
    for setting in ("ssl_ca_certs=ca.crt", "colour=red"):
        said = cli.fail("status", "--redis", f"redis://localhost:{port}?{setting}", code=2)
        assert "is not a Redis URL" in said


def test_the_password_comes_from_the_environment_or_a_file_that_it_names(
    deployed: DeployedServer, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"rediss://simdist@localhost:{deployed.port}?ssl_ca_certs={deployed.ca}"
    monkeypatch.setenv("SIMDIST_REDIS_URL", url)
    assert "refuses this user" in cli.fail("status")
    monkeypatch.setenv("SIMDIST_REDIS_PASSWORD_FILE", str(tmp_path / "none"))
    assert "cannot read the password of Redis in" in cli.fail("status", code=2)
    file = deployed.etc / "secrets" / "simdist-password"
    monkeypatch.setenv("SIMDIST_REDIS_PASSWORD_FILE", str(file))
    assert cli.run("status").code == 0
    # The nearer wins: the URL's, then that of the variable, then that of the file.
    monkeypatch.setenv("SIMDIST_REDIS_PASSWORD", "wrong")
    assert "refuses this user" in cli.fail("status")
    assert cli.run("status", "--redis", deployed.url).code == 0
    monkeypatch.setenv("SIMDIST_REDIS_PASSWORD", password(deployed.etc, "simdist"))
    monkeypatch.delenv("SIMDIST_REDIS_PASSWORD_FILE")
    assert cli.run("status").code == 0
