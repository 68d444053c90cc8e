"""The pool of query workers, asked from a process that has joined their Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.service.config import APPLICATION
from simdist.errors import ClusterError, SimdistError
from simdist.search.pages import Hits
from simdist.search.question import Question

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

ANSWER_SECONDS = 60.0


class Pool:
    """Searches through the query workers of a service, without HTTP; Ray must be joined already."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    @classmethod
    def find(cls) -> Pool | None:
        """The pool that runs on this Ray cluster, or None."""
        from ray import serve
        from ray.serve.exceptions import RayServeException

        try:
            return cls(serve.get_app_handle(APPLICATION))
        except RayServeException:  # Serve does not run there, or serves something else
            return None

    def ask(self, question: Question) -> Hits:
        """The images most similar to what a question asks by, the best first.

        Raises:
            UnknownImageError: no image of that URI or id is indexed.
            ClusterError: no worker answers.
            SimdistError: the question cannot be answered.
        """
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        try:
            hits: Hits = self._handle.ask.remote(question).result(timeout_s=ANSWER_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, SimdistError):
                raise error.cause from error
            raise
        except (RayActorError, DeploymentUnavailableError, BackPressureError, TimeoutError) as lost:
            raise ClusterError("no query worker answers: try again soon") from lost
        return hits
