"""What the four jobs share: the base model, the data, and the files of a result."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.data.own_template import template_of
from agent.errors import TaskFailed
from agent.installed import load_client, load_kind, read_kind_params
from agent.orders.job import LocalJob
from agent.orders.jobs import EvaluateJob, PrepareJob, TrainJob
from agent.train import kinds, stack
from agent.train.base.device import choose_device, choose_dtype
from agent.train.base.model import Base
from agent.train.base.on_disk.fingerprint import check_fingerprint
from agent.train.data.tokens import Samples, TokenizedData
from agent.train.distributed.group import Group
from agent.train.jobs.trainer_verdict import trainer_verdict
from agent.train.jobs.trial import try_a_step
from agent.train.progress import Reporter
from agent.train.suitability.verdicts import Verdict, ensure_suitable
from agent.train.trainer.reference import Reference
from agent.train.warm import WarmState
from shared.adapters.files import AdapterError, Array, Stored, write_adapter
from shared.digest import sha256_file, sha256_hex
from shared.system.durable import atomic_write
from shared.wire.tasks.leases import FailureKind, Phase, Progress

log = logging.getLogger(__name__)


class JobContext:
    """One job with its base model, its data and its folder."""

    def __init__(self, warm: WarmState, work: LocalJob, report: Reporter) -> None:
        """Load the job's plug-ins, find the base model and check its fingerprint.

        Raises TaskFailed (training-kind, algorithm, trainer, base-model, fingerprint).
        """
        self.warm = warm
        self.work = work
        self.report = report
        job = work.job
        self.kind = load_kind(job.training_kind)
        self.training = kinds.find(job.training_kind)(read_kind_params(self.kind, job.kind_params))
        self.client = load_client(job) if isinstance(job, PrepareJob | TrainJob) else None
        self.stack = stack.find(work.compute.trainer)
        self.files = warm.finder.find(
            job.base,
            work.model_path,
            work.cache,
            refresh=isinstance(job, PrepareJob),
            remote_code=work.remote_code,
            remedy=f"map {job.base.model} to its folder under [models] in agent.toml",
            report=report,
        )
        if not isinstance(job, PrepareJob):
            check_fingerprint(self.files.fingerprint, job.fingerprint)

    def data(self, job: PrepareJob | TrainJob | EvaluateJob) -> TokenizedData:
        """The tokenised data that the job names. Raises TaskFailed (data)."""
        source = self.work.data
        if source is None:
            message = f"this agent has no data named {job.data.name}: add a table [data.{job.data.name}] to agent.toml"
            raise TaskFailed(FailureKind.DATA, message)
        return self.warm.data.prepare(
            source.named(job.data.name),
            job.data.template,
            job.training.max_length,
            self.files.tokenizer,
            self.files.fingerprint,
            self.work.cache,
            self.report,
            kind=self.kind,
            limits=self.files.limits,
            day=job.created_on,
        )

    @contextmanager
    def suitable_base(
        self, job: PrepareJob | TrainJob | EvaluateJob, samples: Samples
    ) -> Iterator[tuple[Base, Verdict]]:
        """Lend the loaded base model with the head that its loss needs. Raises TaskFailed (base-model, trainer).

        samples: the owner's rows, of which a few are used to measure a base, or the owner's trainer, that is new here.
        """
        if self.stack is stack.OWN_STACK:
            with self.base() as base:
                yield base, self._measured(job, base, samples)
            return
        verdict = trainer_verdict(self, job, samples)
        with self.base() as base:
            yield base, verdict

    def _measured(self, job: PrepareJob | TrainJob | EvaluateJob, base: Base, samples: Samples) -> Verdict:
        return ensure_suitable(
            base,
            self.files.fingerprint,
            job.lora,
            samples.completions,
            use=self.use(job),
            quantization=job.base.quantization,
            micro_batch=self.work.micro_batch,
            cache=self.work.cache,
            report=self.report,
            trial=lambda: self._try_a_step(job, base, samples),
        )

    def use(self, job: PrepareJob | TrainJob | EvaluateJob) -> list[str]:
        """What a verdict is for, beside the base and the adapter."""
        template = template_of(self.work.data, job.data.template) if self.work.data else job.data.template
        return [
            template if isinstance(template, str) else sha256_hex(template.text.encode()),
            job.training_kind,
            json.dumps(job.kind_params, sort_keys=True),
            job.training.optimizer,
        ]

    def _try_a_step(self, job: PrepareJob | TrainJob | EvaluateJob, base: Base, samples: Samples) -> None:
        try_a_step(
            self.training,
            self.kind.name,
            base,
            job.lora,
            job.training,
            samples,
            self.files.tokenizer,
            micro_batch=self.work.micro_batch,
            folder=self.work.folder,
        )

    def base(self) -> AbstractContextManager[Base]:
        """Lend the loaded base model. Raises TaskFailed (base-model, trainer)."""
        compute = self.work.compute
        section = self.work.job.base
        device = choose_device(compute, section.quantization)
        return self.warm.models.base(
            self.files.folder,
            self.files.fingerprint,
            device,
            choose_dtype(compute, device, section),
            quantization=section.quantization,
            remote_code=self.work.remote_code,
            on_load=lambda: self.report(Progress(phase=Phase.LOADING_MODEL)),
            loader=self.stack,
        )

    def check_device(self) -> torch.device:
        """Return the device to train on.

        Raises TaskFailed (base-model, trainer) if the settings name a device or a number of processes that cannot train
        here.
        """
        compute = self.work.compute
        device = choose_device(compute, self.work.job.base.quantization)
        if compute.processes > 1 and self.stack is not stack.OWN_STACK:
            message = "several processes train by Fedloom's own trainer only: set compute.processes in agent.toml to 1"
            raise self.stack.refused(message)
        self.warm.ranks.check(compute.processes, device)
        return device

    def group(self, size: int) -> AbstractContextManager[Group]:
        """Train in *size* processes in the block."""
        work = self.work.model_copy(update={"model_path": self.files.folder})
        loading = Progress(phase=Phase.LOADING_MODEL)
        return self.warm.ranks.joined(work, size, self.check_device(), on_load=lambda: self.report(loading))

    def reference(
        self, job: TrainJob | EvaluateJob, base: Base, samples: Samples, indices: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """The reference's log-probabilities of the c completions of the rows at *indices*, (k,): (k, c), in nats.

        Returns None if the kind of training has no reference.
        """
        if not self.training.needs_reference:
            return None
        adapter = self.work.reference
        reference = Reference(self.work.cache, job.base, self.files.fingerprint, adapter, job.lora, self.stack)

        def on_scored(done: int, total: int) -> None:
            self.report(Progress(phase=Phase.SCORING_REFERENCE, done=done, total=total))

        return reference.log_probabilities(base, samples, indices, micro_batch=self.work.micro_batch, report=on_scored)

    def write(self, name: str, tensors: Mapping[str, Stored]) -> str:
        """Write a canonical file into the job's folder and return its SHA-256.

        tensors: finite, as they are stored.
        """
        path = self.work.folder / name
        with atomic_write(path) as file:
            write_adapter(file, tensors)
        return sha256_file(path)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Trained tensors as numpy's, in float32."""
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}


@contextmanager
def refused_if_diverged() -> Iterator[None]:
    """Raise TaskFailed (crash) if the block meets values that are not finite."""
    try:
        yield
    except AdapterError as error:
        log.error("training diverged: %s", error)
        message = "training diverged, the update is not finite: the learning rate may be too high"
        raise TaskFailed(FailureKind.CRASH, message) from error
