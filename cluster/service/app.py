"""The Ray Serve application: query workers that speak HTTP, and the embedder behind them.

A query worker is the HTTP server itself, so a search by vector or URI makes no hop inside the
cluster, and a search by image one, to the embedder.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from cluster.runtime import ray_session
from cluster.service.config import (
    APPLICATION,
    ServiceConfig,
    Tokens,
    require_tokens,
)
from cluster.service.finder import FinderReplica
from cluster.service.parts import PartWorker
from cluster.service.ray_serve import haproxy_for_serve, keep_replica_private
from cluster.service.worker import QueryWorker
from simdist.errors import ClusterError, Remedy, UsageError
from simdist.settings import Settings

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle
    from starlette.types import ASGIApp

# Requests that a worker is to have at once before another is added.
_TARGET_REQUESTS = 4
_UPSCALE_SECONDS = 5.0
_DOWNSCALE_SECONDS = 60.0
# What the finder of duplicates may be asked at once; after so long without being asked it ends.
_FINDER_REQUESTS, _FINDER_IDLE_SECONDS = 256, 1800.0
# What else a worker may be asked at the same time: health, metrics, the page.
_SPARE_REQUESTS = 64
_HEALTH_SECONDS = 2.0
# Images that may wait for the embedder, in each worker.
_EMBED_QUEUE = 256
# One thread and no copies between the server and the application.
REPLICA_VARIABLES = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
# No line for each request: it took a third of what an empty one takes, and `/metrics` counts them.
REPLICA_LOGGING = {"log_level": "WARNING"}


class QueryService(QueryWorker):
    """A query worker as a replica of the Serve application."""

    def __init__(
        self,
        config: ServiceConfig,
        embedder: DeploymentHandle[Any],
        parts: Sequence[DeploymentHandle[Any]],
        finder: DeploymentHandle[Any],
    ) -> None:
        from ray import serve

        keep_replica_private()
        # A search that ends in its thread is answered at once, not when the loop's turn is over.
        sys.setswitchinterval(0.0005)
        context = serve.get_replica_context()
        self._own = context.deployment, context.app_name
        # By gRPC, which the handle as it was pickled does not do, whatever the variables say here:
        # else pixels go through the object store, and take 5.5 ms there and back, not 1.7.
        direct, *self._parts = (one.options(_by_reference=False) for one in (embedder, *parts))
        super().__init__(
            config, direct, self._parts, finder=finder, name=context.replica_id.unique_id
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from ray import serve

        from cluster.service.http.routes import build_app

        own = serve.get_deployment_handle(*self._own)
        return build_app(self, [own, *self._parts])

    async def collect_metrics(self) -> list[Metric]:
        """This worker's metrics."""
        return self.metrics.collect()


def application(config: ServiceConfig) -> Application:
    """The application, to be given to `serve.run`. Ray must be joined already."""
    import ray
    from ray import serve
    from ray.serve.config import AutoscalingConfig, BackpressureConfig

    from cluster.service.embedder import EmbedWorker

    gpu = config.gpu
    if gpu is None:
        gpu = ray.cluster_resources().get("GPU", 0) >= 1  # type: ignore[no-untyped-call]
    environment = {"env_vars": REPLICA_VARIABLES}
    embedder = serve.deployment(
        name="Embedder",
        ray_actor_options={
            "num_gpus": int(gpu),
            "num_cpus": config.cpus,
            "runtime_env": environment,
        },
        max_ongoing_requests=_EMBED_QUEUE,
        max_queued_requests=_EMBED_QUEUE,
        health_check_period_s=_HEALTH_SECONDS,
        logging_config=REPLICA_LOGGING,
    )(EmbedWorker)
    least, most = config.workers
    autoscaling = AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        target_ongoing_requests=_TARGET_REQUESTS,
        upscale_delay_s=_UPSCALE_SECONDS,
        downscale_delay_s=_DOWNSCALE_SECONDS,
    )
    searches = partial(
        serve.deployment,
        ray_actor_options={"num_cpus": config.cpus, "runtime_env": environment},
        max_queued_requests=_SPARE_REQUESTS,
        health_check_period_s=_HEALTH_SECONDS,
        autoscaling_config=autoscaling,
        logging_config=REPLICA_LOGGING,
    )
    # All that a worker of the service has at once may come to one of a part.
    each = config.queue * most
    parts = [
        searches(name=f"Part{part + 1}", max_ongoing_requests=each, max_queued_requests=each)(
            PartWorker
        ).bind(config, part)
        for part in range(config.parts if config.parts > 1 else 0)
    ]
    workers = searches(
        name="QueryWorker",
        max_ongoing_requests=config.queue + _SPARE_REQUESTS,
        backpressure_config=BackpressureConfig(retry_after_s=1),
    )(serve.ingress()(QueryService))
    finder = serve.deployment(
        name="DuplicateFinder",
        # It gives way to all else, so it takes no room from an ingest.
        ray_actor_options={"num_cpus": 0, "runtime_env": environment},
        max_ongoing_requests=_FINDER_REQUESTS,
        # Nobody has one who does not look for duplicates; what it keeps is found again.
        autoscaling_config=AutoscalingConfig(
            min_replicas=0,
            max_replicas=1,
            target_ongoing_requests=_FINDER_REQUESTS,
            downscale_delay_s=_FINDER_IDLE_SECONDS,
        ),
        logging_config=REPLICA_LOGGING,
    )(FinderReplica).bind(config.redis_url)
    embed = embedder.bind(config.model, config.weights)
    bound: Application = workers.bind(config, embed, parts, finder)
    return bound


