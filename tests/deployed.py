"""Redis as deploy/redis/ sets it up, with its configuration, users and certificates."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import TESTER, USER, Server, eventually, free_port, redis7, started

DEPLOY = Path(__file__).parent.parent / "deploy" / "redis"
HOST = "localhost"


@dataclass
class DeployedServer(Server):
    """A server with a configuration of deploy/redis/, of which only the folders are others.

    Attributes:
        etc: what stands for /etc/redis, see `set_up`.
        configuration: which one.
        tls: whether the server has it: the embedded Valkey is built without.
    """

    etc: Path = field(kw_only=True)
    configuration: str = field(default="redis.conf", kw_only=True)
    tls: bool = field(default=True, kw_only=True)

    @property
    def url(self) -> str:
        return self.url_of(USER)

    @property
    def admin_url(self) -> str:
        return self.url_of("admin")

    def url_of(self, user: str) -> str:
        """The URL for one of its users."""
        place = f"{user}:{password(self.etc, user)}@{HOST}:{self.port}"
        return f"rediss://{place}?ssl_ca_certs={self.ca}" if self.tls else f"redis://{place}"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that its clients trust."""
        return self.etc / "tls" / "ca.crt"

    def settings(self) -> list[str]:
        places = {
            "/etc/redis/redis.conf": f"{self.folder}/redis.conf",
            "/etc/redis/": f"{self.etc}/",
            "dir /data": f"dir {self.folder}",
        }
        for name in ("redis.conf", "cluster.conf"):
            text = (DEPLOY / name).read_text()
            for ours, here in places.items():
                text = text.replace(ours, here)
            (self.folder / name).write_text(text)
        if self.tls:
            listen = ["--tls-port", str(self.port)]
        else:
            listen = ["--tls-port", "0", "--port", str(self.port)]
            listen += ["--tls-replication", "no", "--tls-cluster", "no"]
        return [str(self.folder / self.configuration), *listen, "--maxmemory", "1gb"]


def set_up(folder: Path) -> Path:
    """Make the certificate and the secrets of a server by the page's commands."""
    folder.mkdir(exist_ok=True)
    Page(folder, {"redis.example.com": f"{HOST} 127.0.0.1"}).run("Start one", 0)
    (folder / "tls").symlink_to(folder / "ca" / HOST)
    return folder


@contextmanager
def deployed_cluster(folder: Path, etc: Path, *, nodes: int = 3) -> Iterator[list[DeployedServer]]:
    """Nodes of Debian's Redis with `cluster.conf`, that the page's command makes a cluster of."""
    with ExitStack() as stack:
        servers = []
        for number in range(nodes):
            bus = ("--cluster-port", str(free_port()), "--cluster-announce-hostname", HOST)
            place = folder / f"node-{number}"
            server = DeployedServer(redis7(), place, bus, etc=etc, configuration="cluster.conf")
            servers.append(stack.enter_context(started(server)))
        read = Page(etc, {"10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379": addresses(servers)})
        read.run("Redis Cluster", 2)
        eventually(lambda: all(whole(server) for server in servers))
        yield servers


def addresses(servers: Sequence[Server]) -> str:
    """Where nodes are, as redis-cli takes it."""
    return " ".join(f"127.0.0.1:{server.port}" for server in servers)


def whole(node: Server) -> bool:
    """Whether a node finds its cluster whole."""
    return b"cluster_state:ok" in node.ask("CLUSTER", "INFO")


@dataclass(frozen=True)
class Page:
    """The commands of deploy/redis/README.md, for servers of this machine.

    Attributes:
        etc: the folder made by `set_up`, which is the working folder, too.
        places: what stands in the page -> what it is here.
    """

    etc: Path
    places: Mapping[str, str]

    def run(self, heading: str, number: int) -> str:
        """Run a block of commands, by its place below a heading; returns what it prints."""
        text = (DEPLOY / "README.md").read_text()
        [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        block: str = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[number]
        for there, here in {**self.places, "/etc/redis/": f"{self.etc}/"}.items():
            block = block.replace(there, here)
        block = re.sub(r"^sh ", f"sh {DEPLOY}/", block, flags=re.MULTILINE)
        # Where `simdist` is: the command, and this very one.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-euc", block],
            cwd=self.etc,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(DEPLOY.parent.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout


def password(etc: Path, user: str) -> str:
    """The password of a user; the tests' own has the one of simdist's."""
    name = USER if user == TESTER else user
    return (etc / "secrets" / f"{name}-password").read_text().strip()


def allow_tester(server: DeployedServer) -> None:
    """Let there be a user that may do everything, with the password of simdist's."""
    secret = password(server.etc, TESTER)
    server.ask("ACL", "SETUSER", TESTER, "on", f">{secret}", "~*", "&*", "+@all")
