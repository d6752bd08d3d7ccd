"""The evaluate job: the held-out metrics of the global adapter on this client's data."""

import numpy as np

from agent.errors import TaskFailed
from agent.train import kinds
from agent.train.base.adapter_files import load_adapter
from agent.train.jobs.context import JobContext
from agent.train.kinds.base import Scoring
from agent.train.trainer.reference import completion_batch_size
from shared.metrics import HELD_OUT_COUNTS, Origin, Weight
from shared.wire.jobs import EvaluateJob, EvaluateResult
from shared.wire.leases import FailureKind, Phase, Progress


def evaluate(context: JobContext, job: EvaluateJob) -> EvaluateResult:
    """Evaluate the global adapter on all held-out rows.

    Raises TaskFailed: refused-by-policy if losses must not leave, data without held-out rows, crash if the loss is not
    finite.
    """
    work = context.work
    if not work.report_losses:
        raise TaskFailed(FailureKind.REFUSED_BY_POLICY, "this agent reports no losses (policy.report_losses)")
    samples = context.data(job).held_out
    if len(samples) == 0:
        raise TaskFailed(FailureKind.DATA, f"no rows of {job.data.name} are held out for evaluation")
    context.warm.longest_row_tokens = int(samples.lengths.max())
    assert work.adapter is not None
    training = context.training

    def on_scored(n_completions: int) -> None:
        done = n_completions // samples.n_completions
        context.report(Progress(phase=Phase.EVALUATING, done=done, total=len(samples)))

    with context.suitable_base(job, samples) as (base, _):
        reference = context.reference(job, base, samples, np.arange(len(samples)))  # (n, completions), or None
        with base.adapter(job.lora, seed=0) as attached:
            load_adapter(attached, work.adapter)
            together = completion_batch_size(base, work.micro_batch) if training.needs_reference else work.micro_batch
            scoring = Scoring(together, base.autocast_dtype, on_scored)
            metrics = training.evaluate(attached.model, samples, reference, scoring)
    counts = {Weight.ROWS: len(samples), Weight.TOKENS: int(samples.completions.n_supervised.sum())}
    measured = metrics | {HELD_OUT_COUNTS[weight]: n for weight, n in counts.items()}
    kinds.check_measured(context.kind, Origin.EVALUATION, measured)
    return EvaluateResult(metrics=measured)
