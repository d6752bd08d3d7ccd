"""The evaluate job: the held-out loss of the global adapter on this client's data."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from agent.errors import TaskFailed
from agent.train.base.adapter_files import load_adapter
from agent.train.data.tokens import PairRows
from agent.train.jobs.context import JobContext
from agent.train.kinds.evaluate import held_out_loss, held_out_preference
from agent.train.kinds.reference import completion_batch_size
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
    rows = context.data(job).held_out
    if len(rows) == 0:
        raise TaskFailed(FailureKind.DATA, f"no rows of {job.data.name} are held out for evaluation")
    context.warm.longest_row_tokens = int(rows.lengths.max())
    assert work.adapter is not None

    def on_evaluated(done: int) -> None:
        context.report(Progress(phase=Phase.EVALUATING, done=done, total=len(rows)))

    with context.base() as base:
        reference = context.reference(job, base, rows, np.arange(len(rows)))  # (n, 2), or None
        with base.adapter(job.lora, seed=0) as attached:
            load_adapter(attached, work.adapter)
            options: dict[str, Any] = {
                "micro_batch": work.micro_batch,
                "autocast_dtype": base.autocast_dtype,
                "report": on_evaluated,
            }
            if isinstance(rows, PairRows):
                assert reference is not None
                options["micro_batch"] = completion_batch_size(base, work.micro_batch)
                preference = held_out_preference(attached.model, rows, reference, beta=job.dpo.beta, **options)
                metrics = asdict(preference)
            else:
                loss, n_tokens = held_out_loss(attached.model, rows, **options)
                metrics = {"loss": loss, "n_tokens": n_tokens}
    if not math.isfinite(metrics["loss"]):
        raise TaskFailed(FailureKind.CRASH, f"the held-out loss of the global adapter is {metrics['loss']}")
    return EvaluateResult(n_rows=len(rows), **metrics)
