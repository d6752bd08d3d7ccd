"""The plug-ins that a job needs, as installed in this agent's environment: its kind of training, its client half.

A plain client half needs nothing installed: ``ClientHalf`` itself does what it does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent.errors import TaskFailed
from agent.orders.jobs import Job, PrepareJob, TrainJob
from shared import algorithms, kinds
from shared.adapters.files import Contract
from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf
from shared.kinds import Kind, KindSection
from shared.plugins import BrokenPlugin, UnknownPlugin
from shared.wire.tasks.leases import FailureKind


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


_PLAIN = InstalledClient(ClientHalf, lambda _: AlgorithmParams())
"""Plain local training, whatever the algorithm's parameters are."""


def check_installed(job: Job) -> None:
    """Raise TaskFailed (training-kind, algorithm) if the job needs a plug-in that is not installed. Imports none."""
    if job.training_kind not in kinds.names():
        raise _missing(FailureKind.TRAINING_KIND, "kind of training", job.training_kind, kinds.names())
    if isinstance(job, PrepareJob | TrainJob) and not job.plain_client and job.algorithm not in algorithms.names():
        raise _missing(FailureKind.ALGORITHM, "algorithm", job.algorithm, algorithms.names())


def load_kind(name: str) -> Kind:
    """Load the shared half of a kind of training. Raises TaskFailed (training-kind) if it cannot be used."""
    try:
        return kinds.find(name)
    except UnknownPlugin as error:
        raise _missing(FailureKind.TRAINING_KIND, "kind of training", name, error.known) from error
    except BrokenPlugin as error:
        raise _broken(FailureKind.TRAINING_KIND, "kind of training", error) from error


def read_kind_params(kind: Kind, params: Mapping[str, Any]) -> KindSection:
    """Validate a campaign's parameters of its kind. Raises TaskFailed (training-kind)."""
    try:
        return kind.read_section(params)
    except ValidationError as error:
        raise _unfit(FailureKind.TRAINING_KIND, f"kind of training {kind.name}", error) from error


def load_client(job: PrepareJob | TrainJob) -> InstalledClient:
    """Load the job's client half.

    Raises TaskFailed: algorithm if it is missing or cannot be imported, contract-mismatch if the coordinator calls
    plain what has a client half of its own here. An owner may rely on that half, which may clip an update.
    """
    if job.plain_client and job.algorithm not in algorithms.names():
        return _PLAIN
    try:
        algorithm = algorithms.find(job.algorithm)
    except UnknownPlugin as error:
        raise _missing(FailureKind.ALGORITHM, "algorithm", job.algorithm, error.known) from error
    except BrokenPlugin as error:
        raise _broken(FailureKind.ALGORITHM, "algorithm", error) from error
    if job.plain_client:
        if not algorithm.has_plain_client:
            message = f"plain_client: the algorithm {job.algorithm} has a client half of its own at this agent"
            raise TaskFailed(FailureKind.CONTRACT_MISMATCH, message)
        return _PLAIN

    def read_params(params: dict[str, Any]) -> AlgorithmParams:
        try:
            return algorithm.params.model_validate(params)
        except ValidationError as error:
            raise _unfit(FailureKind.ALGORITHM, f"algorithm {job.algorithm}", error) from error

    return InstalledClient(algorithm.client, read_params, algorithm.server)


def _missing(kind: FailureKind, what: str, name: str, known: list[str]) -> TaskFailed:
    message = (
        f"the {what} {name} is not installed at this agent; installed are {', '.join(known)}. Install the "
        "distribution that provides it (pip install DISTRIBUTION) in the agent's environment, then restart the agent"
    )
    return TaskFailed(kind, message)


def _broken(kind: FailureKind, what: str, error: BrokenPlugin) -> TaskFailed:
    message = (
        f"the {what} {error.name} is installed at this agent but cannot be used: {error.reason}. Repair or "
        "upgrade the distribution that provides it in the agent's environment, then restart the agent"
    )
    return TaskFailed(kind, message)


def _unfit(kind: FailureKind, what: str, error: ValidationError) -> TaskFailed:
    wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    message = (
        f"the {what} at this agent does not accept the campaign's parameters ({wrong}). "
        "Install the version that the coordinator has in the agent's environment, then restart the agent"
    )
    return TaskFailed(kind, message)
