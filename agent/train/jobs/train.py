"""The train job: one client's training in one round, from the global adapter to a delta."""

import logging
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, as_tensor

from agent.errors import TaskFailed
from agent.orders.job import Done
from agent.orders.job_files import CHECKPOINT_FILE, CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE, RESIDUAL_FILE
from agent.orders.jobs import TrainJob
from agent.train import kinds
from agent.train.base.adapter_files import load_adapter, read_broadcast, read_client_state
from agent.train.base.model import Base
from agent.train.data.sampling import round_seed, sample_rows, sorted_in_steps
from agent.train.data.tokens import Samples
from agent.train.distributed.agreement import agreed, check_end_alike, check_start_alike
from agent.train.distributed.group import Group
from agent.train.distributed.numbers import told_size
from agent.train.jobs.context import JobContext, on_cpu, refused_if_diverged
from agent.train.jobs.rows_at_once import chosen
from agent.train.jobs.start import check_start
from agent.train.process import memory
from agent.train.process.machine import describe_machine
from agent.train.stack.base import Training
from agent.train.stack.training import TRAINER_FOLDER_PREFIX, make_examples, train_with
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.checkpoint import CheckpointCallback, training_identity
from agent.train.trainer.client_steps import ClientSteps, TrainingHistory
from agent.train.trainer.need import Choice
from shared import crash_points
from shared.adapters.feedback import outgoing
from shared.adapters.files import Array, check_finite, slot_name
from shared.algorithms import ClientHalf
from shared.digest import sha256_hex
from shared.metrics import LOSSES_OF_STEPS, TRAIN_LOSS_MEAN, Origin, Values
from shared.wire.tasks.leases import FailureKind, Phase, Progress
from shared.wire.tasks.results import TrainResult

log = logging.getLogger(__name__)


def train(context: JobContext, job: TrainJob) -> Done | None:
    """Train for the round's steps, resumed from a checkpoint if one exists, and write the update's files.

    Several processes may train together. In a rank above 0 it writes nothing and returns None. Raises TaskFailed.
    """
    work = context.work
    context.check_device()
    n_processes = told_size(job.training.batch_size, work.compute.processes)
    context.warm.ranks.start(n_processes)  # they import their libraries meanwhile
    check_start(work, job)
    samples = context.data(job).train
    batch_size = job.training.batch_size
    draw = {"seed": job.training.seed, "round_number": job.round, "client_number": job.client_number}
    drawn = sample_rows(len(samples), job.steps * batch_size, **draw)  # (steps · batch_size,)
    context.warm.longest_row_tokens = int(samples.lengths[drawn].max())
    seed = round_seed(**draw)
    assert context.client is not None
    assert work.adapter is not None
    client_half, params = context.client.half, context.client.read_params(job.algorithm_params)
    indices, reference, choice = _prepared(context, job, samples, drawn, n_processes)
    with (
        context.group(n_processes) as group,
        context.base() as base,
        base.adapter(job.lora.at_rank(job.rank), seed=seed) as attached,
        tempfile.TemporaryDirectory(dir=work.folder, prefix=TRAINER_FOLDER_PREFIX) as folder,
    ):
        load_adapter(attached, work.adapter, rank=job.lora.rank)
        start = attached.tensors()
        broadcast = read_broadcast(work.broadcast, context.client, params, attached, rank=job.lora.rank)
        client_state = read_client_state(work.client_state, client_half.state, attached) if client_half.state else {}
        state_file = work.client_state if client_state else None
        checkpoints = _checkpoints(context, job, samples, state_file, base, group)
        steps_done = checkpoints.steps_done if checkpoints is not None else 0
        identity = checkpoints.identity if checkpoints is not None else ""
        beginning = [identity, sha256_hex(indices.tobytes()), str(steps_done), str(work.compute.checkpoint_every)]
        check_start_alike(group, beginning, start)
        choice = agreed(group, choice)
        context.warm.micro_batch = choice.micro_batch
        context.warm.recomputed |= choice.recomputes
        log.info("%s", choice)
        if steps_done:
            log.info("resuming after step %d of %d", steps_done, job.steps)
        client = client_half(params, broadcast, client_state)
        trained = attached.trained_parameters
        steps = ClientSteps(client, trained, lambda history: _report_step(context, history, job.steps))
        training = Training(
            kind=context.kind.name,
            kind_training=context.training,
            language_model=base.language_model,
            attached=attached,
            examples=make_examples(context.training, context.kind.name, samples, indices, reference),
            tokenizer=context.files.tokenizer,
            settings=_settings(job, base, seed, folder, choice, n_processes),
            client_steps=steps,
            checkpoints=checkpoints,
            group=group,
        )
        context.report(Progress(phase=Phase.TRAINING, done=steps_done, total=job.steps))
        train_with(context.stack, training)
        _check_steps(steps.history)
        slots = steps.slots()
        extras = _flatten_slots(slots, client_half.extras)
        new_client_state = _flatten_slots(slots, client_half.state)
        end = attached.tensors()
        check_end_alike(group, {name: end[name] - start[name] for name in trained})
        peak_bytes = max(map(int, group.gathered(str(memory.peak_bytes()).encode())))
        if group.rank > 0:
            return None
        trained_on = describe_machine(base.device, base.dtype, n_processes, context.stack.identity)
        delta = _finished(client, {name: end[name] - start[name] for name in trained}, job.algorithm)
    with refused_if_diverged():
        for name, values in new_client_state.items():
            check_finite(name, values)
        sent = outgoing(delta, extras, job.wire, work.residual)
    for file, tensors in ((CLIENT_STATE_FILE, new_client_state), (RESIDUAL_FILE, sent.residual)):
        if tensors:
            context.write(file, tensors)
    result = TrainResult(
        delta=context.write(DELTA_FILE, sent.delta),
        extras=context.write(EXTRAS_FILE, sent.extras) if sent.extras else None,
        client_state_lost=bool(client_half.state) and job.committed_update is not None and not client_state,
        trained_on=trained_on,
        metrics=_metrics(steps.history, peak_bytes),
    )
    crash_points.reach("child: delta written")
    return Done(result=result, n_distinct=samples.n_distinct(indices))


