"""What a person asks for on this machine: answers, and a merged model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agent.child import Ask, LocalOrder, LoraFile, Merge, Merged
from agent.train import merging
from agent.train.adapter_files import load_adapter
from agent.train.answers import answer
from agent.train.base_files import BaseFiles, Finder
from agent.train.model import Base, Models, choose_device, choose_dtype
from agent.train.source import Reporter, check_same
from agent.train.templates import check
from shared.wire.leases import Phase, Progress


def ask(ask: Ask, finder: Finder, models: Models, report: Reporter, say: Callable[[str], None]) -> list[str]:
    """Answer the questions by the base model, kept in *models*, or with the adapter on it. Raises TaskFailed."""
    files = _find(ask, finder, report)
    check(ask.template, files.tokenizer)
    device = choose_device(ask.compute)
    loaded = models.base(
        files.folder,
        files.fingerprint,
        device,
        choose_dtype(ask.compute, device),
        remote_code=False,
        on_load=lambda: report(Progress(phase=Phase.LOADING_MODEL)),
    )
    total = len(ask.questions)
    with loaded as base, _lent(base, ask.adapter) as model:
        report(Progress(phase=Phase.ANSWERING, total=total))
        return answer(
            model,
            ask,
            files.tokenizer,
            half=base.half,
            report=lambda done: report(Progress(phase=Phase.ANSWERING, done=done, total=total)),
            say=say,
        )


def merge(order: Merge, finder: Finder, report: Reporter) -> Merged:
    """Write base model and adapter as one model, and check it. Raises TaskFailed."""
    return merging.merge(order, _find(order, finder, report), report)


def _find(order: LocalOrder, finder: Finder, report: Reporter) -> BaseFiles:
    files = finder.find(
        order.base,
        order.model_path,
        order.cache,
        refresh=False,
        remote_code=False,
        remedy="give the model's folder with --base",
        report=report,
    )
    if order.fingerprint is not None:
        remedy = "give the folder of the model that the adapter was trained on with --base"
        check_same(files.fingerprint, order.fingerprint, remedy)
    return files


@contextmanager
def _lent(base: Base, adapter: LoraFile | None) -> Iterator[Any]:
    if adapter is None:
        with base.bare() as model:
            yield model
        return
    with base.lend(adapter.lora, seed=0) as lent:
        load_adapter(lent, adapter.weights)
        yield lent.model
