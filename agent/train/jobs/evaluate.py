"""The evaluate job: the held-out metrics of the global adapter on this client's data."""

import numpy as np
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.orders.job import Done
from agent.orders.jobs import EvaluateJob
from agent.train import kinds
from agent.train.base.adapter_files import load_adapter
from agent.train.base.attached import AttachedAdapter
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.jobs.context import JobContext
from agent.train.jobs.start import check_start
from agent.train.trainer.reference import rows_scored_together
from agent.train.trainer.scoring import Scoring
from shared.metrics import HELD_OUT_COUNTS, Origin, Weight
from shared.wire.tasks.leases import FailureKind, Phase, Progress
from shared.wire.tasks.results import EvaluateResult


def evaluated(
    context: JobContext,
    base: Base,
    attached: AttachedAdapter,
    samples: Samples,
    reference: NDArray[np.float64] | None,
) -> dict[str, float]:
    """The kind's metrics of the attached adapter on held-out rows, as every evaluation computes them.

    Args:
        context: of the job.
        base: the base model.
        attached: an adapter on it.
        samples: n held-out rows.
        reference: the reference's log-probabilities of their completions, (n, completions), or None.
    """

    def on_scored(n_completions: int) -> None:
        done = n_completions // samples.n_completions
        context.report(Progress(phase=Phase.EVALUATING, done=done, total=len(samples)))

    on_scored(0)
    training, n_rows = context.training, context.work.micro_batch
    if training.needs_reference:
        n_rows = rows_scored_together(base, n_rows)
    together = samples.n_completions
    scoring = Scoring(n_rows * together, base.autocast_dtype, on_scored, context.stack.evaluate, together)
    return training.evaluate(attached.model, samples, reference, scoring)


def evaluate(context: JobContext, job: EvaluateJob) -> Done:
    """Evaluate the global adapter on all held-out rows.

    Raises TaskFailed: contract-mismatch if adapter 0 is not the campaign's, data without held-out rows, crash if the
    loss is not finite.
    """
    work = context.work
    check_start(work, job)
    samples = context.data(job).held_out
    if len(samples) == 0:
        raise TaskFailed(FailureKind.DATA, f"no rows of {job.data.name} are held out for evaluation")
    context.warm.longest_row_tokens = int(samples.lengths.max())
    assert work.adapter is not None
    with context.suitable_base(job, samples) as (base, _):
        reference = context.reference(job, base, samples, np.arange(len(samples)))  # (n, completions), or None
        with base.adapter(job.lora, seed=0) as attached:
            load_adapter(attached, work.adapter)
            metrics = evaluated(context, base, attached, samples, reference)
    counts = {Weight.ROWS: len(samples), Weight.TOKENS: int(samples.completions.n_supervised.sum())}
    measured = metrics | {HELD_OUT_COUNTS[weight]: n for weight, n in counts.items()}
    kinds.check_measured(context.kind, Origin.EVALUATION, measured)
    return Done(result=EvaluateResult(metrics=measured), n_distinct=samples.n_distinct())
