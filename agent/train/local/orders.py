"""Runs the orders of a person at this machine: answers, likelihoods, data checks, merged models."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from agent.child import (
    AnswerRequest,
    Checked,
    CheckRequest,
    LocalOrder,
    LocalPhase,
    LocalProgress,
    LoraFile,
    Merged,
    MergeRequest,
    Scored,
    ScoreRequest,
)
from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.train.base.adapter_files import load_adapter
from agent.train.base.device import choose_device, choose_dtype
from agent.train.base.finder import BaseFiles, BaseFinder
from agent.train.base.fingerprint import check_fingerprint
from agent.train.base.model import Base, ModelCache
from agent.train.data.checking import check_data
from agent.train.data.templates import check_template, render
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import TokenRows
from agent.train.local import merging
from agent.train.local.answers import generate_answers
from agent.train.progress import Reporter
from agent.train.trainer.scoring import log_probabilities
from shared.wire.leases import FailureKind, Phase, Progress

_USE_OPTION = "give the model's folder with --base"
_USE_SETTINGS = "map it to its folder under [models] in agent.toml"


def answer(
    order: AnswerRequest, finder: BaseFinder, models: ModelCache, report: Reporter, on_text: Callable[[str], None]
) -> list[str]:
    """Answer the questions with the base model, or with the adapter on it. Raises TaskFailed.

    on_text: receives the answer piece by piece if there is only one question.
    """
    files = _find(order, finder, report)
    check_template(order.template, files.tokenizer)
    total = len(order.questions)
    with _loaded(order, files, models, report) as base, _model(base, order.adapter) as model:
        report(LocalProgress(phase=LocalPhase.ANSWERING, total=total))
        return generate_answers(
            model,
            order,
            files.tokenizer,
            autocast_dtype=base.autocast_dtype,
            report=lambda done: report(LocalProgress(phase=LocalPhase.ANSWERING, done=done, total=total)),
            on_text=on_text,
        )


def score(order: ScoreRequest, finder: BaseFinder, models: ModelCache, report: Reporter) -> Scored:
    """Compute the log-probabilities of the completions under the base model, or with the adapter on it.

    Raises TaskFailed: data if a prompt leaves no room for its completion, others as ``answer`` does.
    """
    files = _find(order, finder, report)
    check_template(order.template, files.tokenizer)
    texts = [
        render(Row(row.prompt, row.input, completion=row.completion), order.template, files.tokenizer)
        for row in order.rows
    ]
    with _loaded(order, files, models, report) as base, _model(base, order.adapter) as model:
        room = base.max_length
        token_rows = list(TextTokenizer(files.tokenizer, sys.maxsize).rows(texts))
        usable = [row for row in token_rows if row is not None and len(row[0]) <= room]
        if len(usable) < len(texts):
            message = f"{len(texts) - len(usable)} rows are empty, or longer than the {room} tokens that the base takes"
            raise TaskFailed(FailureKind.DATA, message)
        rows, total = TokenRows.of(usable), len(texts)
        report(Progress(phase=Phase.EVALUATING, total=total))
        log_probs = log_probabilities(
            model,
            base.language_model,
            rows,
            micro_batch=order.micro_batch,
            autocast_dtype=base.autocast_dtype,
            report=lambda done: report(Progress(phase=Phase.EVALUATING, done=done, total=total)),
        )  # (rows,)
    return Scored(log_probs=log_probs.tolist(), n_tokens=rows.n_supervised.tolist())


def check(order: CheckRequest, finder: BaseFinder, report: Reporter) -> Checked:
    """Check an owner's data with the base model's tokenizer. Raises TaskFailed."""
    return Checked(report=check_data(order, _find(order, finder, report).tokenizer, report))


def merge(order: MergeRequest, finder: BaseFinder, report: Reporter) -> Merged:
    """Merge base model and adapter into one model, and check it. Raises TaskFailed."""
    return merging.merge(order, _find(order, finder, report), report)


def _find(order: LocalOrder, finder: BaseFinder, report: Reporter) -> BaseFiles:
    files = finder.find(
        order.base,
        order.model_path,
        order.cache,
        refresh=False,
        remote_code=isinstance(order, CheckRequest) and order.remote_code,
        remedy=_USE_SETTINGS if isinstance(order, CheckRequest) else _USE_OPTION,
        report=report,
    )
    if order.fingerprint is not None:
        remedy = "give the folder of the model that the adapter was trained on with --base"
        check_fingerprint(files.fingerprint, order.fingerprint, remedy)
    return files


def _loaded(
    order: AnswerRequest | ScoreRequest, files: BaseFiles, models: ModelCache, report: Reporter
) -> AbstractContextManager[Base]:
    quantization = order.base.quantization  # as in training: the adapter was trained on this base
    device = choose_device(order.compute, quantization)
    return models.base(
        files.folder,
        files.fingerprint,
        device,
        choose_dtype(order.compute, device),
        quantization=quantization,
        remote_code=False,
        on_load=lambda: report(Progress(phase=Phase.LOADING_MODEL)),
    )


@contextmanager
def _model(base: Base, adapter: LoraFile | None) -> Iterator[Any]:
    """Lend the bare base model, or a PEFT model with the adapter."""
    if adapter is None:
        with base.without_adapter() as model:
            yield model
        return
    with base.adapter(adapter.lora, seed=0) as attached:
        load_adapter(attached, adapter.weights)
        yield attached.model
