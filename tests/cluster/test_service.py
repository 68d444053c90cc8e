"""The service, started as a user starts it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import psutil

from tests.conftest import QUERIES
from tests.service import Service

FISH = (QUERIES / "fish.jpg").read_bytes()


def test_an_upload_finds_its_like(service: Service) -> None:
    answer = service.post("/v1/search?n=3", data=FISH, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200, answer.text
    assert [hit["label"] for hit in answer.json()["hits"]] == ["fish"] * 3


def test_nothing_listens_beyond_this_machine(service: Service) -> None:
    listening = list(_listening(service))
    assert len(listening) > 5
    assert [place for place in listening if not place[1].is_loopback] == []


def _listening(
    service: Service,
) -> Iterator[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    for process in [psutil.Process(service.process.pid), *service.processes()]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                address = ipaddress.ip_address(connection.laddr.ip)
                mapped = getattr(address, "ipv4_mapped", None)
                yield process.name(), mapped or address
