"""A training child without torch.

It speaks the child's protocol and writes adapters that are a function of the job, the broadcast and the client state.

FEDLOOM_RECORDED holds further options as JSON:
    step_s         seconds per step
    fits           largest micro-batch that fits into memory
    die_of         how it ends when memory runs out: "exit" (by the protocol) or "memory" (by SIGKILL)
    size           columns of A, for large uploads
    rows           rows of B
    factor         factor on all deltas, for a client that lies
    nan            whether all deltas contain a NaN
    nan_in         pairs of round and client number whose deltas contain a NaN
    held_out       held-out rows
    step           the kind's own metrics of each step
    training       metrics of a training, beside the usual ones or in place of them
    notices        what a preparation says of the rows
    cpuinfo        what Linux says of the processors; empty if left out
    failure        what a training says instead of a result
    losses         held-out losses of the adapters by their number; the last is that of all further ones
    evaluation     metrics of an evaluation, beside the usual ones or in place of them
    review         what it finds of a held update, in place of the usual
    review_s       seconds that this takes
    reply_s        seconds that the texts of one order take, which raw texts are asked in
    dies_at        number of such orders after which it is killed, once in each folder of digests

What raw texts it is asked is in ``asked.jsonl`` in the folder of the base model's digests, a line an order.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agent.configuration.processor import cpu_dtype
from agent.installed import load_client
from agent.orders.job import Done, LocalJob
from agent.orders.job_files import (
    ADAPTER_FILE,
    CLIENT_STATE_FILE,
    DELTA_FILE,
    EXTRAS_FILE,
    RESIDUAL_FILE,
    RESULT_FILE,
)
from agent.orders.jobs import EvaluateJob, InitJob, PrepareJob, TrainJob
from agent.orders.on_base.count_tokens import TokensCounted
from agent.orders.on_base.describe import Described
from agent.orders.on_base.generate import GenerateRequest, RawGenerated, RawText
from agent.orders.on_base.likelihood import LikelihoodRequest, RawScore, RawScored
from agent.orders.protocol import (
    OUT_OF_MEMORY_EXIT,
    Failed,
    LocalPhase,
    LocalProgress,
    Message,
    OutOfMemory,
    Report,
)
from agent.orders.review import Reviewed, ReviewRequest
from shared.adapters.feedback import Outgoing, outgoing
from shared.adapters.files import AdapterError, AdapterFile, Contract, TensorSpec, slot_name, write_adapter
from shared.adapters.initial import write_initial
from shared.adapters.lora import at_rank, trained
from shared.digest import sha256_file, sha256_hex
from shared.system.durable import atomic_text
from shared.wire.tasks.leases import Failure, FailureKind, Phase, Progress
from shared.wire.tasks.results import EvaluateResult, Fingerprint, InitResult, PrepareResult, Result, TrainResult
from tests.support.messages import evaluated, training_metrics

OPTIONS = json.loads(os.environ.get("FEDLOOM_RECORDED", "{}"))
N_HELD_OUT = OPTIONS.get("held_out", 2)
FINGERPRINT = Fingerprint(
    **{part: sha256_hex(part.encode()) for part in ("weights", "config", "tokenizer", "template")}
)


def say(message: Message) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


def n_rows_of(local_job: LocalJob) -> int:
    return len(local_job.data.path.read_text().splitlines()) if local_job.data is not None else 0


def prepare(local_job: LocalJob, job: PrepareJob) -> PrepareResult:
    say(Report(progress=Progress(phase=Phase.TOKENIZING)))
    n_rows = n_rows_of(local_job)
    rank = local_job.compute.rank_of(job.lora)
    notices = OPTIONS.get("notices", [])
    decided = cpu_dtype(job.base.cpu_dtype, local_job.compute, OPTIONS.get("cpuinfo", ""))
    counts = {"n_train": n_rows, "n_held_out": N_HELD_OUT}
    return PrepareResult(fingerprint=FINGERPRINT, rank=rank, cpu_dtype=decided, **counts, notices=notices)


def init(local_job: LocalJob, job: InitJob) -> InitResult:
    say(Report(progress=Progress(phase=Phase.LOADING_MODEL)))
    columns, rank = OPTIONS.get("size", 6), job.lora.rank
    contract = Contract.of(
        {
            "base_model.model.layer.lora_A.weight": TensorSpec("F32", (rank, columns)),
            "base_model.model.layer.lora_B.weight": TensorSpec("F32", (OPTIONS.get("rows", 4), rank)),
        }
    )
    write_initial(local_job.folder / ADAPTER_FILE, contract, job.seed)
    return InitResult(adapter=sha256_file(local_job.folder / ADAPTER_FILE))


def train(local_job: LocalJob, job: TrainJob) -> TrainResult:
    assert local_job.adapter is not None
    rng = np.random.default_rng((job.training.seed, job.round, job.client_number))
    for step in range(job.steps):
        time.sleep(OPTIONS.get("step_s", 0))
        done, metrics = {"done": step + 1, "total": job.steps}, OPTIONS.get("step", {})
        measured = {"loss": 1.0, "tokens_per_s": 100, "metrics": metrics, **OPTIONS.get("machine", {})}
        say(Report(progress=Progress(phase=Phase.TRAINING, **done, **measured)))
    installed = load_client(job)
    client = installed.half
    with AdapterFile(local_job.adapter) as adapter:
        contract = trained(at_rank(adapter.contract, job.rank), job.lora)
    delta = {name: rng.standard_normal(spec.shape, dtype=np.float32) / 16 for name, spec in contract.tensors.items()}
    client_state = read_client_state(local_job.client_state, contract, client.state)
    broadcast = read_slots(local_job.broadcast) if local_job.broadcast is not None else {}
    half = client(installed.read_params(job.algorithm_params), broadcast, client_state)
    slots: dict[str, dict[str, np.ndarray]] = {}
    for name, w in delta.items():  # the anchor is zero
        for _ in range(job.steps):
            half.after_step(name, w, job.learning_rate)
        for slot, values in half.finish(name, w, w * 0, job.learning_rate, job.steps).items():
            slots.setdefault(slot, {})[slot_name(slot, name)] = values
    if "factor" in OPTIONS:
        delta = {name: values * np.float32(OPTIONS["factor"]) for name, values in delta.items()}
    delta = dict(half.finish_update(delta))
    is_bad = OPTIONS.get("nan") or [job.round, job.client_number] in OPTIONS.get("nan_in", ())
    if is_bad:
        next(iter(delta.values()))[0, 0] = np.nan
    extras, state = (
        {key: value for slot in names for key, value in slots[slot].items()} for names in (client.extras, client.state)
    )
    sent = Outgoing(delta, extras, {}) if is_bad else outgoing(delta, extras, job.wire, local_job.residual)
    files = {DELTA_FILE: sent.delta, EXTRAS_FILE: sent.extras, CLIENT_STATE_FILE: state, RESIDUAL_FILE: sent.residual}
    for file, tensors in files.items():
        if tensors:
            write_adapter(local_job.folder / file, tensors)
    return TrainResult(
        delta=sha256_file(local_job.folder / DELTA_FILE),
        extras=sha256_file(local_job.folder / EXTRAS_FILE) if client.extras else None,
        client_state_lost=bool(client.state) and job.committed_update is not None and not client_state,
        metrics=training_metrics(steps=job.steps) | OPTIONS.get("training", {}),
    )


def read_client_state(path: Path | None, contract: Contract, slots: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Read the client state. Returns {} if it is missing or damaged."""
    if path is None:
        return {}
    try:
        with AdapterFile(path) as file:
            contract.in_slots(slots).check(file)
    except AdapterError:
        return {}
    return read_slots(path)


