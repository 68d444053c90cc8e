"""Connections to public addresses only, none of them this machine's."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from simdist.errors import FetchError
from simdist.sources.background import in_background

# All public addresses of IPv6 are in it. Outside it, Python counts as public what is none: those
# of a site (fec0::/10), and IPv4 addresses in old notations (::127.0.0.1, ::ffff:0:127.0.0.1).
_PUBLIC = IPv6Network("2000::/3")
_PORTS = (80, 443)
# Lookups under way. The resolver's own time is half a minute, and nothing ends one sooner: whoever
# asks is answered in time all the same, but its thread stays until then.
_MAX_LOOKUPS = 64
_lookups = threading.BoundedSemaphore(_MAX_LOOKUPS)


class PublicAdapter(IPFilterAdapter):  # type: ignore[misc]
    """`requests-hardened`'s filter, with no address of this machine, and a time for each step."""

    def __init__(
        self, is_https_proto: bool, *, allow_loopback: bool, any_port: bool, until: float
    ) -> None:
        """Nothing is connected to yet.

        Args:
            allow_loopback: let addresses of this machine pass, at any port.
            any_port: let other ports than 80 and 443 pass.
            until: when all must be over, by `time.monotonic`.
        """
        super().__init__(is_https_proto, allow_loopback)
        self._any_port = any_port
        self._until = until

    def send(self, request: Any, *args: Any, timeout: Any = None, **options: Any) -> Any:
        """As any adapter's, but no step of it waits longer than there is time."""
        left = max(self._until - time.monotonic(), 0.001)
        steps = tuple(min(seconds, left) for seconds in timeout)
        return super().send(request, *args, timeout=steps, **options)

    def build_connection_pool_key_attributes(self, *args: Any, **options: Any) -> Any:
        """What to connect to: an address, resolved once, that was found to be public."""
        host, pool = self._resolved(*args, **options)
        address = ip_address(host["host"].strip("[]"))
        if self._allow_loopback and address.is_loopback:
            return host, pool
        allowed = address.version == 4 or address in _PUBLIC
        if not allowed or _is_own(address):
            raise InvalidIPAddress(address)
        port = host["port"] or (443 if self._is_https_proto else 80)
        if not self._any_port and port not in _PORTS:
            raise FetchError(f"port {port} is not fetched from, only 80 and 443")
        return host, pool

    def _resolved(self, *args: Any, **options: Any) -> Any:
        """The same from `requests-hardened`, which resolves the name: left when time is up."""
        if not _lookups.acquire(timeout=max(self._until - time.monotonic(), 0)):
            raise FetchError("too many names are being looked up", passing=True)
        asked: Future[Any] = in_background(
            super().build_connection_pool_key_attributes, *args, **options
        )
        asked.add_done_callback(lambda _: _lookups.release())
        try:
            return asked.result(timeout=max(self._until - time.monotonic(), 0))
        except TimeoutError:
            # A lookup's own timeout is one of a connection already.
            raise FetchError("its name was not found in time", passing=True) from None


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of this machine's: what is sent there comes from itself."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # for a datagram, that sends nothing
        except OSError:
            return False  # there is no way to it
        return ip_address(probe.getsockname()[0]) == address
