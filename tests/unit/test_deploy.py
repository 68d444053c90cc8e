"""What deploy/ has is what its readers take: image, compose file, launcher, monitoring, pages."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from click import UsageError as ClickUsageError
from compose_spec import PyCompose
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from ray.serve.schema import ServeDeploySchema
from ray.serve.scripts import deploy

from cluster.service.config import READ_TOKENS_VARIABLE, ServiceConfig
from cluster.service.haproxy import PROGRAM_VARIABLE
from simdist.settings import REDIS_URL_VARIABLE
from tests.command_line import tool
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
# Not what a page lets its reader make.
FILES = sorted(
    path for path in DEPLOY.rglob("*") if path.is_file() and not {"secrets", "ca"} & {*path.parts}
)
PAGES = sorted(DEPLOY.glob("*.md"))
SERVE = DEPLOY / "serve.yaml"
VERSION = metadata.version("simdist")
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)


def locked(text: str) -> Iterator[tuple[str, str]]:
    """Names and versions in a file of requirements, each of which has a hash."""
    for entry in re.findall(r"^\S.*?$(?:\n +.*$)*", text, re.MULTILINE):
        found = re.match(r"([\w.-]+)==(\S+) \\\n +--hash=sha256:[0-9a-f]{64}\b", entry)
        assert found, entry
        yield found[1], found[2]


LOCKED = dict(locked((ROOT / "requirements.lock").read_text()))


def read(name: str) -> Any:
    """A YAML file of deploy/, with Compose's variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / name).read_text())
    return yaml.safe_load(text)


def assert_ray_starts(command: str) -> dict[str, Any]:
    """Check that `ray start` knows the options; returns what it makes of them."""
    words = shlex.split(command)
    assert words[:2] == ["ray", "start"], command
    return start.make_context("start", words[2:]).params


class TestAllFiles:
    def test_no_secret_host_or_path(self) -> None:
        """Hosts of registries, paths of one machine, and what looks like a key or a password."""
        never = re.compile(
            r"docker\.io|ghcr\.|quay\.|gcr\.io|pkg\.dev|nvcr\.|amazonaws|azurecr|pypi\.|pytorch\.org"
            r"|github\.io|/work/|/root/|BEGIN [A-Z ]*PRIVATE|AKIA[0-9A-Z]|\b[0-9a-f]{32,}\b"
            r"|stringData|(password|token|secret)['\"]?[:=] *['\"]?(?!secrets/)[A-Za-z0-9+/]{16,}",
            re.IGNORECASE,
        )
        found = [(path.name, never.findall(path.read_text())) for path in FILES]
        assert [(name, hits) for name, hits in found if hits] == []

    def test_images_are_pinned(self) -> None:
        """And simdist's own are of this version."""
        text = "\n".join(path.read_text() for path in FILES)
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        named = r"(?:^ARG PYTHON_IMAGE=|(?:\bimage:|--tag|-t) +)([\w./-]+:[\w.-]+)"
        images = set(re.findall(named, text, re.MULTILINE))
        assert set(re.findall(r"^FROM (\S+:\S+)", text, re.MULTILINE)) == set()
        assert {image.rpartition(":")[0] for image in images} == {
            *("python", "simdist", "valkey/valkey")
        }
        for image in images:
            assert re.fullmatch(r"\d+\.\d+\.\d+(-\w+)*", image.rpartition(":")[2]), image
        ours = {image for image in images if image.startswith("simdist:")}
        assert ours == {f"simdist:{VERSION}-cpu", f"simdist:{VERSION}-gpu"}

    def test_versions_are_those_of_the_constraints(self) -> None:
        text = "\n".join(path.read_text() for path in FILES)
        assert set(re.findall(r"rayVersion: (\S+)", text)) == {PINS["ray"]}
        assert set(re.findall(r"boto3==([\d.]+)", text)) == {PINS["boto3"]}


