"""The four jobs of a coordinator, and what a person asks for on this machine."""

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import logging as transformers_logging

from agent.child import (
    ADAPTER_FILE,
    CHECKPOINT_FILE,
    CLIENT_STATE_FILE,
    DELTA_FILE,
    EXTRAS_FILE,
    RESULT_FILE,
    AnswerRequest,
    Checked,
    CheckRequest,
    LocalJob,
    Merged,
    MergeRequest,
    Scored,
    ScoreRequest,
)
from agent.client_half import load_client
from agent.errors import TaskFailed
from agent.settings import ComputeSettings
from agent.train import memory
from agent.train.base.adapter_files import load_adapter, read_broadcast, read_client_state
from agent.train.base.device import choose_device, choose_dtype
from agent.train.base.files import Finder
from agent.train.base.model import AttachedAdapter, Base, Models
from agent.train.base.source import Reporter, check_same
from agent.train.checkpoint import Checkpoints, identity
from agent.train.data.sampling import rows_of_round, seed_of_round
from agent.train.data.tokens import DataCache, PairRows, Prepared, TokenRows
from agent.train.kinds.evaluate import held_out_loss, held_out_preference
from agent.train.kinds.federated import TrainingHistory
from agent.train.kinds.reference import Reference, completions_at_once
from agent.train.kinds.trainer import DpoTrainer, Recipe, SftTrainer, dpo_trainer, sft_trainer
from agent.train.local import orders as local
from agent.train.progress import Throttle
from shared import crash_points
from shared.adapters import AdapterError, check_finite, slot_name, write_adapter
from shared.digest import sha256_file
from shared.durable import atomic_text, atomic_write
from shared.wire.jobs import (
    EvaluateJob,
    EvaluateResult,
    InitJob,
    InitResult,
    Job,
    PrepareJob,
    PrepareResult,
    Result,
    TrainJob,
    TrainMetrics,
    TrainResult,
)
from shared.wire.leases import FailureKind, Phase, Progress

log = logging.getLogger(__name__)

_TRAINER_FOLDER = "trainer-"


class Worker:
    """Does what the parent orders, one at a time, and keeps the base model and the tokenised data in between."""

    def __init__(self) -> None:
        transformers_logging.disable_progress_bar()
        self.longest_row_tokens = 0
        self.models = Models()
        self.data = DataCache()
        self.finder = Finder()

    def run(self, work: LocalJob, report: Reporter) -> Result:
        """Do the job, leave its files in ``work.folder``, the result last. Raises TaskFailed, and what went wrong."""
        self._begin(work.compute)
        work.folder.mkdir(parents=True, exist_ok=True)
        _clear(work.folder)
        result = _Job(self, work, Throttle(report)).result()
        atomic_text(work.folder / RESULT_FILE, result.model_dump_json())
        crash_points.reach("child: result written")
        (work.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return result

    def ask(self, ask: AnswerRequest, report: Reporter, say: Callable[[str], None]) -> list[str]:
        """Answer the questions; *say* is called with the pieces of an only answer. Raises TaskFailed."""
        self._begin(ask.compute)
        return local.ask(ask, self.finder, self.models, Throttle(report), say)

    def score(self, score: ScoreRequest, report: Reporter) -> Scored:
        """Find how likely the completions are. Raises TaskFailed."""
        self._begin(score.compute)
        return local.score(score, self.finder, self.models, Throttle(report))

    def check(self, check: CheckRequest, report: Reporter) -> Checked:
        """Look through an owner's data. Raises TaskFailed."""
        self._begin(check.compute)
        return local.check(check, self.finder, Throttle(report))

    def merge(self, merge: MergeRequest, report: Reporter) -> Merged:
        """Write the merged model. Raises TaskFailed, and OSError where it cannot be written."""
        self._begin(merge.compute)
        self.models.forget()  # two models are enough: the merged one, and the one that is read again
        return local.merge(merge, self.finder, Throttle(report))

    def _begin(self, compute: ComputeSettings) -> None:
        self.longest_row_tokens = 0
        memory.reset_peak()
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)


