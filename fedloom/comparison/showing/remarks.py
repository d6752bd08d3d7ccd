"""What a reader of the results must know of how the methods were trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedloom.comparison.planning.methods import MethodKind
from fedloom.comparison.results import MethodResult

AMOUNT = ("rounds", "training.steps", "training.batch_size", "selection.clients_per_round")
"""The fields that say how much a method trains. Baselines have the campaign's own clients a round."""


def remarks(results: Sequence[MethodResult], own: Mapping[str, Any]) -> Iterator[str]:
    """Where methods did not train equally: by what was chosen for them, or because they stopped early.

    Args:
        results: of all methods.
        own: the campaign's values of AMOUNT, of a method for which none was chosen.
    """
    trained = [each for each in results if each.hyperparameters is not None and each.method.kind is not MethodKind.BASE]
    values = {each.method.name: each.hyperparameters.values for each in trained if each.hyperparameters is not None}
    chosen = [name for name in AMOUNT if any(name in each for each in values.values())]
    amounts: dict[str, list[str]] = {}
    for method, each in values.items():
        amount = ", ".join(f"{name} {each.get(name, own[name])}" for name in chosen)
        amounts.setdefault(amount, []).append(method)
    if len(amounts) > 1:
        told = "; ".join(f"{amount}: {', '.join(names)}" for amount, names in amounts.items())
        yield f"not all methods trained equally much, by what was chosen for them: {told}"
    for result in trained:
        stopped = [
            f"seed {seed} after round {each.rounds_closed} of {each.rounds}, adapter {each.adapter} scored"
            for seed, each in result.training.items()
            if each.rounds_closed < each.rounds
        ]
        if stopped:
            yield f"{result.method.name} stopped early: {'; '.join(stopped)}"
    earlier = [
        f"{result.method.name}, seed {seed}: adapter {each.adapter} of {each.rounds}"
        for result in trained
        for seed, each in result.training.items()
        if each.adapter < each.rounds_closed == each.rounds
    ]
    if earlier:
        yield f"the best adapter, and not the last one, is scored of {'; '.join(earlier)}"
