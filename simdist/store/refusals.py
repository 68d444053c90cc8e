"""What Redis and its client refuse, as errors that say what to do."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from simdist.errors import Remedy, StoreError
from simdist.settings import REDIS_PASSWORD_VARIABLE, REDIS_URL_VARIABLE
from simdist.store.damage import damaged

# What a script may not do is an error like any other; in the words of Redis 7.0, and of all later.
_FORBIDDEN_IN_SCRIPT = re.compile("The user executing the script can't|ACL failure in script")
# What scripts break off with (damage.lua).
_DAMAGED = re.compile(r"DAMAGED (\S+)")


def hide_password(url: str) -> str:
    """A URL fit to be printed: without its password, and without settings, which may hold one."""
    return re.sub(r"(://[^:@/]*:).*@", r"\1***@", url).partition("?")[0]


@contextmanager
def explained(url: str, *, cluster: bool) -> Iterator[None]:
    """Turn the errors of redis-py, while it talks to the server at a URL, into ours.

    Raises:
        StoreError: for whatever it raises.
    """
    address = hide_password(url)
    try:
        yield
    except AuthenticationError as error:
        raise StoreError(
            f"Redis at {address} refuses this user: give its name and password in the URL, "
            f"redis://USER:PASSWORD@HOST:PORT, or the password in {REDIS_PASSWORD_VARIABLE}"
        ) from error
    except BusyLoadingError as error:
        raise StoreError(f"Redis at {address} is still loading its data; try again soon") from error
    except MaxConnectionsError as error:
        raise StoreError(f"Redis at {address} takes no more connections") from error
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise _unreachable(address, error, cluster=cluster) from error
    except (RedisClusterException, ClusterError) as error:
        raise _unreachable(address, error, cluster=True) from error
    except (AskError, TryAgainError) as error:
        raise _moving(address) from error
    except ResponseError as error:
        found = _DAMAGED.match(str(error))
        raise (damaged(found[1]) if found else _refused(address, error)) from error
    except RedisError as error:
        raise StoreError(f"Redis at {address} failed: {error}") from error


def _refused(address: str, error: ResponseError) -> StoreError:
    said = str(error)
    if isinstance(error, NoPermissionError) or _FORBIDDEN_IN_SCRIPT.search(said):
        return _forbidden(address, error)
    if isinstance(error, OutOfMemoryError):
        return StoreError(
            f"Redis at {address} is out of memory: raise its maxmemory, then run the same "
            "command again"
        )
    if isinstance(error, ReadOnlyError):
        return StoreError(
            f"Redis at {address} is a replica, which takes no writes: give the primary's address"
        )
    if said.startswith("MISCONF"):
        return StoreError(
            f"Redis at {address} takes no writes, for it cannot write to its disk: make room there "
            "(its log says what is wrong), then run the same command again"
        )
    if "non local key in a cluster node" in said:
        return _moving(address)
    return StoreError(f"Redis at {address} refused a command: {said}")


def _unreachable(address: str, error: Exception, *, cluster: bool) -> StoreError:
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreError(
            f"Redis at {address} shows a certificate that is not trusted ({cause.verify_message}): "
            "name its authority's with ?ssl_ca_certs=FILE in the URL, and a host that it is for"
        )
    if address.startswith("rediss://") and isinstance(cause, ssl.SSLError | FileNotFoundError):
        return StoreError(
            f"cannot speak TLS with Redis at {address} ({cause}): correct the files that its URL "
            "names, or use redis://HOST:PORT where the server has no TLS"
        )
    if cluster:
        return StoreError(
            f"the Redis Cluster at {address} is not whole: CLUSTER NODES says which nodes are "
            "missing; start them, or wait for their replicas, then run the same command again"
        )
    message = f"cannot reach Redis at {address}{_about_tls(address, cause)}"
    if address.startswith("unix://"):
        return StoreError(
            f"{message}: if it was simdist's own and the disk is full, make room; then run the "
            "same command again (valkey.log in the data folder says why it ended)"
        )
    return StoreError(
        f"{message}: start it, then run the same command again, or correct its URL or "
        f"{REDIS_URL_VARIABLE}; without one simdist starts a server of its own",
        remedy=Remedy.REDIS,
    )


def _about_tls(address: str, cause: OSError | None) -> str:
    """What a connection says to which only one side brought TLS."""
    if address.startswith("redis://") and isinstance(cause, ConnectionResetError | None):
        return " (it cuts the connection; if it wants TLS, use rediss://)"
    if address.startswith("rediss://") and "handshake" in str(cause):
        return " (it does not answer in TLS; if it has none, use redis://)"
    return ""


def _cause(error: BaseException | None) -> OSError | None:
    """The system's error behind one of redis-py's."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _moving(address: str) -> StoreError:
    return StoreError(
        f"the Redis Cluster at {address} is moving a part of the collection to another node: run "
        "the same command again when that is done"
    )


def _forbidden(address: str, error: Exception) -> StoreError:
    return StoreError(
        f"Redis at {address} does not let this user do that ({error}): use one that may, or give "
        "it the rules of deploy/redis/users.acl"
    )


def missing_script(url: str, name: str) -> StoreError:
    """What is wrong where a user may run scripts that are there, but not bring one."""
    return StoreError(
        f"Redis at {hide_password(url)} does not let this user do that: it has forgotten simdist's "
        f"script {name!r}, as a server does when it starts, and this user may not bring it; "
        "whoever may write brings the scripts of searches by asking for the collections' figures",
        remedy=Remedy.STATUS,
    )
