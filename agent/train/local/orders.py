"""What a person asks for on this machine: answers, likelihoods, a look at data, and a merged model."""

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
from agent.train.base.files import BaseFiles, Finder
from agent.train.base.model import Base, Models
from agent.train.base.source import Reporter, check_same
from agent.train.data import templates
from agent.train.data.checking import check_data
from agent.train.data.templates import render
from agent.train.data.tokens import Tokenizing, TokenRows
from agent.train.kinds.evaluate import log_probabilities
from agent.train.local import merging
from agent.train.local.answers import answer
from shared.wire.leases import FailureKind, Phase, Progress

_GIVE = "give the model's folder with --base"
_MAP = "map it to its folder under [models] in agent.toml"


def ask(ask: AnswerRequest, finder: Finder, models: Models, report: Reporter, say: Callable[[str], None]) -> list[str]:
    """Answer the questions by the base model, kept in *models*, or with the adapter on it. Raises TaskFailed."""
    files = _find(ask, finder, report)
    templates.check(ask.template, files.tokenizer)
    total = len(ask.questions)
    with _loaded(ask, files, models, report) as base, _attached(base, ask.adapter) as model:
        report(LocalProgress(phase=LocalPhase.ANSWERING, total=total))
        return answer(
            model,
            ask,
            files.tokenizer,
            half=base.half,
            report=lambda done: report(LocalProgress(phase=LocalPhase.ANSWERING, done=done, total=total)),
            say=say,
        )


def score(order: ScoreRequest, finder: Finder, models: Models, report: Reporter) -> Scored:
    """Find how likely the completions are, by the base model, kept in *models*, or with the adapter on it.

    Raises TaskFailed (data) where a prompt leaves no room for its completion, and as ``ask`` does.
    """
    files = _find(order, finder, report)
    templates.check(order.template, files.tokenizer)
    texts = [
        render(Row(row.prompt, row.input, completion=row.completion), order.template, files.tokenizer)
        for row in order.rows
    ]
    with _loaded(order, files, models, report) as base, _attached(base, order.adapter) as model:
        room = base.max_length
        found = list(Tokenizing(files.tokenizer, sys.maxsize).rows(texts))
        tokens = [row for row in found if row is not None and len(row[0]) <= room]
        if len(tokens) < len(texts):
            message = f"{len(texts) - len(tokens)} rows are empty, or longer than the {room} tokens that the base takes"
            raise TaskFailed(FailureKind.DATA, message)
        rows, total = TokenRows.of(tokens), len(texts)
        report(Progress(phase=Phase.EVALUATING, total=total))
        sums = log_probabilities(
            model,
            base.language_model,
            rows,
            micro_batch=order.micro_batch,
            half=base.half,
            report=lambda done: report(Progress(phase=Phase.EVALUATING, done=done, total=total)),
        )
    return Scored(log_probs=sums.tolist(), n_tokens=rows.n_supervised.tolist())


def check(order: CheckRequest, finder: Finder, report: Reporter) -> Checked:
    """Look through an owner's data with the base model's tokenizer. Raises TaskFailed."""
    return Checked(report=check_data(order, _find(order, finder, report).tokenizer, report))


def merge(order: MergeRequest, finder: Finder, report: Reporter) -> Merged:
    """Write base model and adapter as one model, and check it. Raises TaskFailed."""
    return merging.merge(order, _find(order, finder, report), report)


def _find(order: LocalOrder, finder: Finder, report: Reporter) -> BaseFiles:
    files = finder.find(
        order.base,
        order.model_path,
        order.cache,
        refresh=False,
        remote_code=isinstance(order, CheckRequest) and order.remote_code,
        remedy=_MAP if isinstance(order, CheckRequest) else _GIVE,
        report=report,
    )
    if order.fingerprint is not None:
        remedy = "give the folder of the model that the adapter was trained on with --base"
        check_same(files.fingerprint, order.fingerprint, remedy)
    return files


def _loaded(
    order: AnswerRequest | ScoreRequest, files: BaseFiles, models: Models, report: Reporter
) -> AbstractContextManager[Base]:
    quantization = order.base.quantization  # as it was held in training: what the adapter was made for
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
def _attached(base: Base, adapter: LoraFile | None) -> Iterator[Any]:
    if adapter is None:
        with base.without_adapter() as model:
            yield model
        return
    with base.adapter(adapter.lora, seed=0) as attached:
        load_adapter(attached, adapter.weights)
        yield attached.model
