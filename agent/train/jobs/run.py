"""Runs a job; prepare and init are here, as they are short."""

from collections.abc import Sequence

from agent.orders.job import Done, LocalJob, RowDigests
from agent.orders.job_files import ADAPTER_FILE
from agent.orders.jobs import InitJob, PrepareJob, TrainJob
from agent.train.base.device import decide_cpu_dtype
from agent.train.jobs.context import JobContext
from agent.train.jobs.evaluate import evaluate
from agent.train.jobs.rows_at_once import check_longest_row
from agent.train.jobs.train import train
from agent.train.progress import Reporter
from agent.train.warm import WarmState
from shared.adapters.initial import write_initial
from shared.digest import sha256_file
from shared.system.durable import atomic_write
from shared.text.unsafe import one_line
from shared.wire.tasks.results import MAX_NOTICE, MAX_NOTICES, InitResult, PrepareResult


def run_job(warm: WarmState, work: LocalJob, report: Reporter) -> Done:
    """Do the job and write its files, except the result. Raises TaskFailed, and any unexpected error."""
    context = JobContext(warm, work, report)
    job = work.job
    if isinstance(job, PrepareJob):
        return _prepare(context, job)
    if isinstance(job, InitJob):
        return Done(result=_init(context, job))
    if isinstance(job, TrainJob):
        done = train(context, job)
        assert done is not None  # this is rank 0
        return done
    return evaluate(context, job)


def _prepare(context: JobContext, job: PrepareJob) -> Done:
    # an unsupported device fails before the data is read, and so does a precision that the owner does not want
    cpu_dtype = decide_cpu_dtype(context.work.compute, context.check_device(), job.base)
    data = context.data(job)
    context.warm.longest_row_tokens = int(data.train.lengths.max())
    with context.suitable_base(job, data.train) as (base, verdict):
        notices = [*verdict.notices, *data.notices]
        check_longest_row(context, base, verdict, data.train)
    result = PrepareResult(
        fingerprint=context.files.fingerprint,
        rank=context.work.compute.rank_of(job.lora),
        cpu_dtype=cpu_dtype,
        n_train=len(data.train),
        n_held_out=len(data.held_out),
        dropped=data.dropped,
        notices=_bounded(notices, job.data.name),
    )
    return Done(
        result=result,
        n_distinct=data.train.n_distinct(),
        n_distinct_held_out=data.held_out.n_distinct(),
        rows=RowDigests(train=data.train.sha256, held_out=data.held_out.sha256),
    )


def _bounded(notices: Sequence[str], data: str) -> list[str]:
    """As many notices as a result may have, none too long."""
    bounded = [one_line(text, MAX_NOTICE) for text in notices[: MAX_NOTICES - 1]]
    rest = len(notices) - len(bounded)
    return [*bounded, f"and {rest} more: `fedloom agent check-data {data}` shows all"] if rest else bounded


def _init(context: JobContext, job: InitJob) -> InitResult:
    """Write adapter 0. The base model gives the names and shapes of its tensors, and the seed their values."""
    with context.base() as base, base.adapter(job.lora, seed=0) as attached:
        contract = attached.contract
    path = context.work.folder / ADAPTER_FILE
    with atomic_write(path) as file:
        write_initial(file, contract, job.seed)
    return InitResult(adapter=sha256_file(path))
