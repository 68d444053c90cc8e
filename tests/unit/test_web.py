from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simdist.errors import FetchError
from simdist.sources import deadline, read_bytes, web
from simdist.sources.web import fetch
from tests.conftest import ROOT
from tests.web_site import PHOTO, Server, raw_server, serve


@pytest.fixture
def site() -> Iterator[Server]:
    with serve() as server:
        yield server


def get(site: Server, page: str) -> bytes:
    return fetch(f"{site.url}/{page}", allow_loopback=True)


@pytest.mark.parametrize(
    "page", ["photo", "photo-in-chunks", "photo-to-the-end", "photo/ü b?c=d#e", "once", "hops/5"]
)
def test_fetched_bytes_are_complete(site: Server, page: str) -> None:
    assert get(site, page) == PHOTO


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("missing", "answered 404"),
        ("broken", "answered 500"),
        ("cut", "cannot fetch"),
        ("garbage", "cannot fetch"),
        ("loop", "redirects more than 5 times"),
        ("hops/6", "redirects more than 5 times"),
        ("to?http://10.0.0.1/", "does not lead to a public address"),
        ("to?http://169.254.169.254/latest/meta-data/", "does not lead to a public address"),
        ("to?//192.168.0.1/", "does not lead to a public address"),
        ("to?file:///etc/passwd", "cannot fetch"),
        ("to?ftp://127.0.0.1/photo.jpg", "cannot fetch"),
        ("to?http://[", "cannot fetch"),
        ("to?http://" + "a" * 64 + ".com/", "cannot fetch"),
    ],
)
def test_a_bad_answer_is_a_fetch_error(site: Server, page: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        get(site, page)
    assert f"{site.url}/{page}" in str(caught.value)


def test_a_redirect_may_not_lead_to_this_machine(
    site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name's address is, is asked anew at every hop: public first, loopback second."""
    from requests_hardened import ip_filter_adapter

    from simdist.sources import public

    def pretend(host: str, port: int, *, allow_loopback: bool) -> str:
        return "127.0.0.1" if host == "public.example" else check(host, port, allow_loopback=False)

    check = ip_filter_adapter.filter_host
    monkeypatch.setattr(ip_filter_adapter, "filter_host", pretend)
    monkeypatch.setattr(public, "_is_own", lambda _: False)
    url = f"http://public.example:{site.server_port}"
    assert fetch(f"{url}/photo", any_port=True) == PHOTO
    with pytest.raises(FetchError, match="does not lead to a public address"):
        fetch(f"{url}/to?{site.url}/photo", any_port=True)
    assert site.requests.count("/photo") == 1


@pytest.mark.parametrize("page", ["endless", "photo"])
def test_too_many_bytes_are_refused(
    site: Server, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", len(PHOTO) - 1)
    with pytest.raises(FetchError, match=f"sends more than {len(PHOTO) - 1:,} bytes"):
        get(site, page)


def test_as_many_bytes_as_allowed_are_taken(site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", len(PHOTO))
    assert get(site, "photo") == PHOTO


def test_the_limit_is_that_of_images(site: Server) -> None:
    with pytest.raises(FetchError, match="sends more than 67,108,864 bytes"):
        get(site, "endless")


@pytest.mark.parametrize("page", ["slow-body", "slow-chunks", "slow-headers", "silence"])
def test_a_server_that_trickles_is_left_when_the_time_is_up(
    site: Server, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TOTAL_SECONDS", 0.3)
    with pytest.raises(FetchError, match=r"cannot fetch .* took more than 0\.3 seconds"):
        get(site, page)


def test_the_deadline_is_named_also_where_it_comes_a_moment_later(
    site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As it does on a busy machine: the last read's timeout is over, its thread has not begun.
    monkeypatch.setattr(deadline.Deadline, "_shut", lambda _: None)
    with pytest.raises(FetchError, match=r"cannot fetch .* took more than 0\.3 seconds"):
        fetch(f"{site.url}/silence", allow_loopback=True, seconds=0.3)


def test_a_fetch_takes_no_longer_than_its_caller_has(site: Server) -> None:
    with pytest.raises(FetchError, match=r"took more than 0\.3 seconds"):
        fetch(f"{site.url}/slow-body", allow_loopback=True, seconds=0.3)


# A network of its own, where this machine has a public address, and a name server that is silent.
_APART = """
mount --bind {folder}/resolv.conf /etc/resolv.conf
ip link set lo up
ip addr add 93.184.216.34/32 dev lo
ip -6 addr add 2606:2800:220:1::1/128 dev lo
exec {python} {folder}/apart.py
"""


def apart(folder: Path, code: str) -> str:
    """What Python code prints in a network of its own."""
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "apart.py").write_text(code)
    script = _APART.format(folder=folder, python=sys.executable)
    command = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-ec", script]
    if subprocess.run([*command[:4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network of one's own")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("host", ["93.184.216.34", "[2606:2800:220:1::1]"])
def test_public_addresses_of_this_machine_are_refused(tmp_path: Path, host: str) -> None:
    code = f"""
import socket
from simdist.errors import FetchError
from simdist.sources.web import fetch
from tests.web_site import PHOTO
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
listener.settimeout(0.2)
try:
    fetch("http://{host}/", seconds=1)
except FetchError as error:
    print(error)
try:
    listener.accept()
    print("it was asked")
except TimeoutError:
    pass
"""
    said = apart(tmp_path, code)
    assert "does not lead to a public address" in said
    assert "it was asked" not in said


def test_a_name_server_that_is_silent_is_left_when_the_time_is_up(tmp_path: Path) -> None:
    code = """
import socket
from simdist.errors import FetchError
from simdist.sources.web import fetch
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
for _ in range(3):
    try:
        fetch("http://photos.example/a.jpg", seconds=0.3)
    except FetchError as error:
        print(error)
print(len(silent.recv(512)) > 0)
"""
    *said, asked = apart(tmp_path, code).splitlines()
    assert len(said) == 3
    assert all("in time" in line or "took more than" in line for line in said)
    assert asked == "True"


@pytest.mark.parametrize("url", ["http://93.184.216.34:22/", "https://93.184.216.34:80000/x"])
def test_other_ports_than_those_of_the_web_are_refused(url: str) -> None:
    with pytest.raises(
        FetchError, match="only 80 and 443" if ":22" in url else "check the address"
    ):
        fetch(url, seconds=0.5)


def test_a_silent_server_is_left_after_the_time_for_one_read(
    site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    with pytest.raises(FetchError, match="did not answer in time"):
        get(site, "silence")


def test_the_body_of_a_redirect_is_not_read(site: Server) -> None:
    assert get(site, "once-with-an-endless-body") == PHOTO


def test_a_tls_handshake_that_trickles_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TOTAL_SECONDS", 0.3)
    a_long_record = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"
    with (
        raw_server(a_long_record, forever=b"\0") as port,
        pytest.raises(FetchError, match="took more than"),
    ):
        fetch(f"https://127.0.0.1:{port}/", allow_loopback=True)


def test_a_server_that_speaks_no_tls_is_a_fetch_error() -> None:
    with raw_server(b"hello\r\n") as port, pytest.raises(FetchError, match="cannot fetch"):
        fetch(f"https://127.0.0.1:{port}/", allow_loopback=True)


def test_a_closed_port_is_a_fetch_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchError, match="check the address and the network connection"):
        fetch(f"http://127.0.0.1:{port}/", allow_loopback=True)


PRIVATE = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "0x7f.1",
    "127.1",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[fec0::1]",
    "[ff02::1]",
    "[fd00::1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "public.example@127.0.0.1",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_refused(site: Server, scheme: str, host: str) -> None:
    with pytest.raises(FetchError, match="does not lead to a public address"):
        fetch(f"{scheme}://{host}:{site.server_port}/photo")
    assert site.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.jpg",
        "http:",
        "http://",
        "http:///photo.jpg",
        "http://:80/",
        "http://[",
        "http://[::1",
        "http://[v1.x]/",
        "http://host:99999/",
        "http://host:port/",
        "http://a..b/",
        "http://./",
        "http://*/",
        "http://a b/",
        "http://\n/",
        "http://\0/",
        "http://%00/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "ü" * 64 + ".com/",
        "http://xn--/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://\udcff/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/photo.jpg",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
    ],
)
def test_other_addresses_than_web_addresses_are_refused(url: str) -> None:
    with pytest.raises(FetchError, match="check the address"):
        fetch(url)


def test_a_refused_address_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FetchError):
        fetch("http://127.0.0.1/")
    assert capfd.readouterr().err == ""


def test_proxies_and_passwords_of_the_environment_are_not_used(
    site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(FetchError, match="does not lead to a public address"):
        fetch("http://10.0.0.1/photo")
    assert get(site, "photo") == PHOTO
    assert site.requests == ["/photo"]
    assert "Authorization" not in site.headers[0]
    assert site.headers[0]["User-Agent"] == "simdist"


def test_a_password_in_the_address_stays_with_its_host(site: Server) -> None:
    """A redirect to another host (by its name here) does not get it."""
    elsewhere = site.url.replace("127.0.0.1", "127.1")
    url = site.url.replace("http://", "http://someone:secret@")
    assert fetch(f"{url}/to?{elsewhere}/photo", allow_loopback=True) == PHOTO
    expected = f"Basic {base64.b64encode(b'someone:secret').decode()}"
    assert [headers.get("Authorization") for headers in site.headers] == [expected, None]


def test_nothing_stays_open(site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def ours() -> tuple[int, int]:
        """Sockets whose other end is the site, and timers."""
        ends = sum(
            Path(f"/proc/self/fd/{name}").is_socket()
            for name in os.listdir("/proc/self/fd")
            if Path(f"/proc/self/fd/{name}").exists()
        )
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        return ends, len(timers)

    before = ours()
    monkeypatch.setattr(web, "TOTAL_SECONDS", 0.3)
    for page in ("photo", "missing", "hops/3", "slow-headers"):
        try:
            get(site, page)
        except FetchError:
            assert page in ("missing", "slow-headers")
    for _ in range(200):  # the site's own ends are closed in its own time
        if ours() == before:
            break
        time.sleep(0.02)
    assert ours() == before


def test_read_bytes_takes_web_addresses_to_the_fetcher(site: Server) -> None:
    for scheme in ("http", "HTTP"):
        with pytest.raises(FetchError, match="does not lead to a public address"):
            read_bytes(f"{scheme}{site.url.removeprefix('http')}/photo")
    with pytest.raises(FetchError, match="check the address"):
        read_bytes("http://[::1")
