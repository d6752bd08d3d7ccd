"""Adapters and their base model, in one child that keeps the base loaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.local import LocalChild
from agent.orders.on_base.describe import Described
from agent.orders.on_base.model import LoraFile
from fedloom.adapters.local import LocalAdapter
from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.replies import StoredModel
from fedloom.evaluation.asking.requests import Likelihood
from fedloom.evaluation.asking.warm_base import OnChild, WarmBase
from shared.campaign.spec import BaseSection
from shared.text.plain_text import visible_line
from shared.wire.tasks.leases import FailureKind

_TRIAL = Likelihood("", "trial")
_LONGEST_NAME = 100
"""Bytes of a model's name: a file's has 255 at most."""


@contextmanager
def opened_models(
    adapters: Sequence[LocalAdapter], base: str | None, threads: int | None, on_child: OnChild = lambda _: None
) -> Iterator[list[Model]]:
    """The base model, and each adapter on it. No weights are loaded before something is asked.

    Raises EvaluationError if an adapter is known to be of another base, TaskFailed, ChildDied, NotInstalled and
    OSError.

    Args:
        adapters: as they were read.
        base: the base model's folder or hub id; None for what the adapters name.
        threads: of the CPU; None for every core.
        on_child: receives what the child does, such as a download of the base model.
    """
    section = _base_of(adapters, base)
    path = Path(base) if base is not None and Path(base).is_dir() else None
    with LocalChild(section, path, compute=ComputeSettings(threads=threads)) as child:
        warm = WarmBase(child, on_child)
        for adapter in adapters:
            _check_fingerprint(adapter, warm.described, base or section.model)
        models: list[Model] = [ChildModel(warm)]
        for name, adapter in zip(_names(adapters), adapters, strict=True):
            models.append(ChildModel(warm, name, LoraFile(weights=adapter.weights, lora=adapter.lora)))
        yield models


def check_fit(models: Sequence[StoredModel]) -> None:
    """Ask each adapter for one word, so that one of another shape ends the run now and not after the base's hour.

    The base alone is asked first: what it can reply to and an adapter on it cannot is the adapter's failure. Replies
    are stored: a run that goes on loads no model for them. Raises EvaluationError, TaskFailed, ChildDied and OSError.

    Args:
        models: the first is the base alone.
    """
    base, *adapted = models
    if adapted:
        base.ask([_TRIAL])
    for model in adapted:
        try:
            model.ask([_TRIAL])
        except TaskFailed as error:
            if error.failure.kind is not FailureKind.BASE_MODEL:
                raise
            raise EvaluationError(f"{model.facts.name}, on {model.facts.base}: {error}") from error


def _base_of(adapters: Sequence[LocalAdapter], base: str | None) -> BaseSection:
    """The base model. Raises EvaluationError if adapters are of different ones."""
    if base is not None and not base.strip():
        raise EvaluationError("the base model has no name")
    if not adapters:
        return BaseSection(model=base or "")
    first = adapters[0]
    for other in adapters[1:]:
        if _differ(first, other, is_named=base is not None):
            raise EvaluationError(
                f"{first.folder} is of {first.base.model}, and {other.folder} of {other.base.model} or of "
                "other files of it: evaluate them apart, since only models on one base are compared item by item"
            )
    # in float32 on a CPU, whatever each was trained in: so adapters of several campaigns are compared on one base
    exact = first.base.model_copy(update={"cpu_dtype": "float32"})
    if base is None or Path(base).is_dir():
        return exact
    return exact.model_copy(update={"model": base, "revision": None})


def _differ(first: LocalAdapter, other: LocalAdapter, *, is_named: bool) -> bool:
    """Whether two adapters are of different bases. is_named: whether a person names the base; then only files count,
    as each machine may have it elsewhere."""
    if first.base.quantization != other.base.quantization:
        return True
    if first.fingerprint is not None and other.fingerprint is not None:
        return first.fingerprint != other.fingerprint
    return not is_named and first.base != other.base.model_copy(update={"cpu_dtype": first.base.cpu_dtype})


def _check_fingerprint(adapter: LocalAdapter, described: Described, base: str) -> None:
    if adapter.fingerprint is None:  # its shapes are checked when it is asked
        return
    if parts := described.fingerprint.differences(adapter.fingerprint):
        raise EvaluationError(
            f"{adapter.folder} was trained on {adapter.base.model}, and {base} differs from that in its "
            f"{', '.join(parts)}: give the folder of the model that it was trained on with --base"
        )


def _names(adapters: Sequence[LocalAdapter]) -> list[str]:
    """A name for each adapter: its folder's, which is in the names of files, with a number where two are equal."""
    names: list[str] = []
    for adapter in adapters:
        folder = visible_line(adapter.folder.name.encode(errors="replace").decode())
        short = folder.encode()[:_LONGEST_NAME].decode(errors="ignore")
        name, number = short, 1
        while name in (*names, "base"):
            number += 1
            name = f"{short}-{number}"
        names.append(name)
    return names
