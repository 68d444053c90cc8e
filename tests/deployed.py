"""Redis as deploy/redis/ sets it up, with its configuration, users and certificates."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import TESTER, USER, Server

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

    def cli(self, *arguments: str, user: str = "admin") -> str:
        """What redis-cli says, as one of its users, to the arguments that follow the place."""
        command = ["redis-cli", "-h", HOST, "-p", str(self.port), "--user", user]
        command += ["--tls", "--cacert", str(self.ca)] if self.tls else []
        return run(*command, *arguments, REDISCLI_AUTH=password(self.etc, user))


def set_up(folder: Path) -> Path:
    """Make the certificate and the secrets of a server by the scripts of deploy/redis/."""
    run("sh", str(DEPLOY / "certificates.sh"), str(folder / "ca"), HOST, "127.0.0.1")
    (folder / "tls").symlink_to(folder / "ca" / HOST)
    run("sh", str(DEPLOY / "secrets.sh"), str(folder / "secrets"))
    return folder


def password(etc: Path, user: str) -> str:
    """The password of a user; the tests' own has the one of simdist's."""
    name = USER if user == TESTER else user
    return (etc / "secrets" / f"{name}-password").read_text().strip()


def run(*command: str, **environment: str) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def allow_tester(server: DeployedServer) -> None:
    """Let there be a user that may do everything, with the password of simdist's."""
    secret = password(server.etc, TESTER)
    server.ask("ACL", "SETUSER", TESTER, "on", f">{secret}", "~*", "&*", "+@all")