class TestImage:
    DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

    def test_hadolint_finds_nothing(self) -> None:
        done = subprocess.run(
            [tool("hadolint"), DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "")

    def test_the_lock_has_all_that_simdist_needs_as_the_constraints_have_it(self) -> None:
        """`make lock` writes it."""
        wanted, seen = ["simdist", "setuptools"], set[str]()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            for line in metadata.requires(name) or ():
                requirement = Requirement(line)
                extras = {"extra": ""} if name != "ray" else {"extra": "serve"}
                if requirement.marker is None or requirement.marker.evaluate(extras):
                    wanted.append(canonicalize_name(requirement.name))
        assert seen - {"simdist"} <= LOCKED.keys()
        pins = {str(canonicalize_name(name)): version for name, version in PINS.items()}
        assert {name: pins[name] for name in LOCKED} == LOCKED

    def test_copied_files_exist_and_are_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", self.DOCKERFILE, re.MULTILINE)
        sources = {source for line in copied for source in line.split()}
        sources -= {"--chmod=755"}
        assert sources >= {"simdist", "cluster", "requirements.lock", "pyproject.toml"}
        assert "*" in ignored
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored

    def test_everything_is_installed_by_its_hash(self) -> None:
        """But simdist itself, and torch's builds for CPUs, of an index that is named."""
        installs = re.findall(r"pip install .*", self.DOCKERFILE.replace("\\\n", ""))
        locked = [line for line in installs if "--require-hashes --no-deps -r " in line]
        own = [line for line in installs if "--no-deps --no-build-isolation . " in line]
        [torch] = [line for line in installs if "$TORCH_INDEX" in line]
        assert "-c constraints.txt --no-deps" in torch
        assert (len(locked), len(own)) == (2, 2)

    def test_builds_for_cpus_leave_out_what_only_gpus_need(self) -> None:
        """All of it with torch's builds for CPUs; with those for GPUs, what it loads must stay."""
        of_index, of_none = (
            LOCKED.keys() - dict(locked(self._kept_by(script))).keys()
            for script in re.findall(r"awk '(.*?)' requirements.lock", self.DOCKERFILE)
        )
        assert {"torch", "torchvision", "triton", "nvidia-nccl-cu13"} < of_index
        assert all(re.match("torch|triton$|nvidia-|cuda-", name) for name in of_index)
        assert of_none == {"triton"}

    def _kept_by(self, script: str) -> str:
        return subprocess.run(
            ["awk", script, ROOT / "requirements.lock"], check=True, capture_output=True, text=True
        ).stdout

    def test_haproxy_is_started_as_the_service_starts_it(self) -> None:
        """Else its statistics, and metrics without a token, would be open to all."""
        [place] = re.findall(
            r"^COPY --chmod=755 deploy/haproxy.sh (\S+)$", self.DOCKERFILE, re.MULTILINE
        )
        assert f"{PROGRAM_VARIABLE}={place}" in self.DOCKERFILE
        assert os.access(DEPLOY / "haproxy.sh", os.X_OK)

    def test_it_does_not_run_as_root(self) -> None:
        stages = re.split(r"^FROM ", self.DOCKERFILE, flags=re.MULTILINE)[1:]
        last = {stage.split()[2]: stage for stage in stages}
        assert "\nUSER 1000\n" in last["node"]
        assert "\nHEALTHCHECK " in last["node"]
        for name in ("cpu", "gpu"):
            assert last[name].startswith("node ")
            assert "RUN" not in last[name]
            assert "USER" not in last[name]


class TestCompose:
    FILE = read("compose.yaml")
    SERVICES: dict[str, dict[str, Any]] = FILE["services"]

    @pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
    def test_it_is_to_the_specification(self, name: str) -> None:
        compose = PyCompose.from_yaml(yaml.safe_dump(read(name)))
        compose.validate()
        assert set(compose.service_names()) <= self.SERVICES.keys()

    def test_docker_accepts_it(self) -> None:
        files = ("-f", "compose.yaml", "-f", "compose.gpu.yaml")
        command = (tool("docker-compose"), *files, "config")
        subprocess.run(command, cwd=DEPLOY, check=True, capture_output=True)

    def test_containers_are_locked(self) -> None:
        for name, service in self.SERVICES.items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["pids_limit"] > 0
            assert service["mem_limit"]
            if name != "redis":
                written = {place.partition(":")[0] for place in service["tmpfs"]}
                assert written == {"/tmp", "/home/simdist"}  # noqa: S108

    def test_only_the_service_is_published(self) -> None:
        published = {
            name: service["ports"] for name, service in self.SERVICES.items() if "ports" in service
        }
        assert published == {"head": ["8000:8000", "127.0.0.1:8265:8265"]}

    def test_nodes_join_with_a_token_and_know_their_secrets(self) -> None:
        for name in ("head", "worker", "service"):
            service = self.SERVICES[name]
            environment = service["environment"]
            assert environment["RAY_AUTH_MODE"] == "token"
            for value in environment.values():
                if value.startswith("/run/secrets/"):
                    assert value.removeprefix("/run/secrets/") in service["secrets"]
            assert set(service["secrets"]) == self.FILE["secrets"].keys()

    def test_ray_and_serve_know_the_options(self) -> None:
        assert_ray_starts(self.SERVICES["head"]["command"])
        assert_ray_starts(self.SERVICES["worker"]["command"])
        [command] = re.findall(r"&& serve deploy (.*?);", self.SERVICES["service"]["command"])
        arguments = shlex.split(command)
        mounted = self.SERVICES["service"]["volumes"]
        assert f"./serve.yaml:{arguments[-1]}:ro" in mounted
        assert deploy.make_context("deploy", arguments).params["address"] == "http://head:8265"
        with pytest.raises(ClickUsageError, match="No such option"):
            assert_ray_starts("ray start --heads")

    def test_mounted_files_exist(self) -> None:
        for service in self.SERVICES.values():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                # These two are made by what compose.md says.
                if not source.startswith(("./secrets", "./data")):
                    assert (DEPLOY / source).exists(), source


class TestServeConfig:
    def test_it_is_a_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(REDIS_URL_VARIABLE, "rediss://redis")
        monkeypatch.setenv(READ_TOKENS_VARIABLE, "a-token-of-the-test")
        schema = ServeDeploySchema.model_validate(read("serve.yaml"))
        [application] = schema.applications
        assert ServiceConfig.of(application.args).redis_url == "rediss://redis"
        # It ignores what it does not know, so a slip of the pen would go unseen.
        known = type(schema).model_fields.keys(), type(schema.http_options).model_fields.keys()
        assert read("serve.yaml").keys() <= known[0]
        assert read("serve.yaml")["http_options"].keys() <= known[1]


class TestLauncher:
    FILE = read("ray-cluster.yaml")

    def test_ray_accepts_it(self) -> None:
        prepared = prepare_config(self.FILE)
        validate_config(prepared)
        # Ray would add commands that install it.
        assert prepared["setup_commands"] == []
        types = prepared["available_node_types"]
        assert types["ingest"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert types["gpu"]["min_workers"] == 0

    def test_ray_knows_the_options(self) -> None:
        for name in ("head_start_ray_commands", "worker_start_ray_commands"):
            [stop, command] = self.FILE[name]
            assert stop == "ray stop"
            assert_ray_starts(command)

    def test_its_environment_is_that_of_compose(self) -> None:
        options = dict(
            option.removeprefix("--env ").split("=", 1)
            for option in self.FILE["docker"]["run_options"]
            if option.startswith("--env ")
        )
        assert options.keys() == read("compose.yaml")["x-node"]["environment"].keys()
        for value in options.values():
            assert not value.startswith("/") or value in self.FILE["file_mounts"]


class TestMonitoring:
    DASHBOARD = json.loads((DEPLOY / "monitoring" / "grafana.json").read_text())
    ALERTS = read("monitoring/alerts.yaml")

    def test_every_panel_asks_what_can_be_asked(self) -> None:
        panels = self.DASHBOARD["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            if panel["type"] != "row":
                assert panel["targets"], panel["title"]
        assert len(list(queries())) > 20
        for query in queries():
            promql_parser.parse(query)

    def test_promtool_accepts_the_rest(self, tmp_path: Path) -> None:
        if shutil.which("promtool") is None:
            pytest.skip("needs promtool (in Debian's package prometheus)")
        shutil.copytree(DEPLOY / "monitoring", tmp_path, dirs_exist_ok=True)
        (tmp_path / "token").touch()
        for check, name in (("config", "prometheus.yaml"), ("rules", "alerts.yaml")):
            subprocess.run(["promtool", "check", check, name], cwd=tmp_path, check=True)

    @pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
    def test_the_service_is_asked_with_a_token(self, name: str) -> None:
        service, ray = read(f"monitoring/{name}")["scrape_configs"]
        assert service["authorization"] == {"credentials_file": "token"}
        assert ray["job_name"] == "ray"


def queries() -> Iterator[str]:
    """The queries of the dashboard and the alerts."""
    for panel in TestMonitoring.DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")
    for group in TestMonitoring.ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_links_lead_somewhere(self, page: Path) -> None:
        targets = re.findall(r"\]\(([^)#:]+)", page.read_text())
        assert [target for target in targets if not (DEPLOY / target).exists()] == []

    def test_the_secrets_are_made_as_the_pages_say(self, tmp_path: Path) -> None:
        """All but creating them in a cluster, which kubectl only tries; then they are all there."""
        work = tmp_path / "deploy"
        shutil.copytree(DEPLOY, work)
        path = f"{tool('kubectl').parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"HOME": str(tmp_path), "PATH": path}
        for name in ("compose.md", "vms.md", "kubernetes.md"):
            script, *_ = re.findall(r"```sh\n(.*?)```", (DEPLOY / name).read_text(), re.DOTALL)
            here = re.sub(r"^(kubectl .*)$", r"\1 --dry-run=client", script, flags=re.MULTILINE)
            subprocess.run(
                ["sh", "-euc", here], cwd=work, check=True, env=environment, capture_output=True
            )
            # Passwords and keys are for their owner only.
            secrets = [path for path in (work / "secrets").rglob("*") if path.suffix != ".crt"]
            assert [path.name for path in secrets if path.stat().st_mode & 0o077] == []
        compose = read("compose.yaml")
        wanted = [secret["file"] for secret in compose["secrets"].values()]
        wanted += [
            volume.split(":")[0]
            for service in compose["services"].values()
            for volume in service.get("volumes", ())
            if volume.startswith("./secrets")
        ]
        wanted += read("ray-cluster.yaml")["file_mounts"].values()
        kubernetes = (DEPLOY / "kubernetes.md").read_text()
        wanted += re.findall(r"--from-file=(?:[\w.-]+=)?(\S+)", kubernetes)
        assert [path for path in wanted if not (work / path).exists()] == []
        tokens = (work / "secrets" / "tokens").read_text()
        assert re.fullmatch(r"read [0-9a-f]{64}\nwrite [0-9a-f]{64}\n", tokens)
        acl = (work / "secrets" / "operator.acl").read_text()
        password = (work / "secrets" / "operator-password").read_text()
        assert f"\nuser default on >{password} ~* &* +@all\n" in f"\n{acl}"
