"""Computes what Fedloom's own trainer makes of a job's rows, for a comparison with another trainer."""

from dataclasses import replace

from agent.orders.jobs import EvaluateJob, InitJob
from agent.orders.own_results import OwnResultsMade, OwnResultsRequest
from agent.train.jobs.context import JobContext
from agent.train.jobs.trainer_verdict import trial_of
from agent.train.order_context import OrderContext


def make_own_results(order: OwnResultsRequest, context: OrderContext) -> OwnResultsMade:
    """Compute the results, and write the file. Raises TaskFailed."""
    job = order.work.job
    assert not isinstance(job, InitJob)  # it has no rows
    work = JobContext(context.warm, order.work, context.report)
    data = work.data(job)
    samples = data.held_out if isinstance(job, EvaluateJob) else data.train
    with work.suitable_base(job, samples) as (base, verdict), trial_of(work, job, samples) as trial:
        results = trial.results(work.stack, base)
    order.out.parent.mkdir(parents=True, exist_ok=True)
    replace(results, notices=verdict.notices).save(order.out)
    return OwnResultsMade()
