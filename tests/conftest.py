"""Fixtures that tests of every kind share: servers and photographs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from cluster.runtime import ray_session
from simdist.embedding import Embedder
from simdist.settings import Settings
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server
from tests.command_line import CommandLine
from tests.deployed import DeployedServer, allow_tester, set_up
from tests.object_store import CREDENTIALS, FORGOTTEN, ObjectStore, made_bucket, running_s3
from tests.servers import (
    Server,
    empty,
    redis7,
    redis8,
    running,
    running_cluster,
    started,
    valkey,
)

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "examples" / "photos"
QUERIES = ROOT / "examples" / "queries"
CALTECH = ROOT.parent / "shared" / "data" / "caltech-101"
# `make test-long`: series as long as before a release.
LONG = bool(os.environ.get("SIMDIST_LONG"))

# These take minutes: at the end, one of them would run alone.
LONG_FILES = (
    "test_faults.py",
    "test_service_faults.py",
    "test_killed.py",
    "test_caltech.py",
    "test_openapi.py",
    "test_pool.py",
    "test_ingest.py",
)
# Data that no clone has; whoever has it keeps it beside the checkout.
NEEDS_DATA = "needs ../shared/data"


# Whoever asks for one of these starts Ray, or a server beside the embedded one.
SLOW_FIXTURES = {
    "small_ray",
    "small_ray_at_s3",
    "cluster_nodes",
    "cluster_url",
    "deployed",
    "redis7_url",
    "redis8_url",
}
# New examples in each run, also where CI is set; how long one takes depends on the machine.
settings.register_profile("simdist", deadline=None, derandomize=False)
settings.load_profile("simdist")


def pytest_configure() -> None:
    """What Ray's workers in tests inherit.

    They do not step back, or tests that run beside them would starve them; and they embed with
    torch, as the tests do that compare with them, since OpenVINO's last digits are others.
    """
    os.environ.update(RAY_worker_niceness="0", SIMDIST_ENGINE="torch")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what need not be marked by hand, and begin with the longest files."""
    for item in items:
        if _is_slow(item):
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


def _is_slow(item: pytest.Item) -> bool:
    if {"browser", "cluster"} & {*item.path.relative_to(ROOT).parts}:
        return True
    assert isinstance(item, pytest.Function)
    server = item.callspec.params.get("store") if hasattr(item, "callspec") else None
    return server not in (None, "valkey") or bool(SLOW_FIXTURES & {*item.fixturenames})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that is skipped is a promise that nobody checks: the run fails.

    But for those that need data which a clone cannot have.
    """
    if os.environ.get("CI") and _promises(session.config) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """End with what was left out, and how to get it."""
    yield
    left_out = [f"{reason} ({count})" for reason, count in _skipped(config).items()]
    if config.option.markexpr == "not slow":
        left_out.append("`make test` runs the slow ones")
    if left_out:
        terminalreporter.write_line(f"Left out: {'; '.join(left_out)}", yellow=True)
    if os.environ.get("CI") and _promises(config):
        terminalreporter.write_line("In CI nothing may be skipped: this run has failed.", red=True)


def _promises(config: pytest.Config) -> set[str]:
    """Why tests were skipped that need not have been."""
    return {reason for reason in _skipped(config) if not reason.startswith(NEEDS_DATA)}


def _skipped(config: pytest.Config) -> Counter[str]:
    """Why tests were skipped, and how many for each reason; with xdist, of all processes."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # The processes that xdist starts have none: they report to the one that started them.
    reports = reporter.stats.get("skipped", []) if reporter else []
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


class FilesOrBrowser(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """All tests of a file go to the same process, for its fixtures; the browser's are one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "tests/browser" if file.startswith("tests/browser/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesOrBrowser:
    """How tests are spread over processes."""
    return FilesOrBrowser(config, log)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded server, as users get it."""
    with embedded_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedServer]:
    """Debian's Redis, as deploy/redis/ sets it up."""
    folder = tmp_path_factory.mktemp("redis7")
    with started(DeployedServer(redis7(), folder / "data", etc=set_up(folder))) as server:
        allow_tester(server)
        yield server


@pytest.fixture(scope="session")
def redis7_url(deployed: DeployedServer) -> str:
    """Debian's Redis with TLS, for a user that may do what simdist does, and no more."""
    return deployed.url


@pytest.fixture(scope="session")
def redis8_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Redis 8."""
    with running(redis8(), tmp_path_factory.mktemp("redis8")) as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A Redis Cluster of three Valkey nodes."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def cluster_url(cluster_nodes: list[Server]) -> str:
    """Where to find the cluster."""
    return cluster_nodes[0].url


@pytest.fixture(params=["valkey", "redis7"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store, once on the embedded Valkey and once on Debian's Redis with TLS and ACL.

    Marked `servers.on_every_server`, a test runs on Redis 8 and on a Redis Cluster too. On all but
    Valkey it is slow.
    """
    opened = connect(request.getfixturevalue(f"{request.param}_url"))
    empty(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """moto's S3, on a port of this machine."""
    with running_s3() as url:
        yield url


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has credentials for the tests' object stores, and leads to none."""
    lead_to_s3(monkeypatch)


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty bucket, to which the environment leads."""
    lead_to_s3(monkeypatch, s3_url)
    return made_bucket(s3_url, f"bucket-{uuid4().hex}")


def lead_to_s3(patch: pytest.MonkeyPatch, url: str | None = None) -> None:
    """Let the environment have credentials for the tests' object stores, and lead to this one."""
    for name in FORGOTTEN:
        patch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    if url:
        patch.setenv("AWS_ENDPOINT_URL", url)


@pytest.fixture(scope="session")
def valkey_tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A port of this machine on which a Valkey listens."""
    with running(valkey(), tmp_path_factory.mktemp("valkey-tcp")) as server:
        yield server.port


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder.load("efficientnet-lite0", device="cpu")


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    """A Ray with room for one actor, for all ingests of a file: each would start its own.

    Its workers have credentials for the tests' object stores.
    """
    with pytest.MonkeyPatch.context() as patch:
        lead_to_s3(patch)
        with ray_session(Settings.resolve(), cpus=1):
            yield


@pytest.fixture(scope="module")
def small_ray_at_s3(s3_url: str) -> Iterator[None]:
    """The same, and the environment leads its workers to moto's S3."""
    with pytest.MonkeyPatch.context() as patch:
        lead_to_s3(patch, s3_url)
        with ray_session(Settings.resolve(), cpus=1):
            yield


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], valkey_url: str
) -> CommandLine:
    """`simdist` on an empty embedded server."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    store.close()
    monkeypatch.setenv("SIMDIST_REDIS_URL", valkey_url)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return CommandLine(monkeypatch, capsys)
