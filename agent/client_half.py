"""The client half of a job's algorithm, as installed in this agent's environment.

A plain client half needs nothing installed: ``ClientHalf`` itself does what it does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent.errors import TaskFailed
from shared import algorithms
from shared.adapters import Contract
from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf
from shared.wire.jobs import Job, PrepareJob, TrainJob
from shared.wire.leases import FailureKind


@dataclass(frozen=True)
class InstalledClient:
    """A client half and what it works with.

    Args:
        half: the class.
        read_params: validates the campaign's parameters. Raises TaskFailed.
        server: the server half, which says what a broadcast holds; that of a plain client half sends none.
    """

    half: type[ClientHalf[Any]]
    read_params: Callable[[dict[str, Any]], AlgorithmParams]
    server: type[ServerHalf[Any]] = ServerHalf

    def broadcast_contract(self, params: AlgorithmParams, adapter: Contract) -> Contract:
        """The contract of a broadcast. adapter: the trained tensors at the campaign's rank. Raises AdapterError."""
        return self.server(params).slot_contract(self.server.broadcast, adapter)


def check_algorithm_installed(job: Job) -> None:
    """Raise TaskFailed (algorithm) if the job needs an algorithm that is not installed. Imports no plug-in."""
    if not isinstance(job, PrepareJob | TrainJob) or job.plain_client:
        return
    known = algorithms.names()
    if job.algorithm not in known:
        raise _missing(job.algorithm, known)


def load_client(job: PrepareJob | TrainJob) -> InstalledClient:
    """Load the job's client half. Raises TaskFailed (algorithm) if it is missing or cannot be imported."""
    if job.plain_client:
        return InstalledClient(ClientHalf, lambda _: AlgorithmParams())
    try:
        algorithm = algorithms.find(job.algorithm)
    except algorithms.UnknownAlgorithm as error:
        raise _missing(job.algorithm, error.known) from error
    except algorithms.BrokenAlgorithm as error:
        message = (
            f"the algorithm {job.algorithm} is installed at this agent but cannot be used: {error.reason}. Repair or "
            "upgrade the distribution that provides it in the agent's environment, then restart the agent"
        )
        raise TaskFailed(FailureKind.ALGORITHM, message) from error

    def read_params(params: dict[str, Any]) -> AlgorithmParams:
        try:
            return algorithm.params.model_validate(params)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            message = (
                f"the algorithm {job.algorithm} at this agent does not accept the campaign's parameters ({wrong}). "
                "Install the version that the coordinator has in the agent's environment, then restart the agent"
            )
            raise TaskFailed(FailureKind.ALGORITHM, message) from error

    return InstalledClient(algorithm.client, read_params, algorithm.server)


def _missing(name: str, known: list[str]) -> TaskFailed:
    message = (
        f"the algorithm {name} is not installed at this agent; installed are {', '.join(known)}. Install the "
        "distribution that provides it (pip install DISTRIBUTION) in the agent's environment, then restart the agent"
    )
    return TaskFailed(FailureKind.ALGORITHM, message)
