"""The pool of query workers, asked from a process that has joined their Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.service.config import APPLICATION
from simdist.errors import ClusterError, SimdistError
from simdist.search.question import Hit, Question
from simdist.settings import DEFAULT_RESULTS

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

    def search(
        self,
        *,
        image: bytes | None = None,
        uri: str | None = None,
        url: str | None = None,
        n: int = DEFAULT_RESULTS,
        recall: float | None = None,
        collection: str | None = None,
    ) -> list[Hit]:
        """The images most similar to one, as `simdist.Client.search`.

        Raises:
            UnknownImageError: no image of that URI is indexed.
            ClusterError: no worker answers.
            SimdistError: the question cannot be answered.
        """
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        question = Question(
            image=image, uri=uri, url=url, n=n, recall=recall, collection=collection
        )
        try:
            hits: list[Hit] = self._handle.search.remote(question).result(timeout_s=ANSWER_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, SimdistError):
                raise error.cause from error
            raise
        except (RayActorError, DeploymentUnavailableError, BackPressureError, TimeoutError) as lost:
            raise ClusterError("no query worker answers: try again soon") from lost
        return hits