def _prepared(
    context: JobContext, job: TrainJob, samples: Samples, drawn: NDArray[np.int64], n_processes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, Choice]:
    """The rows in the order in which the base takes them, (k,), their reference, (k, completions), or None, and how
    they go through the base.

    The base is measured if it is new here. drawn: the round's k rows.
    """
    with context.suitable_base(job, samples) as (base, verdict):
        indices = drawn
        if verdict.padded_because is not None:
            indices = sorted_in_steps(drawn, samples.lengths, job.training.batch_size)
        reference = context.reference(job, base, samples, indices)
        size = job.training.batch_size
        return (
            indices,
            reference,
            chosen(context, base, verdict, samples, indices, batch_size=size, n_ranks=n_processes),
        )


def _checkpoints(
    context: JobContext, job: TrainJob, samples: Samples, state_file: Path | None, base: Base, group: Group
) -> CheckpointCallback | None:
    """The checkpoints of a training; None if its trainer takes up none."""
    every, stack = context.work.compute.checkpoint_every, context.stack
    if not stack.resumes:
        if 0 < every < job.steps:
            log.warning("the trainer %s keeps no checkpoints: an interrupted training starts over", stack.identity)
        return None
    identity = training_identity(job, samples.sha256, state_file, base.device, base.dtype, stack.identity)
    return CheckpointCallback(context.work.folder / CHECKPOINT_FILE, identity, every=every, group=group)


def _settings(job: TrainJob, base: Base, seed: int, folder: str, choice: Choice, n_processes: int) -> TrainerSettings:
    return TrainerSettings(
        folder=folder,
        training=job.training,
        learning_rate=job.learning_rate,
        micro_batch=choice.micro_batch,
        recomputes=choice.recomputes,
        seed=seed,
        autocast_dtype=base.autocast_dtype,
        n_processes=n_processes,
    )


def _check_steps(history: TrainingHistory) -> None:
    """Raise TaskFailed (crash) if no step changed the weights: float16 skips a step whose gradients overflow."""
    if history.steps == 0:
        message = (
            f"float16 skipped all {history.done} steps, as their gradients overflowed: set compute.dtype in agent.toml "
            "to bfloat16 or float32, or give the campaign more steps a round"
        )
        raise TaskFailed(FailureKind.CRASH, message)


def _report_step(context: JobContext, history: TrainingHistory, steps: int) -> None:
    step = {name: values[-1] for name, values in history.metrics.items()}
    kinds.check_measured(context.kind, Origin.TRAINING, step)
    context.report(
        Progress(
            phase=Phase.TRAINING,
            done=history.done,
            total=steps,
            loss=history.losses[-1],
            tokens_per_s=history.tokens_per_s,
            metrics=step,
        )
    )
    crash_points.reach("child: step")


def _finished(client: ClientHalf[Any], delta: Mapping[str, Tensor], algorithm: str) -> dict[str, Array]:
    """The update as the client half leaves it, as float32. Raises TaskFailed (algorithm) if names or shapes changed."""
    finished = on_cpu({name: as_tensor(each) for name, each in client.finish_update(delta).items()})
    if {name: tuple(each.shape) for name, each in finished.items()} != {k: tuple(v.shape) for k, v in delta.items()}:
        message = f"finish_update of the algorithm {algorithm} returned other names or shapes than the update's"
        raise TaskFailed(FailureKind.ALGORITHM, message)
    return finished


def _flatten_slots(tensors: Mapping[str, Mapping[str, Tensor]], slots: Iterable[str]) -> dict[str, Array]:
    """The tensors of *slots* by their names in files, as float32."""
    return on_cpu({slot_name(slot, name): tensor for slot in slots for name, tensor in tensors[slot].items()})


def _metrics(history: TrainingHistory, peak_bytes: int) -> Values:
    """All metrics of a training. peak_bytes: of the rank that took most memory."""
    metrics: Values = {
        "steps": history.steps,
        "tokens": history.tokens,
        "seconds": history.seconds,
        "tokens_per_s": history.tokens_per_s,
        "peak_memory_bytes": peak_bytes,
    }
    losses = history.losses
    if not losses:
        return metrics
    metrics |= dict(zip(LOSSES_OF_STEPS, (losses[0], losses[-1]), strict=True)) | {TRAIN_LOSS_MEAN: _mean(losses)}
    return metrics | {name: _mean(values) for name, values in history.metrics.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