class _Job:
    """One job: what all four begin with, then one method each."""

    def __init__(self, worker: Worker, work: LocalJob, report: Reporter) -> None:
        self._worker = worker
        self._work = work
        self._report = report
        job: Job = work.job
        self._client = load_client(job) if isinstance(job, PrepareJob | TrainJob) else None
        self._files = worker.finder.find(
            job.base,
            work.model_path,
            work.cache,
            refresh=isinstance(job, PrepareJob),
            remote_code=work.remote_code,
            remedy=f"map {job.base.model} to its folder under [models] in agent.toml",
            report=report,
        )
        if not isinstance(job, PrepareJob):
            check_same(self._files.fingerprint, job.fingerprint)

    def result(self) -> Result:
        job = self._work.job
        if isinstance(job, PrepareJob):
            return self._prepare(job)
        if isinstance(job, InitJob):
            return self._init(job)
        if isinstance(job, TrainJob):
            return self._train(job)
        return self._evaluate(job)

    def _prepare(self, job: PrepareJob) -> PrepareResult:
        choose_device(self._work.compute, job.base.quantization)  # what this machine cannot do shows now
        data = self._prepared(job)
        return PrepareResult(
            fingerprint=self._files.fingerprint,
            n_train=len(data.train),
            n_held_out=len(data.held_out),
            dropped=data.dropped,
        )

    def _init(self, job: InitJob) -> InitResult:
        with self._base() as base, base.adapter(job.lora, seed=job.seed) as attached:
            return InitResult(adapter=self._write(ADAPTER_FILE, attached.tensors()))

    def _train(self, job: TrainJob) -> TrainResult:
        work = self._work
        rows = self._prepared(job).train
        drawn = {"seed": job.seed, "round_number": job.round, "client_number": job.client_number}
        indices = rows_of_round(len(rows), job.steps * job.batch_size, **drawn)
        self._worker.longest_row_tokens = int(rows.lengths[indices].max())
        seed = seed_of_round(**drawn)
        assert self._client is not None
        assert work.adapter is not None
        half, params = self._client.half, self._client.read_params(job.algorithm_params)
        with self._base() as base:
            reference = self._reference(job, base, rows, indices)
        with (
            self._base() as base,
            base.adapter(job.lora, seed=seed) as attached,
            tempfile.TemporaryDirectory(dir=work.folder, prefix=_TRAINER_FOLDER) as folder,
        ):
            load_adapter(attached, work.adapter)
            start = attached.tensors()
            broadcast = read_broadcast(work.broadcast, self._client.broadcast, attached)
            client_state = read_client_state(work.client_state, half.state, attached) if half.state else {}
            whole = identity(job, rows.sha256, work.client_state if client_state else None, base.device, base.dtype)
            checkpoints = Checkpoints(work.folder / CHECKPOINT_FILE, whole, every=work.compute.checkpoint_every)
            examples = self._examples(rows, indices, reference)
            left = examples[checkpoints.done * job.batch_size :]
            # no trainer can be made for nothing, which is left where a crash came after the last step
            trainer = self._trainer(job, base, attached, left or examples, seed, folder)
            trainer.attach(
                half(params, broadcast, client_state),
                attached.trained,
                lambda history: self._stepped(history, job.steps),
            )
            checkpoints.accompany(trainer, attached.trained)
            if checkpoints.done:
                log.info("goes on after step %d of %d", checkpoints.done, job.steps)
            self._report(Progress(phase=Phase.TRAINING, done=checkpoints.done, total=job.steps))
            if left:
                trainer.train()
            slots = trainer.slots()
            extras, kept_state = _of_slots(slots, half.extras), _of_slots(slots, half.state)
            ended = attached.tensors()
            delta = {name: ended[name] - start[name] for name in attached.trained}
        if kept_state:
            self._write(CLIENT_STATE_FILE, kept_state)
        result = TrainResult(
            delta=self._write(DELTA_FILE, delta),
            extras=self._write(EXTRAS_FILE, extras) if extras else None,
            client_state_lost=bool(half.state) and job.committed_update is not None and not client_state,
            metrics=_metrics(trainer.history, work.report_losses),
        )
        crash_points.reach("child: delta written")
        return result

    def _trainer(
        self,
        job: TrainJob,
        base: Base,
        attached: AttachedAdapter,
        examples: Sequence[Mapping[str, Any]],
        seed: int,
        folder: str,
    ) -> SftTrainer | DpoTrainer:
        recipe = Recipe(
            folder=folder,
            batch_size=job.batch_size,
            micro_batch=self._work.micro_batch,
            learning_rate=job.learning_rate,
            seed=seed,
            half=base.half,
            optimizer=job.optimizer,
            max_grad_norm=job.max_grad_norm,
        )
        tokenizer = self._files.tokenizer
        if job.training_kind == "dpo":
            return dpo_trainer(attached, examples, tokenizer, recipe, job.dpo)
        return sft_trainer(attached, examples, tokenizer, recipe)

    def _reference(
        self, job: TrainJob | EvaluateJob, base: Base, rows: TokenRows | PairRows, indices: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """What the reference gives the sides of some pairs, (len(indices), 2); None where the rows are no pairs."""
        if not isinstance(rows, PairRows):
            return None
        adapter = self._work.reference
        reference = Reference(self._work.cache, job.base, self._files.fingerprint, adapter, job.lora)

        def scored(done: int, total: int) -> None:
            self._report(Progress(phase=Phase.SCORING_REFERENCE, done=done, total=total))

        return reference.log_probabilities(base, rows, indices, micro_batch=self._work.micro_batch, report=scored)

    @staticmethod
    def _examples(
        rows: TokenRows | PairRows, indices: NDArray[np.int64], reference: NDArray[np.float64] | None
    ) -> list[dict[str, Any]]:
        """The round's examples in their order, as the trainer takes them."""
        examples: list[dict[str, Any]] = [dict(rows.example(index)) for index in indices]
        if reference is not None:
            for example, (chosen, rejected) in zip(examples, reference.tolist(), strict=True):
                example |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        return examples

    def _stepped(self, history: TrainingHistory, steps: int) -> None:
        tells = self._work.report_losses
        margin, accuracy = history.rewards[-1] if tells and history.rewards else (None, None)
        self._report(
            Progress(
                phase=Phase.TRAINING,
                done=history.done,
                total=steps,
                loss=history.losses[-1] if tells else None,
                tokens_per_s=history.tokens_per_s,
                reward_margin=margin,
                reward_accuracy=accuracy,
            )
        )
        crash_points.reach("child: step")

    def _evaluate(self, job: EvaluateJob) -> EvaluateResult:
        work = self._work
        if not work.report_losses:
            raise TaskFailed(FailureKind.REFUSED_BY_POLICY, "this agent reports no losses (policy.report_losses)")
        rows = self._prepared(job).held_out
        if len(rows) == 0:
            raise TaskFailed(FailureKind.DATA, f"no rows of {job.data.name} are held out for evaluation")
        self._worker.longest_row_tokens = int(rows.lengths.max())
        assert work.adapter is not None

        def evaluated(done: int) -> None:
            self._report(Progress(phase=Phase.EVALUATING, done=done, total=len(rows)))

        with self._base() as base:
            reference = self._reference(job, base, rows, np.arange(len(rows)))
            with base.adapter(job.lora, seed=0) as attached:
                load_adapter(attached, work.adapter)
                how: dict[str, Any] = {"micro_batch": work.micro_batch, "half": base.half, "report": evaluated}
                if isinstance(rows, PairRows):
                    assert reference is not None
                    how["micro_batch"] = completions_at_once(base, work.micro_batch)
                    found = held_out_preference(attached.model, rows, reference, beta=job.dpo.beta, **how)
                    judged = asdict(found)
                else:
                    loss, n_tokens = held_out_loss(attached.model, rows, **how)
                    judged = {"loss": loss, "n_tokens": n_tokens}
        if not math.isfinite(judged["loss"]):
            raise TaskFailed(FailureKind.CRASH, f"the held-out loss of the global adapter is {judged['loss']}")
        return EvaluateResult(n_rows=len(rows), **judged)

    def _prepared(self, job: PrepareJob | TrainJob | EvaluateJob) -> Prepared:
        source = self._work.data
        if source is None:
            message = f"there is no data named {job.data.name} here: add a table [data.{job.data.name}] to agent.toml"
            raise TaskFailed(FailureKind.DATA, message)
        return self._worker.data.prepare(
            source,
            job.data.template,
            job.max_length,
            self._files.tokenizer,
            self._files.fingerprint,
            self._work.cache,
            self._report,
            kind=job.training_kind,
        )

    def _base(self) -> Any:
        compute = self._work.compute
        quantization = self._work.job.base.quantization
        device = choose_device(compute, quantization)
        return self._worker.models.base(
            self._files.folder,
            self._files.fingerprint,
            device,
            choose_dtype(compute, device),
            quantization=quantization,
            remote_code=self._work.remote_code,
            on_load=lambda: self._report(Progress(phase=Phase.LOADING_MODEL)),
        )

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> str:
        """Write a canonical file and return its digest. Raises TaskFailed (crash) where a tensor is not finite."""
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        try:
            for key, values in arrays.items():
                check_finite(key, values)
        except AdapterError as error:
            message = f"training diverged, {error}: the learning rate may be too high"
            raise TaskFailed(FailureKind.CRASH, message) from error
        path = self._work.folder / name
        with atomic_write(path) as file:
            write_adapter(file, arrays)
        return sha256_file(path)


def _clear(folder: Path) -> None:
    """Delete what a process that was killed left half done in a task's folder."""
    for left in folder.glob(f"{_TRAINER_FOLDER}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _of_slots(tensors: Mapping[str, Mapping[str, Tensor]], slots: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of some slots by the names that files give them."""
    return {
        slot_name(slot, name): tensor.detach().float().cpu() for slot in slots for name, tensor in tensors[slot].items()
    }


def _metrics(history: TrainingHistory, report_losses: bool) -> TrainMetrics:
    losses, rewards = (history.losses, history.rewards) if report_losses else ([], [])
    return TrainMetrics(
        steps=history.steps,
        loss_first=losses[0] if losses else None,
        loss_last=losses[-1] if losses else None,
        loss_mean=_mean(losses),
        tokens=history.tokens,
        seconds=history.seconds,
        tokens_per_s=history.tokens_per_s,
        peak_memory_bytes=memory.peak_bytes(),
        reward_margin=_mean([margin for margin, _ in rewards]),
        reward_accuracy=_mean([accuracy for _, accuracy in rewards]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
