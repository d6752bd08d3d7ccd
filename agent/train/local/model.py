"""The base model of an order from a person at this machine: found, checked, loaded, with the adapter on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.orders.on_base.model import LocalOrder, LoraFile
from agent.train.base.adapter_files import load_adapter
from agent.train.base.device import choose_device, choose_dtype
from agent.train.base.model import Base
from agent.train.base.on_disk.finder import BaseFiles
from agent.train.base.on_disk.fingerprint import check_fingerprint
from agent.train.data.tokens import TokenRows
from agent.train.order_context import OrderContext
from agent.train.suitability.verdicts import ensure_suitable
from shared.wire.tasks.leases import Phase, Progress

_USE_OPTION = "give the model's folder with --base"


def find_model(
    order: LocalOrder[Any], context: OrderContext, *, remote_code: bool = False, remedy: str = _USE_OPTION
) -> BaseFiles:
    """Return the files and the tokenizer of the order's base model.

    Raises TaskFailed: base-model if it cannot be found, fingerprint if it is another one.

    Args:
        order: names the base model.
        context: lends the finder, and receives the progress of a download.
        remote_code: whether code that comes with the model may run.
        remedy: how a person names the model's folder; it ends error messages.
    """
    model = order.model
    if model.is_of_campaign:
        remedy = f"map {model.base.model} to its folder under [models] in agent.toml"
    files = context.warm.finder.find(
        model.base,
        model.path,
        model.cache,
        refresh=False,
        remote_code=remote_code or model.remote_code,
        remedy=remedy,
        report=context.report,
        may_be_path=not model.is_of_campaign,
    )
    if model.fingerprint is not None:
        instead = "give the folder of the model that the adapter was trained on with --base"
        check_fingerprint(files.fingerprint, model.fingerprint, remedy if model.is_of_campaign else instead)
    return files


@contextmanager
def loaded_model(
    order: LocalOrder[Any],
    context: OrderContext,
    files: BaseFiles,
    adapter: LoraFile | None,
    scored: TokenRows | None = None,
) -> Iterator[tuple[Base, Any]]:
    """Lend the loaded base, and its model: the bare one, or a PEFT model with the adapter. Raises TaskFailed.

    Args:
        order: says what may compute, how the base is quantised, and its precision on a CPU: float32 if a campaign left
            that to each agent.
        context: keeps the base in memory for the next order.
        files: the base model's.
        adapter: the adapter on it; None lends the bare base model.
        scored: the rows whose likelihood is wanted, so that the model gets the head that its loss needs; None if there
            are none.
    """
    section = order.model.base.decided(None)  # as in training: the adapter was trained on this base
    quantization = section.quantization
    device = choose_device(order.compute, quantization)
    with context.warm.models.base(
        files.folder,
        files.fingerprint,
        device,
        choose_dtype(order.compute, device, section),
        quantization=quantization,
        remote_code=order.model.remote_code,
        on_load=lambda: context.report(Progress(phase=Phase.LOADING_MODEL)),
    ) as base:
        if scored is not None and len(scored) > 0:
            lora = adapter.lora if adapter is not None else None
            ensure_suitable(
                base,
                files.fingerprint,
                lora,
                scored,
                use=["score"],
                quantization=quantization,
                micro_batch=len(scored),
                cache=order.model.cache,
                report=context.report,
            )
        if adapter is None:
            with base.without_adapter() as model:
                yield base, model
            return
        with base.adapter(adapter.lora, seed=0) as attached:
            load_adapter(attached, adapter.weights)
            yield base, attached.model
