"""Addresses of this machine, which no proxy of the environment is ever asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

_EXEMPT = ("NO_PROXY", "no_proxy")


def without_proxy(url: str) -> bool:
    """Whether an address is one of this machine: a proxy would look for it on its own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def proxies_for(url: str) -> Iterator[None]:
    """Within, a client that is made for an address reads of no proxy for this machine."""
    if not without_proxy(url):
        yield
        return
    before = {name: os.environ.get(name) for name in _EXEMPT}
    host = urlsplit(url).hostname or ""
    os.environ |= {name: ",".join(filter(None, (value, host))) for name, value in before.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