def read_slots(path: Path) -> dict[str, dict[str, np.ndarray]]:
    slots: dict[str, dict[str, np.ndarray]] = {}
    with AdapterFile(path) as file:
        for full_name in file.tensors:
            slot, _, name = full_name.partition("/")
            slots.setdefault(slot, {})[name] = file.read(full_name).copy()
    return slots


def evaluate(job: EvaluateJob) -> EvaluateResult:
    say(Report(progress=Progress(phase=Phase.EVALUATING)))
    own, losses = OPTIONS.get("evaluation", {}), OPTIONS.get("losses")
    loss = losses[min(job.round, len(losses) - 1)] if losses else 2.0 / (1 + job.round)
    return EvaluateResult.model_validate(evaluated(loss, n_rows=N_HELD_OUT, n_tokens=20, **own))


def review(order: ReviewRequest) -> Reviewed:
    assert order.update.is_file()
    assert order.adapter.is_file()
    time.sleep(OPTIONS.get("review_s", 0))
    if "review" in OPTIONS:
        return Reviewed.model_validate(OPTIONS["review"])
    answers = [{"prompt": f"prompt {n}", "before": f"before {n}", "after": f"after {n}"} for n in range(1, 6)]
    losses = {"n_rows": N_HELD_OUT, "loss_before": 2.0, "loss_after": 1.5, "unit": "nats/token"}
    return Reviewed.model_validate({**losses, "answers": answers})


