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
    _be_quiet()
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


def _be_quiet() -> None:
    """Keep what Ray says to its own developers off a user's terminal; its log files have it."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences an announcement of a change
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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        if address:
            raise ClusterError(
                f"cannot join the Ray cluster at {address} ({reason}): check the address, or "
                "leave it out to run on this machine"
            ) from error
        raise ClusterError(f"cannot start Ray on this machine: {reason}") from error


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
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: start it, check the address, or leave it out "
            "to run on this machine"
        ) from error
