"""How many rows go through the base at once in a training, by what they need and the memory that is free."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.process import memory
from agent.train.suitability.verdicts import Verdict
from agent.train.trainer.need import Choice, Need, choose
from agent.train.trainer.recomputing import can_recompute
from shared.wire.tasks.leases import FailureKind

if TYPE_CHECKING:
    from agent.train.jobs.context import JobContext


def chosen(
    context: "JobContext",
    base: Base,
    verdict: Verdict,
    samples: Samples,
    indices: NDArray[np.int64],
    *,
    batch_size: int,
    n_ranks: int = 1,
) -> Choice:
    """How the rows at *indices* go through the base, and tell ``context.warm``.

    Args:
        context: of the job.
        base: the loaded base model.
        verdict: what was measured of it.
        samples: all rows.
        indices: those of the training, in its order, (k,).
        batch_size: rows of a step.
        n_ranks: how many processes divide them.
    """
    work, warm, model = context.work, context.warm, base.language_model
    on_cpu, free = base.device.type == "cpu", memory.free_bytes(base.device)
    if on_cpu and free is not None:
        free //= n_ranks  # they share it
    completions = samples.completions_of(indices)  # (k, completions)
    choice = choose(
        Need.of(model, verdict.bytes_per_token),
        samples.completions.lengths[completions].sum(axis=1),
        samples.completions.n_supervised[completions].sum(axis=1),
        batch_size=batch_size // n_ranks,
        padded=verdict.padded_because is not None,
        most=work.micro_batch,
        free=free,
        on_cpu=on_cpu,
        recomputes=work.recompute,
        can_recompute=can_recompute(model),
    )
    warm.micro_batch, warm.recomputed = choice.micro_batch, choice.recomputes or not can_recompute(model)
    return choice


def check_longest_row(context: "JobContext", base: Base, verdict: Verdict, samples: Samples) -> None:
    """Raise TaskFailed (out-of-memory) if training on the longest row alone needs more memory than is free.

    The text for the coordinator has no numbers: they tell the length of a row.
    """
    lengths = samples.completions.lengths.reshape(-1, samples.n_completions).sum(axis=1)  # (n,)
    longest = chosen(context, base, verdict, samples, np.array([lengths.argmax()]), batch_size=1)
    if longest.fits:
        return
    message = "training on the longest row needs more memory than is free here"
    remedy = "lower max_length, use a smaller base model, or free memory and prepare again"
    private = f"{message}: about {longest.bytes / 1e9:.2f} GB beside the base model; {remedy}"
    raise TaskFailed(FailureKind.OUT_OF_MEMORY, f"{message}: {remedy}", private)
