"""Ray on three machines and Redis on one of them: what an ingest needs, and what strikes it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import PHOTOS, ROOT
from tests.machines.machines import Machine, Network, machines, network
from tests.servers import eventually

RAY_PORT, REDIS_PORT = 6379, 6380
NAME = "photos"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUNBUFFERED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
STORE_BYTES = 200_000_000
PYTHON = str(Path(sys.executable))
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass
class Rig:
    """The machines, and what runs on them.

    The first is the head of the Ray cluster, and the commands run there.

    Attributes:
        redis: the machine that has Redis.
    """

    wires: Network
    machines: Sequence[Machine]
    folder: Path
    redis: Machine
    started: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def ray_address(self) -> str:
        return f"{self.machines[0].address}:{RAY_PORT}"

    @property
    def redis_url(self) -> str:
        return f"redis://{self.redis.address}:{REDIS_PORT}"

    @property
    def places(self) -> list[str]:
        """The options of a command that lead to Redis and Ray."""
        return ["--redis", self.redis_url, "--ray-address", self.ray_address]

    def start_redis(self) -> None:
        """Start it, with what it had."""
        data = self.redis.folder / "redis"
        data.mkdir(exist_ok=True)
        options = ["--port", str(REDIS_PORT), "--bind", "0.0.0.0", "--protected-mode", "no"]
        options += ["--dir", str(data), "--save", "", "--appendonly", "yes"]
        self._start(self.redis, "redis", "redis-server", *options)

    def start_ray(self, *, cpus: int = 1, head_cpus: int = 1) -> None:
        """Start the head, then the other nodes, with Ray's own defaults."""
        head, *others = self.machines
        places = ["--head", "--port", str(RAY_PORT), "--include-dashboard", "false"]
        self._join(head, *places, cpus=head_cpus)
        self._wait(head)
        for node in others:
            self.join_ray(node, cpus=cpus, wait=False)
        for node in others:
            self._wait(node)

    def join_ray(self, node: Machine, *, cpus: int = 1, wait: bool = True) -> None:
        """Let a machine be a node."""
        self._join(node, "--address", self.ray_address, cpus=cpus)
        if wait:
            self._wait(node)

    def stop_ray(self) -> None:
        """Take all nodes down, whatever state they are in."""
        for machine in self.machines:
            machine.run(RAY, "stop", "--force")
            if process := self.started.pop(f"ray-{machine.number}", None):
                process.wait()

    def _join(self, machine: Machine, *options: str, cpus: int) -> None:
        options = (*options, "--node-ip-address", machine.address, "--num-cpus", str(cpus))
        options = (*options, "--object-store-memory", str(STORE_BYTES))
        self._start(machine, f"ray-{machine.number}", RAY, "start", "--block", *options)

    def _wait(self, machine: Machine) -> None:
        log = self.folder / f"ray-{machine.number}.log"
        eventually(lambda: "Ray runtime started" in log.read_text(), seconds=120)

    def _start(self, machine: Machine, name: str, *command: str) -> None:
        if before := self.started.pop(name, None):
            before.wait()
        with (self.folder / f"{name}.log").open("w") as log:
            self.started[name] = machine.start(*command, stdout=log, stderr=subprocess.STDOUT)

    def ingest(self, place: Path = PHOTOS) -> subprocess.Popen[str]:
        """An ingest on the first machine, in steps so small that a fault can hit one of many."""
        driver = [PYTHON, "-m", "tests.cluster.driver", "together", "ingest", str(place)]
        options = ["-c", NAME, "--model", "efficientnet-lite0", *self.places]
        return self.machines[0].start(
            *driver, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


@contextmanager
def rig(
    folder: Path,
    *,
    redis: int = -1,
    cpus: int = 1,
    head_cpus: int = 1,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Iterator[Rig]:
    """Three machines with Ray, and Redis on one; with delay and loss between them."""
    started: dict[str, subprocess.Popen[str]] = {}
    # A head would ask for one by itself where the home directory has one, and nodes bring none.
    token = folder / "ray-token"
    token.write_text(secrets.token_hex(32))
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    try:
        with network(3) as wires, machines(folder, environment={**environment, **asks}) as made:
            built = Rig(wires, made, folder, made[redis], started)
            built.start_redis()
            built.start_ray(cpus=cpus, head_cpus=head_cpus)
            yield built
    finally:
        for process in started.values():
            process.wait()
