"""Each command of deploy/compose.md, in containers: `make test-containers`.

It takes a quarter of an hour, an engine for containers and the rights to kill what runs in one, so
neither CI nor `make test` runs it. SIMDIST_CONTAINERS names the engine, and SIMDIST_COMPOSE what
stands for `docker compose` where that is another program:

    SIMDIST_CONTAINERS=podman SIMDIST_COMPOSE=podman-compose make test-containers

The tests go on from each other, in this order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import PHOTOS
from tests.containers.compose import CONTAINERS, SECONDS, Deployment, seconds_until

pytestmark = pytest.mark.timeout(3600)

FISH = "file:///photos/fish/"
IMAGES = sum(1 for _ in PHOTOS.rglob("*.jpg"))
SERVICES = ("redis", "head", "worker", "service")
# Owner of the data where root runs the tests, who needs not be told what is allowed.
USER = 1000


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    assert CONTAINERS in os.environ, f"{CONTAINERS} must name the engine: docker, or podman"
    deployment = Deployment.create(tmp_path_factory.mktemp("containers"))
    yield deployment
    deployment.run("docker compose logs --tail 100 > ../logs 2>&1 || true")
    deployment.run("docker compose down --volumes")


def own(deployment: Deployment) -> None:
    """Give what root has made to the user of the containers."""
    if os.geteuid() == 0:
        for path in (deployment.folder, *deployment.folder.parents[:2]):
            path.chmod(0o755)
        for name in ("secrets", "data"):
            top = deployment.deploy / name
            for path in (top, *top.rglob("*")):
                os.chown(path, USER, USER)


def record(what: str, seconds: float) -> None:
    """Say how long it took, in the test's output."""
    print(f"{what}: {seconds:.0f} s")


def test_secrets(deployment: Deployment) -> None:
    [script] = deployment.blocks("One server: Docker Compose")
    deployment.run(script)
    settings = deployment.deploy / ".env"
    if os.geteuid() == 0:
        text = settings.read_text().replace("SIMDIST_USER=0:0", f"SIMDIST_USER={USER}:{USER}")
        settings.write_text(text)
    with settings.open("a") as file:
        file.write(f"TORCH_INDEX={os.environ.get('TORCH_INDEX', '')}\n")
    own(deployment)


def test_it_starts_and_says_that_there_is_no_collection_yet(deployment: Deployment) -> None:
    deployment.run(deployment.page("docker compose up --detach --build"))
    record("from up to ready", seconds_until(lambda: ready(deployment), most=300))
    assert deployment.ask("/v1/collections").status_code == 200
    answer = deployment.ask("/v1/search?n=3", data=(PHOTOS / "fish" / "goldfish.jpg").read_bytes())
    assert (answer.status_code, "images" in answer.text) == (409, True)


def ready(deployment: Deployment) -> bool:
    try:
        return deployment.ask("/readyz").status_code == 200
    except OSError:
        return False


def test_an_ingest_ends_beside_the_service(deployment: Deployment) -> None:
    done = deployment.run(deployment.page("docker compose exec head simdist ingest"))
    assert f"{IMAGES} added" in done
    record("to the first search's answer", seconds_until(deployment.found, most=120))
    found = deployment.run(deployment.page("curl --data-binary"))
    assert FISH in found


def test_more_workers(deployment: Deployment) -> None:
    deployment.run("docker compose up --detach --scale worker=2")
    listed = deployment.podman("ps --format {{.Names}}")
    assert listed.count("worker") == 2
    assert FISH in deployment.found()[0]
    deployment.run("docker compose up --detach --scale worker=1")
    # Other programs than Docker Compose may leave it running.
    for name in deployment.podman("ps --format {{.Names}}").split():
        if name.endswith(("worker_2", "worker-2")):
            deployment.podman(f"rm --force {name}")
    record("with one worker again", seconds_until(deployment.found, most=SECONDS))


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_restarted(deployment: Deployment, service: str) -> None:
    deployment.run(f"docker compose restart {service}")
    record(f"after a restart of {service}", seconds_until(deployment.found, most=2 * SECONDS))
    assert deployment.images() == IMAGES


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_killed(deployment: Deployment, service: str) -> None:
    deployment.kill(service)
    record(f"after {service} was killed", seconds_until(deployment.found, most=2 * SECONDS))
    assert deployment.images() == IMAGES


def test_all_are_stopped_and_started(deployment: Deployment) -> None:
    deployment.run("docker compose stop")
    assert deployment.names() == {}
    # Twice: podman-compose starts all at once, each with those that it needs, and may miss one.
    for _ in range(2):
        deployment.run("docker compose start")
    record("after a start of all", seconds_until(deployment.found, most=300))
    assert deployment.images() == IMAGES


def test_a_backup_is_restored(deployment: Deployment) -> None:
    save, restore = deployment.blocks("Backup and restore")
    deployment.run(save)
    shutil.rmtree(deployment.folder / "home" / "photos" / "fish")
    prune = deployment.page("docker compose exec head simdist ingest") + " --prune --yes"
    deployment.run(prune)
    assert 0 < deployment.images() < IMAGES
    # As root, the data would no longer be its user's.
    deployment.run(restore.replace("docker compose start", "true"))
    own(deployment)
    deployment.run("docker compose start redis")
    record("after the restore", seconds_until(deployment.found, most=SECONDS))
    assert deployment.images() == IMAGES
    assert FISH in deployment.found()[0]


def test_an_upgrade_keeps_the_data(deployment: Deployment) -> None:
    with (deployment.folder / "simdist" / "errors.py").open("a") as file:
        file.write("\n# Another version.\n")
    deployment.run("docker compose up --detach --build --force-recreate")
    record("after the upgrade", seconds_until(deployment.found, most=300))
    seen = deployment.run(
        "docker compose exec head python -c "
        "'import simdist.errors; print(open(simdist.errors.__file__).read()[-20:])'"
    )
    assert "Another version" in seen
    assert deployment.images() == IMAGES


def test_nothing_is_written_but_where_it_may_be(deployment: Deployment) -> None:
    """And nobody is root, in any container."""
    for service in SERVICES:
        said = deployment.run(
            f"docker compose exec {service} sh -c 'id -u; touch /etc/x /usr/local/x 2>&1; true'"
        )
        assert "Read-only file system" in said
        assert str(USER if os.geteuid() == 0 else os.geteuid()) in said.split()
