"""What Ray Serve is told before it starts, and what it must not open."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes of a request that HAProxy keeps until it is answered, to send it to another worker if the
# first dies: a vector, or most pictures of the web.
_KEPT_REQUEST = 512 * 1024
_MAX_CONNECTIONS = 1024


@contextmanager
def haproxy_for_serve(*, seconds: float) -> Iterator[None]:
    """Have the Ray that is started within serve: with HAProxy, as `haproxy` starts it.

    Its files are private to this user, and its ports to this machine, but for the service's own.

    Args:
        seconds: how long a request may take to arrive.
    """
    from cluster.service import haproxy

    # A short name: sockets lie in it, below a folder of Ray's with a long one.
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as name, _kept_port() as port:
        folder = Path(name)
        os.environ |= {
            # Ray's workers would let everything else on the machine go first, and answer too late.
            "RAY_worker_niceness": "0",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            haproxy.PROGRAM_VARIABLE: str(haproxy.launcher(folder)),
            haproxy.SECONDS_VARIABLE: str(max(1, round(seconds))),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            # It would write a line for each request; the workers count themselves.
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": name,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port),
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
            "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(_KEPT_REQUEST),
            "RAY_SERVE_HAPROXY_MAXCONN": str(_MAX_CONNECTIONS),
            "RAY_SERVE_HAPROXY_NBTHREAD": "2",
            # Connections that outlive a change of workers, such as idle ones, end after this.
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        }
        yield


def keep_replica_private() -> None:
    """Keep a port of this Serve replica on the loopback interface, where all of its Ray is.

    Ray Serve lets replicas call each other by gRPC, at a port that is open on all interfaces,
    whatever else is set, and unpickles what whoever has Ray's token sends. To be called from a
    replica's constructor: the port is opened after it.
    """
    import ray
    from ray.serve._private import replica

    if ray.util.get_node_ip_address() != "127.0.0.1":  # type: ignore[no-untyped-call]
        return
    add_port: Callable[[object, str], int] = vars(replica)["add_port_to_grpc_server"]
    vars(replica)["add_port_to_grpc_server"] = lambda server, _: add_port(server, "127.0.0.1:0")


@contextmanager
def _kept_port() -> Iterator[int]:
    """A port of this machine that is given to nobody who asks for any, as Ray's own servers do.

    Ray Serve's proxy listens there minutes later, and again when it has died: like this socket, it
    shares its port with others of its user, and one that does not listen gets no connection.
    """
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])
