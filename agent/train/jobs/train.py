"""The train job: one client's training in one round, from the global adapter to a delta."""

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agent.errors import TaskFailed
from agent.orders.job import Done
from agent.orders.job_files import CHECKPOINT_FILE
from agent.orders.jobs import TrainJob
from agent.train import kinds
from agent.train.base.adapter_files import load_adapter, read_broadcast, read_client_state
from agent.train.base.model import Base
from agent.train.data.sampling import round_seed, sample_rows, sorted_in_steps
from agent.train.data.tokens import Samples
from agent.train.distributed.agreement import agreed, check_end_alike, check_start_alike
from agent.train.distributed.group import Group
from agent.train.distributed.numbers import told_size
from agent.train.jobs.context import JobContext
from agent.train.jobs.rows_at_once import chosen
from agent.train.jobs.start import check_start
from agent.train.jobs.update import Trained, finished, flattened, written
from agent.train.process import memory
from agent.train.process.machine import describe_machine
from agent.train.stack.base import Training
from agent.train.stack.training import TRAINER_FOLDER_PREFIX, make_examples, train_with
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.checkpoint import CheckpointCallback, training_identity
from agent.train.trainer.client_steps import ClientSteps, TrainingHistory
from agent.train.trainer.need import Choice
from shared import crash_points
from shared.digest import sha256_hex
from shared.metrics import LOSSES_OF_STEPS, TRAIN_LOSS_MEAN, Origin, Values
from shared.wire.tasks.leases import FailureKind, Phase, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rows:
    """What a round trains on.

    Attributes:
        samples: all rows of the client, n.
        indices: the round's rows in the order in which the base takes them, (k,).
        reference: of their completions, (k, completions), or None.
        choice: how they go through the base.
        seed: of what is drawn at random in the round.
    """

    samples: Samples
    indices: NDArray[np.int64]
    reference: NDArray[np.float64] | None
    choice: Choice
    seed: int


def train(context: JobContext, job: TrainJob) -> Done | None:
    """Train for the round's steps, resumed from a checkpoint if one exists, and write the update's files.

    Several processes may train together. In a rank above 0 it writes nothing and returns None. Raises TaskFailed.
    """
    context.check_device()
    n_processes = told_size(job.training.batch_size, context.work.compute.processes)
    context.warm.ranks.start(n_processes)  # they import their libraries meanwhile
    check_start(context.work, job)
    rows = _prepared(context, job, n_processes)
    trained = _trained(context, job, rows, n_processes)
    if trained is None:
        return None
    result = written(context, job, trained)
    crash_points.reach("child: delta written")
    return Done(result=result, n_distinct=rows.samples.n_distinct(rows.indices))


def _prepared(context: JobContext, job: TrainJob, n_processes: int) -> _Rows:
    """The round's rows. The base is measured if it is new here. Raises TaskFailed."""
    samples, size = context.data(job).train, job.training.batch_size
    draw = {"seed": job.training.seed, "round_number": job.round, "client_number": job.client_number}
    indices = sample_rows(len(samples), job.steps * size, **draw)  # (k,)
    context.warm.longest_row_tokens = int(samples.lengths[indices].max())
    with context.suitable_base(job, samples) as (base, verdict):
        if verdict.padded_because is not None:
            indices = sorted_in_steps(indices, samples.lengths, size)
        reference = context.reference(job, base, samples, indices)
        choice = chosen(context, base, verdict, samples, indices, batch_size=size, n_ranks=n_processes)
    return _Rows(samples, indices, reference, choice, round_seed(**draw))


def _trained(context: JobContext, job: TrainJob, rows: _Rows, n_processes: int) -> Trained | None:
    """Train on the rows. Returns None in a rank above 0. Raises TaskFailed."""
    work = context.work
    assert context.client is not None
    assert work.adapter is not None
    client_half, params = context.client.half, context.client.read_params(job.algorithm_params)
    with (
        context.group(n_processes) as group,
        context.base() as base,
        base.adapter(job.lora.at_rank(job.rank), seed=rows.seed) as attached,
        tempfile.TemporaryDirectory(dir=work.folder, prefix=TRAINER_FOLDER_PREFIX) as folder,
    ):
        load_adapter(attached, work.adapter, rank=job.lora.rank)
        start = attached.tensors()
        broadcast = read_broadcast(work.broadcast, context.client, params, attached, rank=job.lora.rank)
        client_state = read_client_state(work.client_state, client_half.state, attached) if client_half.state else {}
        state_file = work.client_state if client_state else None
        checkpoints = _checkpoints(context, job, rows.samples, state_file, base, group)
        choice = _begun_alike(context, job, group, rows, checkpoints, start)
        client = client_half(params, broadcast, client_state)
        trained = attached.trained_parameters
        steps = ClientSteps(client, trained, lambda history: _report_step(context, history, job.steps))
        training = Training(
            kind=context.kind.name,
            kind_training=context.training,
            language_model=base.language_model,
            attached=attached,
            examples=make_examples(context.training, context.kind.name, rows.samples, rows.indices, rows.reference),
            tokenizer=context.files.tokenizer,
            settings=_settings(job, base, rows.seed, folder, choice, n_processes),
            client_steps=steps,
            checkpoints=checkpoints,
            group=group,
        )
        context.report(Progress(phase=Phase.TRAINING, done=_steps_done(checkpoints), total=job.steps))
        train_with(context.stack, training)
        _check_steps(steps.history)
        slots = steps.slots()
        end = attached.tensors()
        delta = {name: end[name] - start[name] for name in trained}
        check_end_alike(group, delta)
        peak_bytes = max(map(int, group.gathered(str(memory.peak_bytes()).encode())))
        if group.rank > 0:
            return None
        return Trained(
            delta=finished(client, delta, job.algorithm),
            extras=flattened(slots, client_half.extras),
            client_state=flattened(slots, client_half.state),
            metrics=_metrics(steps.history, peak_bytes),
            trained_on=describe_machine(base.device, base.dtype, n_processes, context.stack.identity),
            had_state=bool(client_state) or not client_half.state,
        )


def _begun_alike(
    context: JobContext,
    job: TrainJob,
    group: Group,
    rows: _Rows,
    checkpoints: CheckpointCallback | None,
    start: Mapping[str, Tensor],
) -> Choice:
    """Check that all ranks begin the same training, and return the choice on which they agree. Raises TaskFailed."""
    identity, done = checkpoints.identity if checkpoints is not None else "", _steps_done(checkpoints)
    every = context.work.compute.checkpoint_every
    check_start_alike(group, [identity, sha256_hex(rows.indices.tobytes()), str(done), str(every)], start)
    choice = agreed(group, rows.choice)
    context.warm.micro_batch = choice.micro_batch
    context.warm.recomputed |= choice.recomputes
    log.info("%s", choice)
    if done:
        log.info("resuming after step %d of %d", done, job.steps)
    return choice


def _steps_done(checkpoints: CheckpointCallback | None) -> int:
    return checkpoints.steps_done if checkpoints is not None else 0


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
