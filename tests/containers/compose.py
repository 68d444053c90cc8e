"""Compose as a reader of deploy/compose.md runs it, in a copy of what the image is made of."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.conftest import PHOTOS, QUERIES, ROOT

CONTAINERS, COMPOSE = "SIMDIST_CONTAINERS", "SIMDIST_COMPOSE"
# Within so long a service answers again, whatever was killed.
SECONDS = 60


@dataclass(frozen=True)
class Deployment:
    """A copy of the repository in which the page's commands are run.

    Attributes:
        folder: the copy.
        containers: the command for containers, such as `podman`.
        compose: the command that the page calls `docker compose`.
    """

    folder: Path
    containers: str
    compose: str

    @classmethod
    def create(cls, folder: Path) -> Deployment:
        """Copy what the image is made of, and the photographs to the home directory."""
        ignored = shutil.ignore_patterns("__pycache__", "secrets", "data", ".env")
        for line in (ROOT / ".dockerignore").read_text().splitlines():
            name = line.removeprefix("!").partition("/")[0]
            if not line.startswith("!") or (folder / name).exists():
                continue
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, folder)
        shutil.copy2(ROOT / ".dockerignore", folder)
        shutil.copytree(PHOTOS, folder / "home" / "photos")
        shutil.copy2(QUERIES / "fish.jpg", folder / "deploy" / "photo.jpg")
        containers = os.environ[CONTAINERS]
        return cls(folder, containers, os.environ.get(COMPOSE, f"{containers} compose"))

    @property
    def deploy(self) -> Path:
        return self.folder / "deploy"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"HOME": str(self.folder / "home")}

    def page(self, start: str) -> str:
        """The command of the page, or of a line of its prose, that begins like that."""
        text = (self.deploy / "compose.md").read_text()
        [command] = re.findall(rf"^(?:    )?({re.escape(start)}.*)$", text, re.MULTILINE)
        return str(command)

    def blocks(self, heading: str) -> list[str]:
        """The scripts below a heading of the page."""
        text = (self.deploy / "compose.md").read_text()
        [section] = re.findall(rf"^##? {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        return [str(script) for script in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]

    def run(self, script: str) -> str:
        """Run what the page says; returns what it prints."""
        script = re.sub(r"\bdocker compose\b", self.compose, script)
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=self.deploy,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout)
        return done.stdout

    def names(self) -> dict[str, str]:
        """The containers that run, by service; of several of a service, any."""
        listed = json.loads(self.podman("ps --format json"))
        found = {}
        for container in listed:
            labels = container["Labels"] or {}
            if labels.get("com.docker.compose.project") == "simdist":
                found[labels["com.docker.compose.service"]] = container["Names"][0]
        return found

    def podman(self, arguments: str) -> str:
        """Run a command of the container engine itself."""
        command = [*shlex.split(self.containers), *shlex.split(arguments)]
        return subprocess.run(
            command, cwd=self.deploy, check=True, capture_output=True, text=True
        ).stdout

    def kill(self, service: str) -> None:
        """Kill the first process of a container from outside, as the kernel would."""
        place = "--format {{.State.Pid}}"
        pid = int(self.podman(f"inspect {place} {self.names()[service]}"))
        os.kill(pid, signal.SIGKILL)

    def token(self, kind: str) -> str:
        """One of the service's tokens."""
        text = (self.deploy / "secrets" / "tokens").read_text()
        return dict(line.split() for line in text.splitlines())[kind]

    def ask(self, path: str, **options: Any) -> requests.Response:
        """Ask the service, with a read token."""
        headers = {"Authorization": f"Bearer {self.token('read')}"}
        method = "POST" if "data" in options else "GET"
        return requests.request(
            method, f"http://127.0.0.1:8000{path}", headers=headers, timeout=10, **options
        )

    def found(self) -> list[str]:
        """What a search for the fish finds; nothing while the service does not answer."""
        try:
            answer = self.ask("/v1/search?n=3", data=(QUERIES / "fish.jpg").read_bytes())
        except requests.RequestException:
            return []
        if answer.status_code != 200:
            return []
        return [hit["uri"] for hit in answer.json()["hits"]]

    def images(self) -> int:
        """How many images the collection has."""
        [about] = self.ask("/v1/collections").json()["collections"]
        return int(about["images"])


def seconds_until(condition: Callable[[], object], *, most: float) -> float:
    """Wait until it holds; returns for how long."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < most, f"not within {most:.0f} s"
        time.sleep(0.5)
    return time.monotonic() - start
