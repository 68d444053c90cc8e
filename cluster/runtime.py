"""Join a Ray cluster, or start Ray on this machine."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simdist.errors import ClusterError, Remedy, UsageError
from simdist.settings import Settings

if TYPE_CHECKING:
    from ray.job_config import JobConfig

CONNECT_SECONDS = 5.0
# A socket's name has at most 107 bytes, of which Ray's part and the private folder's take 80.
_MAX_TEMPORARY = 27
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")


@contextmanager
def ray_session(settings: Settings, *, cpus: int | None = None) -> Iterator[None]:
    """Have Ray at hand: the cluster at `settings.ray_address`, or one started on this machine.

    What was started here is stopped at the end, also on an error or Ctrl-C; until then other users
    of the machine can neither read its files nor talk to it. A Ray that this process is connected
    to already is used as it is, and left alone.

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
        with _private_folder() as folder, _own_token(folder):
            _start(None, cpus=cpus, folder=folder)
            try:
                yield
            finally:
                ray.shutdown()
        return
    _check_address(settings.ray_address)
    _start(settings.ray_address)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for what Ray writes: its own are open to all users of the machine, sockets too."""
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(parent)) > _MAX_TEMPORARY:
        parent = "/tmp"  # noqa: S108 (the folder below has a name of its own, and is private)
    # Ray's processes may write a little longer than it waits for them.
    with tempfile.TemporaryDirectory(prefix="sd-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _own_token(folder: Path) -> Iterator[None]:
    """Let the Ray that is started within ask for a token that only this user can read.

    Ray's own would lie in the home directory, readable for all who may enter that.
    """
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    before = {name: os.environ.pop(name, None) for name in _TOKEN_VARIABLES}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    _read_token_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_token_again()


def _read_token_again() -> None:
    """Let Ray forget what it knows of the token and its mode from the environment."""
    from ray import _raylet

    vars(_raylet)["Config"].initialize("")
    vars(_raylet)["AuthenticationTokenLoader"].instance().reset_cache()


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


def _start(address: str | None, *, cpus: int | None = None, folder: Path | None = None) -> None:
    import ray

    try:
        ray.init(
            # "local", not None: None would join any cluster that happens to run on this machine.
            address=address or "local",
            num_cpus=cpus,
            include_dashboard=None if address else False,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
            job_config=_job_of_installed_code(),
            # One below: Ray lets all users write to its folder.
            _temp_dir=folder and str(folder / "ray"),
        )
    # Anything: where versions differ or a start-up fails Ray raises ValueError, RuntimeError, and
    # on a machine that is too busy a bare Exception.
    except Exception as error:
        ray.shutdown()
        raise _failed_start(address, error) from error


def _job_of_installed_code() -> JobConfig:
    """A job whose workers import what is installed, and nothing of the working folder.

    Ray would let them look there first, and for the script that runs beside it: a `numpy.py` in a
    folder of photographs would run in each of them.
    """
    from ray.job_config import JobConfig

    class InstalledCode(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            """Ray's condition for leaving both folders out."""
            return True

    return InstalledCode()


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
