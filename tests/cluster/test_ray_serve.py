"""What Ray Serve is told before it starts."""

from __future__ import annotations

import os
import socket
from unittest import mock

import pytest
from ray.serve._private.http_util import set_socket_reuse_port

from cluster.service.ray_serve import haproxy_for_serve


def test_the_port_of_its_proxy_is_nobody_elses() -> None:
    """It is chosen before Ray starts, whose servers ask for ports until the proxy listens."""
    with mock.patch.dict(os.environ), haproxy_for_serve(seconds=1):
        address = ("127.0.0.1", int(os.environ["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]))
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(address)
        for _ in range(2):  # the proxy, and the one that is started when it has died
            with socket.socket() as proxy:
                set_socket_reuse_port(proxy)
                proxy.bind(address)
                proxy.listen()
                for _ in range(20):
                    with socket.create_connection(address), proxy.accept()[0]:
                        pass
