"""What a campaign does with rows, in words: each setting under its own title, what others named in quotes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.text.plain_text import quoted, quoted_values

if TYPE_CHECKING:
    from shared.campaign.spec import CampaignSpec

_TARGETS_SHOWN = 10


def training_in_words(spec: "CampaignSpec") -> Iterator[tuple[str, str]]:
    """Kind, algorithm and settings of the training: titles, each with a few words."""
    yield "kind", quoted(spec.kind)
    if spec.kind_params:
        yield "of the kind", quoted_values(spec.kind_params)
    yield "algorithm", quoted(spec.algorithm.name)
    if spec.algorithm.params:
        yield "parameters", quoted_values(spec.algorithm.params)
    yield "adapter", _adapter(spec)
    yield "targets", _targets(spec)
    yield "rows", f"steps of {spec.training.batch_size:,} rows, each cut at {spec.training.max_length:,} tokens"
    yield "rate", _rate(spec)
    yield "optimizer", _optimizer(spec)
    yield "seed", str(spec.training.seed)
    yield "evaluation", _evaluation(spec)
    if spec.evaluation.benchmarks:
        yield "benchmarks", _benchmarks(spec)


def _adapter(spec: "CampaignSpec") -> str:
    lora = spec.lora
    trained = "; only B is trained, A stays frozen" if lora.freeze_a else ""
    return f"rank {lora.rank}, alpha {lora.alpha:g} (scale {lora.scale:g}), dropout {lora.dropout:g}{trained}"


def _targets(spec: "CampaignSpec") -> str:
    targets = spec.lora.target_modules
    if isinstance(targets, str):
        return quoted(targets)
    more = f", and {len(targets) - _TARGETS_SHOWN:,} more" if len(targets) > _TARGETS_SHOWN else ""
    return ", ".join(map(quoted, targets[:_TARGETS_SHOWN])) + more


def _rate(spec: "CampaignSpec") -> str:
    training = spec.training
    lowest = training.min_learning_rate
    over_rounds = ", the same in all rounds" if lowest is None else f", falling to {lowest:g} by the last round"
    n = training.warmup_steps
    warm_up = f", after {n:,} step{'' if n == 1 else 's'} of warm-up" if n else ""
    return f"{training.learning_rate:g}{over_rounds}{warm_up}"


def _optimizer(spec: "CampaignSpec") -> str:
    training = spec.training
    norm = training.max_grad_norm
    clip = f"gradients clipped to norm {norm:g}" if norm is not None else "gradients NOT CLIPPED"
    return f"{training.optimizer}, weight decay {training.weight_decay:g}, {clip}"


def _benchmarks(spec: "CampaignSpec") -> str:
    evaluation = spec.evaluation
    n = evaluation.tasks_every or evaluation.every
    often = "each round" if n == 1 else f"every {n:,} rounds"
    names = evaluation.benchmarks
    shown = ", ".join(names[:_TARGETS_SHOWN])
    more = f", and {len(names) - _TARGETS_SHOWN:,} more" if len(names) > _TARGETS_SHOWN else ""
    limit = f", {evaluation.limit:,} items of each at most" if evaluation.limit is not None else ""
    return f"adapter 0, that of {often} and the last, on public data: {shown}{more}{limit}"


def _evaluation(spec: "CampaignSpec") -> str:
    n = spec.evaluation.every
    if n == 0:
        return "none on your held-out rows"
    often = "each round" if n == 1 else f"every {n:,} rounds"
    return f"adapter 0, that of {often} and the last, on your held-out rows"
