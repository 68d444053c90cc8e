"""Connections to public addresses only."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address
from typing import Any

from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

# All public addresses of IPv6 are in it. Outside it, Python counts as public what is none: those
# of a site (fec0::/10), and IPv4 addresses in old notations (::127.0.0.1, ::ffff:0:127.0.0.1).
_PUBLIC = IPv6Network("2000::/3")


class PublicAdapter(IPFilterAdapter):  # type: ignore[misc]
    """`requests-hardened`'s filter, and no IPv6 address beside the public ones."""

    def build_connection_pool_key_attributes(self, *args: Any, **options: Any) -> Any:
        """What to connect to: an address, resolved once, that was found to be public."""
        host, pool = super().build_connection_pool_key_attributes(*args, **options)
        address = ip_address(host["host"].strip("[]"))
        allowed = address.version == 4 or address in _PUBLIC
        if not allowed and not (self._allow_loopback and address.is_loopback):
            raise InvalidIPAddress(address)
        return host, pool
