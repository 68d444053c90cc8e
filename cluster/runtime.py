"""Join a Ray cluster, or start Ray on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from simdist.errors import ClusterError, UsageError
from simdist.settings import Settings

CONNECT_SECONDS = 5.0


@contextmanager
def ray_session(settings: Settings) -> Iterator[None]:
    """Have Ray at hand: the cluster at `settings.ray_address`, or one started on this machine.

    What was started here is stopped at the end, also on an error or Ctrl-C. A Ray that this
    process is connected to already is used as it is, and left alone.

    Raises:
        UsageError: an address that can never work.
        ClusterError: the cluster cannot be reached, or Ray does not start.
    """
    _configure()
    import ray

    if ray.is_initialized():
        yield
        return
    if settings.ray_address is None:
        _start(None)
    else:
        _check_address(settings.ray_address)
        _start(settings.ray_address)
    try:
        yield
    finally:
        ray.shutdown()


def _configure() -> None:
    """Set Ray up before it is imported: what it says to developers goes to its log files only."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences an announcement of a change
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its remarks on workers that die, else on stdout
        "RAY_task_oom_retries": "3",  # without an end otherwise
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _start(address: str | None) -> None:
    import ray

    try:
        ray.init(
            # "local", not None: None would join any cluster that happens to run on this machine.
            address=address or "local",
            include_dashboard=None if address else False,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    # ValueError, RuntimeError: Ray raises them where versions differ or a start-up fails.
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        ray.shutdown()
        raise _failed_start(address, error) from error


def _failed_start(address: str | None, error: Exception) -> ClusterError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if address is None:
        return ClusterError(f"cannot start Ray on this machine: {reason}")
    cause: BaseException | None = error
    while cause is not None:
        # By name: Ray quotes it in the message of an error of another type.
        if "AuthenticationError" in str(cause):
            return ClusterError(
                f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN, or run on one of its nodes with --ray-address auto"
            )
        cause = cause.__cause__ or cause.__context__
    return ClusterError(
        f"cannot join the Ray cluster at {address}: {reason}; check the address, or leave it out "
        "to run on this machine"
    )


def _check_address(address: str) -> None:
    """Fail at once where nothing listens: Ray itself would try for a minute, then abort."""
    if address in ("auto", "local"):
        return
    if "://" in address:
        raise UsageError(
            f"{address} is not an address that simdist can join: run it on a node of the "
            "cluster, with --ray-address auto or the head node's HOST:PORT"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{address!r} is not a Ray address: give HOST:PORT or auto")
    try:
        answers = _answers(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise _unreachable(address) from error
    if not answers:
        raise _unreachable(address)


def _answers(host: str, port: int) -> bool:
    """Whether what listens there speaks gRPC, as the head of a Ray cluster does.

    An HTTP/2 server sends its settings in answer to the client's: a frame of type 4.
    """
    empty_settings = b"\0\0\0\4\0\0\0\0\0"
    with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return True
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
        return connection.recv(9)[3:4] == b"\4"


def _unreachable(address: str) -> ClusterError:
    return ClusterError(
        f"no Ray cluster answers at {address}: start it, check the address, or leave it out "
        "to run on this machine"
    )
