"""The update that a training gave: checked, rounded as it travels, written into the task's folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, as_tensor

from agent.errors import TaskFailed
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE, RESIDUAL_FILE
from agent.orders.jobs import TrainJob
from agent.train.jobs.context import JobContext, on_cpu, refused_if_diverged
from shared.adapters.feedback import outgoing
from shared.adapters.files import Array, check_finite, slot_name
from shared.algorithms import ClientHalf
from shared.metrics import Values
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import TrainResult


@dataclass(frozen=True)
class Trained:
    """What a training gave, in rank 0: the update, the tensors that go with it, its course, and what it ran on.

    had_state: whether the client state that belongs to the last counted update was there, or the algorithm has none.
    """

    delta: dict[str, Array]
    extras: dict[str, Array]
    client_state: dict[str, Array]
    metrics: Values
    trained_on: str
    had_state: bool


def written(context: JobContext, job: TrainJob, trained: Trained) -> TrainResult:
    """Write the files of an update, and return its result. Raises TaskFailed (crash) if it is not finite."""
    with refused_if_diverged():
        for name, values in trained.client_state.items():
            check_finite(name, values)
        sent = outgoing(trained.delta, trained.extras, job.wire, context.work.residual)
    for file, tensors in ((CLIENT_STATE_FILE, trained.client_state), (RESIDUAL_FILE, sent.residual)):
        if tensors:
            context.write(file, tensors)
    return TrainResult(
        delta=context.write(DELTA_FILE, sent.delta),
        extras=context.write(EXTRAS_FILE, sent.extras) if sent.extras else None,
        client_state_lost=job.committed_update is not None and not trained.had_state,
        trained_on=trained.trained_on,
        metrics=trained.metrics,
    )


def finished(client: ClientHalf[Any], delta: Mapping[str, Tensor], algorithm: str) -> dict[str, Array]:
    """The update as the client half leaves it, as float32. Raises TaskFailed (algorithm) if names or shapes changed."""
    finished = on_cpu({name: as_tensor(each) for name, each in client.finish_update(delta).items()})
    if {name: tuple(each.shape) for name, each in finished.items()} != {k: tuple(v.shape) for k, v in delta.items()}:
        message = f"finish_update of the algorithm {algorithm} returned other names or shapes than the update's"
        raise TaskFailed(FailureKind.ALGORITHM, message)
    return finished


def flattened(tensors: Mapping[str, Mapping[str, Tensor]], slots: Iterable[str]) -> dict[str, Array]:
    """The tensors of *slots* by their names in files, as float32."""
    return on_cpu({slot_name(slot, name): tensor for slot in slots for name, tensor in tensors[slot].items()})
