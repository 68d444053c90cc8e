"""Join a Ray cluster, or start Ray on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from simdist.errors import ClusterError, Remedy, UsageError
from simdist.settings import Settings

CONNECT_SECONDS = 5.0


@contextmanager
def ray_session(settings: Settings, *, cpus: int | None = None) -> Iterator[None]:
    """Have Ray at hand: the cluster at `settings.ray_address`, or one started on this machine.

    What was started here is stopped at the end, also on an error or Ctrl-C. A Ray that this
    process is connected to already is used as it is, and left alone.

    Args:
        cpus: logical CPUs of a Ray that is started here; by default those of the machine.

    Raises:
        UsageError: an address that can never work.
        ClusterError: the cluster cannot be reached, or Ray does not start.
    """
    _configure(joining=settings.ray_address is not None)
    import ray

    if ray.is_initialized():
        yield
        return
    if settings.ray_address is None:
        _start(None, cpus=cpus)
    else:
        _check_address(settings.ray_address)
        _start(settings.ray_address)
    try:
        yield
    finally:
        ray.shutdown()


def _configure(*, joining: bool) -> None:
    """Set Ray up before it is imported: what it says to developers goes to its log files only."""
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences an announcement of a change
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its remarks on workers that die, else on stdout
        "RAY_task_oom_retries": "3",  # without an end otherwise
    }
    if not joining:
        # Keeps all of its ports on the loopback interface. Ray means it for desktops, where a
        # cluster of one machine is all there is.
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if joining:
        # Half a minute until a cluster is given up, not a quarter of an hour.
        variables |= {"RAY_NUM_REDIS_GET_RETRIES": "3", "RAY_py_gcs_connect_timeout_s": "5"}
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _start(address: str | None, *, cpus: int | None = None) -> None:
    import ray

    try:
        ray.init(
            # "local", not None: None would join any cluster that happens to run on this machine.
            address=address or "local",
            num_cpus=cpus,
            include_dashboard=None if address else False,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    # Anything: where versions differ or a start-up fails Ray raises ValueError, RuntimeError, and
    # on a machine that is too busy a bare Exception.
    except Exception as error:
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
                "RAY_AUTH_TOKEN, or run on one of its nodes with the address 'auto'",
                remedy=Remedy.RAY_ADDRESS,
            )
        cause = cause.__cause__ or cause.__context__
    return ClusterError(
        f"cannot join the Ray cluster at {address}: {reason}; check the address or RAY_ADDRESS, or "
        "leave them out to let simdist start its own",
        remedy=Remedy.RAY_ADDRESS,
    )


def _check_address(address: str) -> None:
    """Fail at once where nothing listens; Ray itself would try for long, and log it all.

    Raises:
        UsageError, ClusterError: as `ray_session`.
    """
    if address == "local":
        return
    if address == "auto":
        # Where there is no cluster, the address of one that is gone may still be noted.
        nearest = _nearest_cluster()
    elif "://" in address:
        raise UsageError(
            f"{address} is not an address that simdist can join: run it on a node of the "
            "cluster, with the address 'auto' or the head node's HOST:PORT",
            remedy=Remedy.RAY_ADDRESS,
        )
    else:
        nearest = address
    host, _, port = nearest.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{address!r} is not a Ray address: give HOST:PORT or auto")
    try:
        answers = _answers(host.strip("[]"), int(port))
    except (OSError, OverflowError, UnicodeError) as error:
        raise _unreachable(address) from error
    if not answers:
        raise _unreachable(address)


def _nearest_cluster() -> str:
    """The address that Ray's own "auto" would join."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise _unreachable("auto") from error


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
    where = "on this machine" if address == "auto" else f"at {address}"
    return ClusterError(
        f"no Ray cluster answers {where}: start it, check the address or RAY_ADDRESS, or leave "
        "them out to let simdist start its own",
        remedy=Remedy.RAY_ADDRESS,
    )
