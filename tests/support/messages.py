"""Bodies of messages, with what a test does not care about filled in."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.benchmarks import benchmarks
from shared.campaign.spec import TrainingSection
from shared.digest import sha256_hex


def evaluated(loss: float, *, n_rows: int = 5, n_tokens: int = 100, **own: float) -> dict[str, Any]:
    """The result of an evaluation. own: the kind's other held-out metrics."""
    metrics = {"held_out_loss": loss, "held_out_rows": n_rows, "held_out_tokens": n_tokens, **own}
    return {"kind": "evaluate", "metrics": metrics}


def training_metrics(**changes: float | None) -> dict[str, float]:
    """The metrics of a training. Those that are None are not reported."""
    usual = {
        "steps": 5,
        "train_loss_first": 2.0,
        "train_loss_last": 1.0,
        "train_loss_mean": 1.5,
        "tokens": 100,
        "seconds": 1.0,
        "tokens_per_s": 100.0,
        "peak_memory_bytes": 0,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def benchmarked(names: Sequence[str], values: Mapping[str, float | str], items: str = "public") -> dict[str, Any]:
    """The result of a benchmark task.

    Args:
        names: the benchmarks that were asked for.
        values: of each by its name, which all of its metrics get; a text is why there is none.
        items: a word for the items.
    """
    scores = []
    for name in names:
        value = values[name]
        score = {"name": name, "items_sha256": sha256_hex(items.encode()), "n": 0, "n_asked": 100}
        if isinstance(value, str):
            scores.append(score | {"not_run": value})
        else:
            every = {metric.name: value for metric in benchmarks()[name].metrics}
            scores.append(score | {"n": 98, "values": every})
    return {"kind": "benchmark", "scores": scores}


def with_training(fields: dict[str, Any], **training: Any) -> dict[str, Any]:
    """A job's fields, with those of the campaign's training section moved into ``training``.

    training: the section's fields unless *fields* has them. ``steps`` and ``learning_rate`` are the job's too.
    """
    section = training | {name: fields[name] for name in TrainingSection.model_fields if name in fields}
    if section.get("epochs") is not None:
        section.pop("steps", None)
    rest = {name: value for name, value in fields.items() if name not in section}
    return rest | {"training": TrainingSection(**section)}
