"""What a reader of the results must know of how the methods were trained."""

from collections.abc import Iterator, Sequence

from fedloom.comparison.planning.methods import MethodKind
from fedloom.comparison.results import MethodResult

_AMOUNT = ("rounds", "training.steps", "training.batch_size")
"""The fields that say how much a method trains."""


def remarks(results: Sequence[MethodResult]) -> Iterator[str]:
    """Where methods did not train equally: by what was chosen for them, or because they stopped early."""
    trained = [each for each in results if each.hyperparameters is not None and each.method.kind is not MethodKind.BASE]
    amounts: dict[str, list[str]] = {}
    for result in trained:
        assert result.hyperparameters is not None
        values = result.hyperparameters.values
        amount = ", ".join(f"{name} {values[name]}" for name in _AMOUNT if name in values)
        amounts.setdefault(amount, []).append(result.method.name)
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
