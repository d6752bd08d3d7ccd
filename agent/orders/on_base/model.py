"""What the orders of a person at this machine share: the base model, and the adapter on it."""

from pathlib import Path
from typing import Generic

from agent.orders.order import AnswerT, Order
from agent.orders.protocol import Message
from shared.campaign.spec import BaseSection, LoraSection
from shared.wire.tasks.results import Fingerprint

MICRO_BATCH = 8
"""How many questions or rows go through the model at once by default."""


class LocalModel(Message):
    """A base model as this machine has it.

    Args:
        base: the base model as a campaign names it.
        path: its folder; None uses ``base``, and fetches the model from the hub if need be.
        fingerprint: what the base model must match; None if unknown.
        cache: where digests of its files are cached.
        remote_code: whether code that comes with the model may run.
        is_of_campaign: whether a campaign names it: its name is then never a path, and error messages speak of
            ``[models]`` and not of an option.
    """

    base: BaseSection
    path: Path | None
    fingerprint: Fingerprint | None
    cache: Path
    remote_code: bool = False
    is_of_campaign: bool = False


class LocalOrder(Order[AnswerT], Generic[AnswerT]):
    """An order from a person at this machine, about one base model."""

    model: LocalModel


class LoraFile(Message):
    """A LoRA adapter: the safetensors file of its weights, and its shape."""

    weights: Path
    lora: LoraSection
