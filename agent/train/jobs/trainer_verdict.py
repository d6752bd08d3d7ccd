"""Whether an owner's trainer does with a base what Fedloom's own does: found out on its first use, and kept.

What Fedloom's own computes is computed in a process of its own, that never imports the other one: a trainer may patch
the libraries that both use, and would then agree with itself.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from agent.configuration.trainers import OWN
from agent.orders.jobs import EvaluateJob, PrepareJob, TrainJob
from agent.orders.own_results import OwnResultsRequest
from agent.train.base.device import choose_device, choose_dtype
from agent.train.data.tokens import Samples
from agent.train.process.further_child import ask_further_child
from agent.train.stack.training import TRAINER_FOLDER_PREFIX
from agent.train.suitability.as_own import check_as_own
from agent.train.suitability.probe import longest_probe, probe_rows
from agent.train.suitability.trainer_results import Results
from agent.train.suitability.trainer_trial import Trial
from agent.train.suitability.verdicts import Verdict, load_verdict, save_verdict, versions
from shared.digest import sha256_of_parts
from shared.wire.tasks.leases import Phase, Progress

if TYPE_CHECKING:
    from agent.train.jobs.context import JobContext

_MOST_ROWS = 4
"""At once, of those that trainers are tried with: what fits is not known then."""
_PADDED_BECAUSE = "the owner's trainer decides how rows go through the model"


def trainer_verdict(context: "JobContext", job: PrepareJob | TrainJob | EvaluateJob, samples: Samples) -> Verdict:
    """The verdict on the owner's trainer with the job's base, measured now if none is kept.

    Raises TaskFailed (trainer, base-model) if the trainer, or the base, cannot be used. A refusal is not kept: the
    trainer may be mended.
    """
    stack, work = context.stack, context.work
    key = _key(context, job)
    path = work.cache / f"trainer-{sha256_of_parts([stack.identity, *key])}.json"
    longest = longest_probe(samples.completions)
    if (kept := load_verdict(path)) is not None and kept.longest >= longest:
        return kept
    context.report(Progress(phase=Phase.CHECKING_MODEL))
    context.warm.models.release()  # the other process loads it too
    own = _own_results(context, [*key, samples.sha256, str(work.micro_batch)])
    with context.base() as base, trial_of(context, job, samples) as trial:
        theirs = trial.results(stack, base)
        exact = base.dtype == torch.float32 and job.base.quantization is None
    check_as_own(own, theirs, probe_rows(samples.completions), stack, exact=exact)
    verdict = Verdict(own_head=False, padded_because=_PADDED_BECAUSE, notices=own.notices, longest=longest)
    save_verdict(path, verdict)
    return verdict


def _key(context: "JobContext", job: PrepareJob | TrainJob | EvaluateJob) -> list[str]:
    """What a verdict is for, beside the trainer."""
    device = choose_device(context.work.compute, job.base.quantization)
    return [
        *context.files.fingerprint.model_dump().values(),
        *context.use(job),
        job.base.quantization or "",
        device.type,
        str(choose_dtype(context.work.compute, device, job.base)),
        job.lora.model_dump_json(),
        job.training.model_dump_json(exclude={"seed", "steps", "epochs"}),
        *versions(job.base.quantization),
        str(context.work.compute.hub_kernels),
    ]


def _own_results(context: "JobContext", key: list[str]) -> Results:
    """What Fedloom's own trainer makes of the rows. Raises TaskFailed."""
    work = context.work
    path = work.cache / f"own-results-{sha256_of_parts(key)}.npz"
    if (known := Results.load(path)) is None:
        device = work.compute.device.partition(":")[0]  # this process sees one GPU only, and so does the other
        own = {"trainer": OWN, "hub_kernels": False, "device": device}
        compute = work.compute.model_copy(update=own)
        request = OwnResultsRequest(compute=compute, work=work.model_copy(update={"compute": compute}), out=path)
        ask_further_child(request, context.report)
        known = Results.load(path)
        if known is None:
            message = "the results of Fedloom's own trainer cannot be read back"
            raise OSError(message)
    return known


@contextmanager
def trial_of(context: "JobContext", job: PrepareJob | TrainJob | EvaluateJob, samples: Samples) -> Iterator[Trial]:
    """What trainers are tried with, in this job."""
    with tempfile.TemporaryDirectory(dir=context.work.folder, prefix=TRAINER_FOLDER_PREFIX) as folder:
        yield Trial(
            training=context.training,
            kind=context.kind.name,
            lora=job.lora,
            section=job.training,
            samples=samples,
            tokenizer=context.files.tokenizer,
            micro_batch=min(context.work.micro_batch, _MOST_ROWS),
            folder=folder,
        )