def app(arguments: Mapping[str, Any]) -> Application:
    """The application for a Serve config file: `import_path: cluster.service:app`.

    Args:
        arguments: the file's `args`, see `ServiceConfig.of`; tokens come from the environment.
    """
    return application(ServiceConfig.of(dict(arguments)))


@dataclass(frozen=True)
class Address:
    """Where a service listens."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or _ip(self.host).is_loopback

    def __str__(self) -> str:
        ip = _ip("127.0.0.1" if self.host == "localhost" else self.host)
        if ip.is_unspecified:
            ip = _ip("127.0.0.1" if ip.version == 4 else "::1")
        return f"http://{f'[{ip}]' if ip.version == 6 else ip}:{self.port}"


def _ip(host: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError as error:
        raise UsageError(
            f"{host!r} is not an IP address: use 127.0.0.1 for this machine only, or "
            "0.0.0.0 for all"
        ) from error


def check_address(address: Address, *, tokens: Tokens) -> None:
    """Check that a service may listen at an address, before anything is started.

    Raises:
        UsageError: others can reach it, and there are no tokens; or it is none of this machine's.
        ClusterError: the port is taken.
    """
    if not address.loopback:
        require_tokens(tokens)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except PermissionError as error:
        raise UsageError(f"you may not listen at port {address.port}: choose another") from error
    except OSError as error:
        raise ClusterError(
            f"cannot listen at {address.host}, port {address.port}: {error.strerror}; choose "
            "another address or port",
            remedy=Remedy.HOST_AND_PORT,
        ) from error


def run(
    config: ServiceConfig,
    address: Address,
    *,
    settings: Settings,
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM; what was started here is stopped then.

    Raises:
        ClusterError: Ray cannot be had, the port is taken, or the application does not start.
    """
    stop = threading.Event()
    # Room for each worker and the embedder, however many there are.
    kinds = 1 + (config.parts if config.parts > 1 else 0)
    cpus = max(os.cpu_count() or 1, config.workers[1] * kinds + 1)
    with haproxy_for_serve(seconds=config.deadline), ray_session(settings, cpus=cpus):
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        try:
            serve.start(http_options={"host": address.host, "port": address.port})
            serve.run(application(config), name=APPLICATION, route_prefix="/")
        # RuntimeError: what Serve raises where a deployment does not start; RayError: where a part
        # of Serve itself dies meanwhile.
        except (RayServeException, RayError, RuntimeError) as error:
            raise ClusterError(f"the service does not start: {_reason(error)}") from error
        # Before it is said to be ready: whoever reads that may stop it at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        on_ready()
        stop.wait()
        if settings.ray_address is not None:
            # What has begun is answered first, which takes half a minute.
            serve.delete(APPLICATION)


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