def raw_texts(order: LikelihoodRequest | GenerateRequest) -> RawScored | RawGenerated:
    """Likelihoods and texts that depend on what is asked alone."""
    scores = isinstance(order, LikelihoodRequest)
    asked = (
        [f"{each.context}{each.continuation}" for each in order.pairs] if scores else [p.text for p in order.prompts]
    )
    log = order.model.cache / "asked.jsonl"
    n_before = len(log.read_bytes().splitlines()) if log.exists() else 0
    if n_before == OPTIONS.get("dies_at") and not (died := order.model.cache / "died").exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with log.open("a") as file:
        file.write(json.dumps(asked) + "\n")
    say(Report(progress=LocalProgress(phase=LocalPhase.ANSWERING, done=0, total=len(asked))))
    time.sleep(OPTIONS.get("reply_s", 0))
    if not scores:
        return RawGenerated(texts=[RawText(text=" positive", n_tokens=1) for _ in asked])
    return RawScored(scores=[RawScore(log_prob=-float(len(text)), n_tokens=1) for text in asked])


def run(local_job: LocalJob) -> Result:
    job = local_job.job
    if isinstance(job, PrepareJob):
        return prepare(local_job, job)
    if isinstance(job, InitJob):
        return init(local_job, job)
    if isinstance(job, TrainJob):
        return train(local_job, job)
    return evaluate(job)


ANSWERS: dict[str, Callable[[str], Message]] = {
    "review": lambda line: review(ReviewRequest.model_validate_json(line)),
    "describe": lambda _: Described(fingerprint=FINGERPRINT, n_positions=None, has_chat_template=False),
    "count_tokens": lambda line: TokensCounted(n_tokens=[len(each.split()) for each in json.loads(line)["texts"]]),
    "likelihood": lambda line: raw_texts(LikelihoodRequest.model_validate_json(line)),
    "generate": lambda line: raw_texts(GenerateRequest.model_validate_json(line)),
}
"""What it says to an order that is no job, by the order's type."""


def end_with_parent(lines: "list[str | None]", ready: threading.Semaphore) -> None:
    for line in sys.stdin:
        lines.append(line)
        ready.release()
    os._exit(0)


def main() -> None:
    lines: list[str | None] = []
    ready = threading.Semaphore(0)
    threading.Thread(target=end_with_parent, args=(lines, ready), daemon=True).start()
    while True:
        ready.acquire()
        line = lines.pop(0) or ""
        answer = ANSWERS.get(json.loads(line)["type"])
        if answer is not None:
            say(answer(line))
            continue
        local_job = LocalJob.model_validate_json(line)
        Path(local_job.folder, "child.pid").write_text(str(os.getpid()))
        if local_job.data is None and not isinstance(local_job.job, InitJob):
            say(Failed(failure=Failure(kind=FailureKind.DATA, message="agent.toml names no such data")))
            continue
        if isinstance(local_job.job, TrainJob) and "failure" in OPTIONS:
            say(Failed(failure=Failure(kind=FailureKind.DATA, message=OPTIONS["failure"])))
            continue
        fits = local_job.micro_batch <= OPTIONS.get("fits", 1 << 30) or (
            local_job.recompute and "recomputes" in OPTIONS
        )
        if isinstance(local_job.job, TrainJob) and not fits:
            if OPTIONS.get("die_of") == "memory":
                os.kill(os.getpid(), signal.SIGKILL)
            recomputed = local_job.recompute or "recomputes" not in OPTIONS  # or it cannot
            say(
                OutOfMemory(
                    peak_bytes=1 << 30,
                    longest_row_tokens=77,
                    micro_batch=OPTIONS.get("at_once", 0),
                    recomputed=recomputed,
                )
            )
            sys.exit(OUT_OF_MEMORY_EXIT)
        result = run(local_job)
        counts_rows = isinstance(result, PrepareResult | TrainResult)
        n_distinct = n_rows_of(local_job) if counts_rows else N_HELD_OUT
        done = Done(result=result, n_distinct=n_distinct, n_distinct_held_out=N_HELD_OUT)
        atomic_text(local_job.folder / RESULT_FILE, done.model_dump_json())
        say(done)


if __name__ == "__main__":
    main()
